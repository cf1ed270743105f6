//! Differential: products of operands that are quantized at run time, on an instruction set of this CPU
//! against the scalar rows, bit for bit.
//!
//! The input chooses shapes, strides, element types, ranges and instruction set of two products, one after
//! the other in the same memory, and a seed that fills operands, some of them special floats.

#![no_main]

mod numbers;

use arbitrary::Arbitrary;
use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;
use noisyquant::{DynamicMatmul, DynamicRange, Element, Isa, MatMut, MatRef, Scratch};
use numbers::Rng;

#[derive(Arbitrary, Debug)]
struct Case {
    isa: u8,
    products: [Product; 2],
}

#[derive(Arbitrary, Debug)]
struct Product {
    m: u8,
    k: u16,
    n: u8,
    gap: u8,
    columns: bool,
    elements: u8,
    range: u8,
    factor: i8,
    specials: u8,
    exponents: [i8; 2],
    seed: u64,
}

/// Products on one instruction set, in memory for the largest of them. What one leaves there must not matter
/// to the next.
struct Products {
    matmul: DynamicMatmul,
    memory: Scratch<'static>,
    scratch: Scratch<'static>,
}

impl Products {
    fn on(isa: Isa) -> Products {
        let matmul = DynamicMatmul::new(Some(isa)).expect("an available set");
        Products {
            matmul,
            memory: Scratch::with_bytes(matmul.operand_bytes(96, 400)),
            scratch: Scratch::with_bytes(matmul.scratch_bytes(40, 96, 400)),
        }
    }
}

impl Product {
    /// The bits of the outputs and of what lies between their rows.
    fn run<T: Element>(&self, products: &mut Products) -> Vec<u32> {
        let Products {
            matmul,
            memory,
            scratch,
        } = products;
        let (m, k, n) = (
            usize::from(self.m % 40),
            1 + usize::from(self.k % 400),
            1 + usize::from(self.n % 96),
        );
        let gap = usize::from(self.gap % 9);
        let mut rng = Rng(self.seed);
        let mut operand = |rows: usize, cols: usize, exponent: i8| -> Vec<T> {
            let numbers = rng.inputs(rows * (cols + gap), self.specials, exponent);
            numbers.into_iter().map(T::from_f32).collect()
        };
        let (rows, cols) = if self.columns { (k, n) } else { (n, k) };
        let (x, w) = (
            operand(m, k, self.exponents[0]),
            operand(rows, cols, self.exponents[1]),
        );
        let x = MatRef::new(&x, m, k, k + gap).expect("fits");
        let w = MatRef::new(&w, rows, cols, cols + gap).expect("fits");
        let mut y = vec![-77f32; m * (n + gap)];
        let output = MatMut::new(&mut y, m, n, n + gap).expect("fits");
        let range = match self.range {
            0..128 => matmul.range(x),
            128..192 => DynamicRange::Symmetric(f32::from(self.range) - 150.0),
            _ => DynamicRange::Positive(f32::from(self.range) - 200.0),
        };
        let operand = match self.columns {
            true => matmul.pack_columns(w, memory, scratch),
            false => matmul.pack_rows(w, memory, scratch),
        };
        let operand = operand.expect("a valid operand");
        let factor = f32::from(self.factor) * f32::exp2(f32::from(self.factor));
        let (DynamicRange::Symmetric(end) | DynamicRange::Positive(end)) = range;
        let done = operand.multiply(x, range, factor, output, scratch);
        assert_eq!(done.is_ok(), factor.is_finite() && end >= 0.0);
        y.into_iter().map(f32::to_bits).collect()
    }
}

fuzz_target!(|case: Case| {
    let isas: Vec<Isa> = Isa::available().collect();
    let isa = isas[usize::from(case.isa) % isas.len()];
    let (mut scalar, mut simd) = (Products::on(Isa::Scalar), Products::on(isa));
    for product in &case.products {
        let run = match product.elements % 3 {
            0 => Product::run::<f32>,
            1 => Product::run::<f16>,
            _ => Product::run::<bf16>,
        };
        let expected = run(product, &mut scalar);
        assert_eq!(run(product, &mut simd), expected, "{isa}");
        assert_eq!(
            run(product, &mut Products::on(isa)),
            expected,
            "{isa}, fresh memory"
        );
    }
});
