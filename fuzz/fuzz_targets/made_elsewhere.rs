//! Differential: layers of numbers that another tool found, or nonsense, on an instruction set of this CPU
//! against the scalar rows, bit for bit.
//!
//! The input chooses shape, bits, zero point, what else there is, and a seed that fills it all, some of it
//! special floats. Numbers are refused on both sets or on neither, but for −128, for which plain NEON has no
//! kernel.

#![no_main]

mod numbers;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use noisyquant::{Error, Isa, Numbers, QuantLinear};
use numbers::Rng;

#[derive(Arbitrary, Debug)]
struct Case {
    isa: u8,
    m: u8,
    k: u8,
    n: u8,
    weight_bits: u8,
    activation_bits: u8,
    zero_point: f32,
    scale: f32,
    given: u8,
    twin_shift: u8,
    specials: u8,
    exponents: [i8; 3],
    codes: Vec<i8>,
    seed: u64,
}

impl Case {
    fn numbers(&self) -> Numbers {
        let (k, n) = (usize::from(self.k % 150), usize::from(self.n % 70));
        let mut rng = Rng(self.seed);
        let codes = self.codes.iter().copied().chain([0]).cycle();
        let scales = rng.inputs(n, self.specials, self.exponents[0]);
        let scales = scales.iter().map(|scale| scale.abs()).collect();
        let mut numbers = Numbers::new(
            codes.take(n * k).collect(),
            scales,
            self.scale,
            self.zero_point,
        )
        .with_weight_bits(u32::from(self.weight_bits % 10))
        .with_activation_bits(u32::from(self.activation_bits % 10));
        if self.given & 1 != 0 {
            numbers = numbers.with_bias(rng.inputs(n, self.specials, self.exponents[1]));
        }
        if self.given & 2 != 0 {
            numbers = numbers.with_noise(rng.inputs(k, self.specials, self.exponents[2]));
        }
        if self.given & 4 != 0 {
            let scale = rng.inputs(k, self.specials, self.exponents[2]);
            numbers = numbers.with_channel_scale(scale.iter().map(|r| r.abs()).collect());
        }
        if self.given & 8 != 0 {
            numbers = numbers.with_twin_shift(self.twin_shift.into());
        }
        numbers
    }
}

fuzz_target!(|case: Case| {
    let isas: Vec<Isa> = Isa::available().collect();
    let isa = isas[usize::from(case.isa) % isas.len()];
    let numbers = case.numbers();
    let on = |isa| QuantLinear::from_numbers(numbers.clone(), Some(isa));
    let (scalar, simd) = match (on(Isa::Scalar), on(isa)) {
        (Ok(scalar), Ok(simd)) => (scalar, simd),
        (Ok(_), Err(Error::NotExact { isa: Isa::Neon, .. })) => return,
        (Err(scalar), Err(simd)) => return assert_eq!(format!("{scalar}"), format!("{simd}")),
        (scalar, simd) => panic!("{isa}: {scalar:?} and {simd:?}"),
    };
    assert_eq!(simd.numbers(), numbers, "{isa}");
    let rows = usize::from(case.m % 30);
    let x = Rng(case.seed ^ 1).inputs(
        rows * numbers.in_features(),
        case.specials,
        case.exponents[2],
    );
    let bits = |layer: &QuantLinear| -> Vec<u32> {
        let y = layer.forward(&x).expect("whole rows");
        y.iter().map(|y| y.to_bits()).collect()
    };
    assert_eq!(bits(&simd), bits(&scalar), "{isa}");
});
