//! One linear layer, in f32 or quantized.

use std::sync::Arc;

use noisyquant::{Executor, QuantLinear, Scratch};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

/// A layer `y = x · Wᵀ + b`; `x` and `y` are row-major f32, one row per token.
#[allow(
    clippy::large_enum_variant,
    reason = "a model has tens of layers, not millions"
)]
#[non_exhaustive]
pub enum Linear {
    /// In f32.
    Float(FloatLinear),
    /// Through integer kernels.
    Quantized(QuantLinear),
}

impl Linear {
    /// Numbers in a row of `x`.
    pub fn in_features(&self) -> usize {
        match self {
            Self::Float(layer) => layer.in_features,
            Self::Quantized(layer) => layer.in_features(),
        }
    }

    /// Numbers in a row of `y`.
    pub fn out_features(&self) -> usize {
        match self {
            Self::Float(layer) => layer.bias.len(),
            Self::Quantized(layer) => layer.out_features(),
        }
    }

    /// Bytes of scratch that a call of up to `rows` rows on `threads` threads needs; a float layer
    /// needs none.
    pub(crate) fn scratch_bytes(&self, rows: usize, threads: usize) -> usize {
        match self {
            Self::Float(_) => 0,
            Self::Quantized(layer) => layer.scratch_bytes(rows, threads),
        }
    }

    /// Write all of `y`, whole rows of `out_features`, from as many rows of `x`. A float layer runs on
    /// rayon's current pool whatever the executor.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), noisyquant::Error> {
        match self {
            Self::Float(layer) => {
                layer.forward(x, y);
                Ok(())
            }
            Self::Quantized(layer) => layer.forward_into(x, y, scratch, executor),
        }
    }
}

/// A linear layer in f32, its weights packed once for the f32 kernel; a clone shares them.
#[derive(Clone)]
pub struct FloatLinear {
    weight: Arc<[f32]>,
    bias: Arc<[f32]>,
    in_features: usize,
    packed: Arc<PackedBMatrix<f32>>,
}

impl FloatLinear {
    /// A layer of these weights, row-major `[bias.len(), in_features]`.
    pub(crate) fn new(weight: Vec<f32>, bias: Vec<f32>, in_features: usize) -> Self {
        let view = NdTensorView::from_data([bias.len(), in_features], weight.as_slice());
        let packed = GemmExecutor::<f32>::new().prepack_b(view.transposed());
        Self {
            weight: weight.into(),
            bias: bias.into(),
            in_features,
            packed: Arc::new(packed),
        }
    }

    /// Numbers in a row of the input.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// The weights, row-major `[out, in]`.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// One number per output feature.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Write all of `y` from as many rows of `x`.
    pub(crate) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let rows = x.len() / self.in_features;
        let x = NdTensorView::from_data([rows, self.in_features], x);
        let options = GemmOptions {
            bias: Some(BiasVector::Row(&self.bias)),
            ..GemmOptions::default()
        };
        GemmExecutor::new()
            .gemm(
                y,
                GemmInputA::Unpacked(x),
                GemmInputB::Packed(&self.packed),
                options,
            )
            .expect("the caller's rows fit the layer, and the weights were packed for this kernel");
    }
}

/// Name of the f32 kernel that float layers run on this CPU.
pub fn float_kernel() -> String {
    GemmExecutor::<f32>::new().kernel_name().to_string()
}
