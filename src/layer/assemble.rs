//! From the numbers of a layer to its pass: offsets (eq. 2), corrections (eq. 6) and output constants
//! (eq. 8).

use alloc::sync::Arc;
use core::array;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::output::CodeForm;
use noisyquant_kernels::spec;

use super::affine::Affine;
use super::numbers::Numbers;
use crate::check;
use crate::error::Error;
use crate::run::executor::Executor;
use crate::run::memory::{Aligned, aligned};
use crate::run::panels::PackedWeights;
use crate::run::pass::{Coder, Pass, Planes, TwinCoders};
use crate::run::select::Kernels;

/// Output channels of a task.
const TOGETHER: usize = 32;

/// Output channels whose sums run side by side: enough to hide the latency of an addition in f64.
const ABREAST: usize = 8;

/// The pass of checked `numbers`, whose codes are packed in `weights`, on `kernels`.
///
/// # Errors
///
/// [`Error::CorrectionOverflow`], or [`Error::Value`] for numbers whose products are not finite.
pub(crate) fn pass(
    numbers: &Numbers,
    kernels: Kernels,
    weights: Arc<PackedWeights>,
    executor: Executor<'_>,
) -> Result<Pass, Error> {
    let (n, k) = (numbers.out_features(), numbers.in_features());
    let Affine {
        scale: s_x,
        zero_point,
        ..
    } = numbers.params.affine;
    let mut inv = aligned(padded_k(k));
    let mut t = aligned(padded_k(k));
    for (inv, r) in inv.iter_mut().zip(numbers.channel_scale()) {
        *inv = spec::code_multiplier(*r, s_x);
    }
    for (t, noise) in t.iter_mut().zip(numbers.noise()) {
        *t = spec::code_offset(*noise, s_x, zero_point);
    }
    check::finite("channel scale / activation scale", &inv)?;

    let planes = planes(&numbers.params.affine, inv, t, k, kernels.micro.code_offset);
    let (offset, t) = match &planes {
        Planes::One(coder) => (1, &coder.t),
        Planes::Merged(twins) => (1, &twins.fine.t),
        Planes::Two(twins) => (1 + (1i32 << twins.twin.shift), &twins.fine.t),
    };
    let correction = Correction {
        numbers,
        t: &t[..k],
        offset: offset * i32::from(kernels.micro.code_offset),
    };
    let whole = n.next_multiple_of(kernels.micro.tile.nr);
    let (mut comp, mut scale, mut bias) = (aligned(whole), aligned(whole), aligned(whole));
    // Of several channels that are refused, the first is reported, whichever is seen first.
    let refused = AtomicUsize::new(n);
    let chunks = (comp[..n].chunks_mut(TOGETHER))
        .zip(scale[..n].chunks_mut(TOGETHER))
        .zip(bias[..n].chunks_mut(TOGETHER));
    executor.for_each(
        n.div_ceil(TOGETHER),
        chunks.enumerate(),
        |(chunk, ((comp, scale), bias))| {
            let first = chunk * TOGETHER;
            let sums = correction.offset_sums(first..first + comp.len());
            let constants = comp.iter_mut().zip(scale).zip(bias).zip(sums);
            for (i, (((comp, scale), bias), sum)) in constants.enumerate() {
                let channel = first + i;
                match correction.of(channel, sum) {
                    Ok(constants) => (*comp, *scale, *bias) = constants,
                    Err(_) => _ = refused.fetch_min(channel, Ordering::Relaxed),
                }
            }
        },
    );
    let refused = refused.into_inner();
    if refused < n {
        let [sum] = correction.abreast(refused);
        correction.of(refused, sum)?;
    }
    Ok(Pass {
        kernels,
        weights,
        k,
        n,
        planes,
        comp,
        scale,
        bias,
    })
}

/// How rows become codes that a kernel of this offset reads.
fn planes(affine: &Affine, inv: Aligned<f32>, t: Aligned<f32>, k: usize, offset: u8) -> Planes {
    let Some(twin) = affine.twin() else {
        let max = spec::max_code(affine.bits);
        let form = CodeForm { max, offset };
        return Planes::One(Coder { inv, t, form });
    };
    let merges = twin.max_code() <= u8::MAX.into();
    let map = |values: &[f32], f: &dyn Fn(f32) -> f32| {
        let mut mapped = aligned(values.len());
        for (to, from) in mapped[..k].iter_mut().zip(values) {
            *to = f(*from);
        }
        mapped
    };
    let coarse = Coder {
        inv: map(&inv, &|v| twin.coarse_multiplier(v)),
        t: map(&t, &|v| twin.coarse_offset(v)),
        form: CodeForm {
            max: twin.max_coarse(),
            // Of a merged code, one part carries the kernel's offset.
            offset: if merges { 0 } else { offset },
        },
    };
    let max = twin.max_fine();
    let form = CodeForm { max, offset };
    let fine = Coder { inv, t, form };
    let coders = Arc::new(TwinCoders { fine, coarse, twin });
    match merges {
        true => Planes::Merged(coders),
        false => Planes::Two(coders),
    }
}

/// What the constants of an output channel are computed from.
struct Correction<'a> {
    numbers: &'a Numbers,
    t: &'a [f32],
    /// What the kernel subtracts from each code, weighed by the planes that it is subtracted in.
    offset: i32,
}

impl Correction<'_> {
    /// The offset sums of some output channels.
    fn offset_sums(&self, channels: Range<usize>) -> [f64; TOGETHER] {
        let mut sums = [0.0; TOGETHER];
        let (whole, rest) = sums[..channels.len()].as_chunks_mut::<ABREAST>();
        for (group, sums) in whole.iter_mut().enumerate() {
            *sums = self.abreast(channels.start + group * ABREAST);
        }
        let first = channels.end - rest.len();
        for (i, sum) in rest.iter_mut().enumerate() {
            [*sum] = self.abreast(first + i);
        }
        sums
    }

    /// Those of `N` channels from `first` on.
    fn abreast<const N: usize>(&self, first: usize) -> [f64; N] {
        spec::offset_sums(array::from_fn(|i| self.weights(first + i)), self.t)
    }

    fn weights(&self, channel: usize) -> &[i8] {
        let k = self.t.len();
        &self.numbers.codes[channel * k..][..k]
    }

    /// Correction, scale and bias of an output channel.
    fn of(&self, channel: usize, offset_sum: f64) -> Result<(i32, f32, f32), Error> {
        let (params, weights) = (&self.numbers.params, self.weights(channel));
        let correction = spec::correction(weights, offset_sum, params.affine.max_code());
        let correction = correction.ok_or_else(|| Error::CorrectionOverflow {
            channel,
            largest: self.t.iter().fold(0f32, |m, t| m.max(t.abs())),
        })?;
        // Eq. 6a: the kernel sums Σ (u − o) · wq, of each plane, so o · Σ wq makes up for the offset. Sums
        // wrap in i32 on every ISA, and what they end in, acc + comp, fits (eq. 7).
        let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
        let comp = (correction.integer).wrapping_add(self.offset.wrapping_mul(sum));
        let scale = spec::output_scale(params.affine.scale, params.weight_scales[channel]);
        let bias = spec::corrected_bias(params.bias[channel], scale, correction.remainder);
        if scale.is_finite() && bias.is_finite() {
            return Ok((comp, scale, bias));
        }
        Err(Error::Value {
            what: "output scale (activation scale times weight scale) or bias",
            expected: "finite in f32",
            got: scale,
            index: channel,
        })
    }
}
