//! Operands of every width, and what a kernel reads of them.

use std::collections::BTreeSet;

use noisyquant_kernels::ready::Ready;
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::spec;

/// SplitMix64: enough randomness for operands.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Uniform in `-1.0..1.0`.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// `{1, T−1, T, T+1, 2T+1}`; zero is tested on its own.
pub fn around(t: usize) -> BTreeSet<usize> {
    [1, t - 1, t, t + 1, 2 * t + 1]
        .into_iter()
        .filter(|v| *v > 0)
        .collect()
}

/// Ways to fill operands, from harmless to what saturates a kernel that is not exact.
pub const FILLS: [&str; 7] = [
    "random",
    "zero codes",
    "zero, min", // the extreme of codes stored as signed bytes
    "max, max",
    "max, min",
    "max, both",
    "sparse",
];

/// The largest code, and the largest magnitude of a weight: 8, 32 or 128 for weights from −8, −32 or −128 on.
pub type Width = (u8, u8);

/// Fills operands of a width.
pub fn fill(kind: &str, (max_code, max_weight): Width, codes: &mut [u8], weights: &mut [i8]) {
    let mut rng = Rng(codes.len() as u64 ^ 7);
    for code in codes.iter_mut() {
        *code = match kind {
            "random" => rng.below(u64::from(max_code) + 1) as u8,
            "zero codes" | "zero, min" => 0,
            "sparse" if rng.below(5) > 0 => 0,
            _ => max_code,
        };
    }
    let least = max_weight.wrapping_neg() as i8;
    // 8, 32 and 128 are the magnitudes of the least weights of their bits, 1 is not.
    let least_of_bits = max_weight > 1 && max_weight.is_power_of_two();
    let most = (max_weight - u8::from(least_of_bits)) as i8;
    let levels = (i64::from(most) - i64::from(least) + 1) as u64;
    for (i, weight) in weights.iter_mut().enumerate() {
        *weight = match kind {
            "random" => (rng.below(levels) as i64 + i64::from(least)) as i8,
            "max, min" | "zero, min" => least,
            "max, both" if i % 2 == 1 => least,
            "sparse" if rng.below(3) == 0 => least,
            _ => most,
        };
    }
}

/// Operand widths for which the kernel claims to be exact: those of quantizers, and weights from −128 on
/// beside the codes of every number of bits.
pub fn widths(kernel: &MicroKernel) -> Vec<Width> {
    let bits = spec::MIN_BITS..=spec::MAX_BITS;
    let weights = bits.clone().map(|b| spec::max_weight(b).unsigned_abs());
    // And the least weights that dense panels hold.
    let weights: Vec<u8> = weights.chain([8, 32, 128]).collect();
    let pairs = bits.flat_map(|a| weights.iter().map(move |w| (spec::max_code(a), *w)));
    pairs.filter(|(u, w)| kernel.is_exact_for(*u, *w)).collect()
}

/// The width with the largest products, in which most goes wrong.
pub fn widest(kernel: &MicroKernel) -> Width {
    let product = |(u, w): &Width| u32::from(*u) * u32::from(*w);
    widths(kernel).into_iter().max_by_key(product).unwrap()
}

/// A row of codes in the form that the kernel reads, and after them some that it must not care for.
pub fn store_codes(kernel: Ready<MicroKernel>, row: &[u8], to: &mut [u8]) {
    let offset = kernel.code_offset;
    let mut stored: Vec<u8> = row.iter().map(|u| u.wrapping_sub(offset)).collect();
    let last = *stored.last().expect("a code");
    stored.resize(to.len() / kernel.code_bytes(), last);
    if kernel.code_bytes() == 2 {
        kernel.widen(&stored, to);
    } else {
        to.copy_from_slice(&stored);
    }
}
