//! Multi-head attention of one image in f32.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use crate::ops;

/// Sizes of one image's attention.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
}

impl Heads {
    /// Numbers of `scores` and `head` in [`Heads::attend`].
    pub(crate) fn buffer_sizes(self) -> (usize, usize) {
        (
            self.tokens * self.tokens,
            self.tokens * (self.width / self.heads),
        )
    }

    /// `mixed[tokens, width] = softmax(q · kᵀ / √d) · v` head by head, with `qkv[tokens, 3 ·
    /// width]` holding all heads of q, then all of k, then all of v.
    pub(crate) fn attend(
        self,
        qkv: &[f32],
        mixed: &mut [f32],
        scores: &mut [f32],
        head: &mut [f32],
    ) {
        let features = self.width / self.heads;
        let gemm = GemmExecutor::<f32>::new();
        let scaled = GemmOptions {
            alpha: 1.0 / (features as f32).sqrt(),
            ..GemmOptions::default()
        };
        for at in (0..self.width).step_by(features) {
            let part = |offset: usize| {
                NdTensorView::from_slice_with_strides(
                    [self.tokens, features],
                    &qkv[offset..],
                    [3 * self.width, 1],
                )
                .expect("the last row ends where qkv ends or before")
            };
            let (q, k, v) = (part(at), part(self.width + at), part(2 * self.width + at));
            gemm.gemm(
                scores,
                GemmInputA::Unpacked(q),
                GemmInputB::Unpacked(k.transposed()),
                scaled.clone(),
            )
            .expect("tokens × features by features × tokens");
            ops::softmax(scores, self.tokens);
            let probabilities = NdTensorView::from_data([self.tokens, self.tokens], &*scores);
            let plain = GemmOptions::default();
            gemm.gemm(
                head,
                GemmInputA::Unpacked(probabilities),
                GemmInputB::Unpacked(v),
                plain,
            )
            .expect("tokens × tokens by tokens × features");
            for (to, from) in mixed
                .chunks_exact_mut(self.width)
                .zip(head.chunks_exact(features))
            {
                to[at..at + features].copy_from_slice(from);
            }
        }
    }
}
