//! Norms of rows on vectors: the sequence of [`spec::normalize`](crate::spec::normalize), written once for
//! vectors of any width.

use super::Lanes;
use crate::leaf::NormArgs;
use crate::spec::norm::{NORM_LANES, NormKind, add_square, scale};

/// Most vectors that the sums are in: those of the narrowest.
const MOST: usize = 16;

/// Lanes of the widest vectors.
const WIDEST: usize = 16;

/// The last numbers of a row, too few for a vector. (Not one by one: qemu takes 16 bytes for the operand of a
/// fused multiply-add on one number, which may be the last of a page.)
struct Buffer([f32; WIDEST]);

impl Buffer {
    /// # Safety
    ///
    /// `count` numbers from `from` on are readable; fewer than a vector has lanes.
    #[inline(always)]
    unsafe fn of(from: *const f32, count: usize) -> Buffer {
        let mut buffer = Buffer([0.0; WIDEST]);
        // SAFETY: the caller promises the numbers, and the buffer has room for a vector.
        unsafe { from.copy_to_nonoverlapping(buffer.0.as_mut_ptr(), count) };
        buffer
    }
}

/// Norms of all rows (eq. 40).
///
/// # Safety
///
/// The CPU has the instruction set of the vectors; `args` keeps the promises of [`NormArgs`].
#[inline(always)]
pub(crate) unsafe fn normalize<V: Lanes>(args: &NormArgs) {
    let (k, width) = (args.k, args.k as f32);
    let whole = k - k % V::COUNT;
    for row in 0..args.m {
        // SAFETY: row and columns exist; the caller has the instruction set.
        unsafe {
            let x = args.x.add(row * args.x_stride);
            let y = args.y.add(row * args.y_stride);
            let (weight, bias) = (args.weight, args.bias);
            let mean = match args.kind {
                NormKind::Layer => lane_sum::<V, false>(x, k, 0.0) / width,
                NormKind::Rms => 0.0,
            };
            let scale = scale(lane_sum::<V, true>(x, k, mean), width, args.eps);
            let (means, scales) = (V::splat(mean), V::splat(scale));
            for i in (0..whole).step_by(V::COUNT) {
                let scaled = V::load(x.add(i)).sub(means).mul(scales);
                let normal = scaled.fma(V::load(weight.add(i)), V::load(bias.add(i)));
                normal.store(y.add(i));
            }
            if whole < k {
                let [x, weight, bias] =
                    [x, weight, bias].map(|from| Buffer::of(from.add(whole), k - whole));
                let scaled = V::load(x.0.as_ptr()).sub(means).mul(scales);
                let normal = scaled.fma(V::load(weight.0.as_ptr()), V::load(bias.0.as_ptr()));
                let mut last = Buffer([0.0; WIDEST]);
                normal.store(last.0.as_mut_ptr());
                (y.add(whole)).copy_from_nonoverlapping(last.0.as_ptr(), k - whole);
            }
        }
    }
}

/// The sum of `k` numbers, or of their squared distances from `mean` if `SQUARED`.
///
/// # Safety
///
/// The CPU has the instruction set of the vectors; the numbers are readable.
#[inline(always)]
unsafe fn lane_sum<V: Lanes, const SQUARED: bool>(x: *const f32, k: usize, mean: f32) -> f32 {
    const { assert!(NORM_LANES / V::COUNT <= MOST && V::COUNT <= WIDEST) };
    let count = NORM_LANES / V::COUNT;
    let (chunks, whole) = (k - k % NORM_LANES, k - k % V::COUNT);
    // SAFETY: the caller has the instruction set, and the numbers.
    unsafe {
        // The compiler drops those that are not used.
        let mut sums = [V::splat(0.0); MOST];
        let means = V::splat(mean);
        for start in (0..chunks).step_by(NORM_LANES) {
            for (at, sum) in sums[..count].iter_mut().enumerate() {
                let x = V::load(x.add(start + at * V::COUNT));
                *sum = gathered::<V, SQUARED>(*sum, x, means);
            }
        }
        for (at, sum) in sums[..count].iter_mut().enumerate() {
            let i = chunks + at * V::COUNT;
            if i < whole {
                *sum = gathered::<V, SQUARED>(*sum, V::load(x.add(i)), means);
            }
        }
        let mut lanes = [0.0; NORM_LANES];
        if whole < k {
            for (at, sum) in sums[..count].iter().enumerate() {
                sum.store(lanes[at * V::COUNT..].as_mut_ptr());
            }
            for i in whole..k {
                let (sum, x) = (&mut lanes[i % NORM_LANES], *x.add(i));
                *sum = match SQUARED {
                    true => add_square(*sum, x, mean),
                    false => *sum + x,
                };
            }
            for (at, sum) in sums[..count].iter_mut().enumerate() {
                *sum = V::load(lanes[at * V::COUNT..].as_ptr());
            }
        }
        let mut half = count / 2;
        while half > 0 {
            for at in 0..half {
                sums[at] = sums[at].add(sums[at + half]);
            }
            half /= 2;
        }
        sums[0].store(lanes.as_mut_ptr());
        let mut half = V::COUNT / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }
}

/// # Safety
///
/// The CPU has the instruction set of the vectors.
#[inline(always)]
unsafe fn gathered<V: Lanes, const SQUARED: bool>(sum: V, x: V, means: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        if !SQUARED {
            return sum.add(x);
        }
        let distance = x.sub(means);
        distance.fma(distance, sum)
    }
}
