//! Products of two operands that are quantized at run time, bit for bit against the contract.

mod common;

use common::{Rng, bits, isas};
use half::{bf16, f16};
use noisyquant::{
    DynamicMatmul, DynamicOperand, DynamicRange, Element, Error, Isa, MatMut, MatRef, Scratch,
};
use noisyquant_kernels::spec;

/// How the right operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Right {
    /// `[outputs, inputs]`.
    Rows,
    /// `[inputs, outputs]`.
    Columns,
}

fn largest(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.fold(0.0, |most, x| if x.abs() > most { x.abs() } else { most })
}

/// Step, zero point and largest code.
fn affine(range: DynamicRange) -> (f32, i32, u8) {
    match range {
        DynamicRange::Symmetric(a) => (spec::dynamic_step(a, 127), 127, 254),
        DynamicRange::Positive(a) => (spec::dynamic_step(a, 255), 0, 255),
    }
}

/// Equations 30 to 33, one number after the other. `w(n, k)` is the right operand.
fn oracle(
    (m, k, n): (usize, usize, usize),
    x: &[f32],
    range: DynamicRange,
    factor: f32,
    w: &dyn Fn(usize, usize) -> f32,
    right: Right,
) -> Vec<f32> {
    let tensor = largest((0..n * k).map(|at| w(at / k, at % k)));
    let step = |channel: usize| {
        spec::dynamic_step(
            match right {
                Right::Rows => tensor,
                Right::Columns => largest((0..k).map(|input| w(channel, input))),
            },
            127,
        )
    };
    let (left_step, zero, max) = affine(range);
    let inv = spec::code_multiplier(1.0, left_step);
    let codes: Vec<u8> = x
        .iter()
        .map(|x| spec::code(*x, inv, zero as f32, max))
        .collect();
    let mut y = vec![0.0; m * n];
    for channel in 0..n {
        let inv = spec::code_multiplier(1.0, step(channel));
        let code = |input| i32::from(spec::code(w(channel, input), inv, 127.0, 254)) - 127;
        let weights: Vec<i8> = (0..k).map(|input| code(input) as i8).collect();
        let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
        let scale = spec::dynamic_scale(left_step, step(channel), factor);
        for row in 0..m {
            let acc = spec::accumulate(&codes[row * k..][..k], &weights);
            y[row * n + channel] = spec::output(acc, -zero * sum, scale, 0.0);
        }
    }
    y
}

/// Products on one instruction set, and memory for operands and products of any of the sizes below: what one
/// leaves there must not matter to the next.
struct Products {
    matmul: DynamicMatmul,
    memory: Scratch<'static>,
    scratch: Scratch<'static>,
}

impl Products {
    fn new(isa: Option<Isa>, (m, k, n): (usize, usize, usize)) -> Products {
        let matmul = DynamicMatmul::new(isa).unwrap();
        Products {
            matmul,
            memory: Scratch::with_bytes(matmul.operand_bytes(n, k)),
            scratch: Scratch::with_bytes(matmul.scratch_bytes(m, n, k)),
        }
    }

    fn pack(&mut self, right: Right, w: MatRef<'_>) -> Result<DynamicOperand<'_>, Error> {
        let (memory, scratch) = (&mut self.memory, &mut self.scratch);
        match right {
            Right::Rows => self.matmul.pack_rows(w, memory, scratch),
            Right::Columns => self.matmul.pack_columns(w, memory, scratch),
        }
    }
}

/// One product on `matmul` next to the oracle. The output has the type of the operands; all have gaps
/// between their rows.
fn check<T: Element>(
    products: &mut Products,
    (m, k, n): (usize, usize, usize),
    x: &[T],
    w: &[T],
    right: Right,
    range: Option<DynamicRange>,
) {
    const GAP: usize = 3;
    let (rows, cols) = match right {
        Right::Rows => (n, k),
        Right::Columns => (k, n),
    };
    let spread = |numbers: &[T], cols: usize| -> Vec<T> {
        let row = |row: &[T]| [row, &[T::default(); GAP]].concat();
        numbers.chunks(cols).flat_map(row).collect()
    };
    let wide = spread(w, cols);
    let view = MatRef::new(&wide, rows, cols, cols + GAP).expect("a matrix");
    let isa = products.matmul.isa();
    let mut scratch = Scratch::with_bytes(products.matmul.scratch_bytes(m, n, k));
    let operand = products.pack(right, view).expect("a right operand");
    let wide = spread(x, k);
    let left = MatRef::new(&wide, m, k, k + GAP).expect("a matrix");
    let matmul = operand.matmul();
    let range = range.unwrap_or_else(|| matmul.range(left));
    let untouched = T::from_f32(7.0);
    let product = |run: &mut dyn FnMut(MatMut<'_>) -> Result<(), Error>| {
        let mut y = vec![untouched; m * (n + GAP)];
        run(MatMut::new(&mut y, m, n, n + GAP).expect("a matrix")).expect("a product");
        y
    };
    let y = product(&mut |y| operand.multiply(left, range, 0.37, y, &mut scratch));
    let same = |other: &[T]| {
        y.iter()
            .zip(other)
            .all(|(y, other)| y.to_f32() == other.to_f32())
    };

    // The same with constants that are made before, all rows at once and in two parts, and with codes.
    let mut constants = Scratch::with_bytes(matmul.product_bytes(n, k));
    let prepared = operand.product(range, 0.37, &mut constants).unwrap();
    let once = product(&mut |y| prepared.multiply(left, y, &mut scratch));
    assert!(
        same(&once),
        "{isa}, {m}x{k}x{n}, {right:?}, {range:?}, prepared"
    );
    let parts = product(&mut |y| {
        let (above, below) = y.split_rows(m / 2);
        prepared.multiply(left.rows_range(0, m / 2), above, &mut scratch)?;
        prepared.multiply(left.rows_range(m / 2, m), below, &mut scratch)
    });
    assert!(
        same(&parts),
        "{isa}, {m}x{k}x{n}, {right:?}, {range:?}, in parts"
    );
    let (step, zero, max) = affine(range);
    let inv = spec::code_multiplier(1.0, step);
    let stride = matmul.codes_stride(k);
    // Between rows there may be anything.
    let mut rng = Rng(7);
    let mut codes: Vec<u8> = (0..m * stride).map(|_| rng.word() as u8).collect();
    for (row, codes) in codes.chunks_mut(stride).enumerate() {
        for (code, x) in codes.iter_mut().zip(left.row::<T>(row)) {
            let u = spec::code(x.to_f32(), inv, zero as f32, max);
            *code = u.wrapping_sub(matmul.code_offset());
        }
    }
    let coded = product(&mut |y| prepared.multiply_codes(&codes, y, &mut scratch));
    assert!(
        same(&coded),
        "{isa}, {m}x{k}x{n}, {right:?}, {range:?}, codes"
    );

    let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
    let at = |channel: usize, input: usize| match right {
        Right::Rows => w[channel * k + input].to_f32(),
        Right::Columns => w[input * n + channel].to_f32(),
    };
    let expected = oracle((m, k, n), &x, range, 0.37, &at, right);
    for (row, (y, expected)) in y.chunks(n + GAP).zip(expected.chunks(n)).enumerate() {
        let what = format!("{}, {m}x{k}x{n}, {right:?}, {range:?}", isa);
        let expected: Vec<f32> = (expected.iter().map(|y| T::from_f32(*y).to_f32())).collect();
        let y: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
        assert_eq!(bits(&y[..n]), bits(&expected), "{what}, row {row}");
        assert_eq!(y[n..], [7.0; GAP], "{what}, after row {row}");
    }
}

#[test]
fn every_isa_gives_the_bits_of_the_contract() {
    let mut executed = Vec::new();
    for isa in isas() {
        let mut products = Products::new(Some(isa), (300, 1000, 300));
        assert_eq!(products.matmul.isa(), isa);
        // Larger and smaller ones in turn: what an operand leaves in memory must not matter.
        for (m, k, n) in [
            (257, 64, 257),
            (1, 1, 1),
            (24, 257, 64),
            (49, 32, 49),
            (5, 130, 33),
            (30, 65, 7),
            (3, 1000, 2),
            (2, 4, 300),
        ] {
            for right in [Right::Rows, Right::Columns] {
                let (x, w) = (Rng(1).heavy_tailed(m * k), Rng(2).heavy_tailed(k * n));
                check(&mut products, (m, k, n), &x, &w, right, None);
                // Saturates above, and below at 0.
                let positive = Some(DynamicRange::Positive(4.0));
                check(&mut products, (m, k, n), &x, &w, right, positive);
                let narrow = |numbers: &[f32]| -> (Vec<f16>, Vec<bf16>) {
                    let both = |x: &f32| (f16::from_f32(*x), bf16::from_f32(*x));
                    numbers.iter().map(both).unzip()
                };
                let ((x16, xb), (w16, wb)) = (narrow(&x), narrow(&w));
                check(&mut products, (m, k, n), &x16, &w16, right, None);
                check(&mut products, (m, k, n), &xb, &wb, right, None);
            }
        }
        executed.push(isa.name());
    }
    println!("executed: {}", executed.join(" "));
}

#[test]
fn special_numbers_are_the_same_everywhere() {
    for isa in isas() {
        let mut products = Products::new(Some(isa), (5, 70, 40));
        for right in [Right::Rows, Right::Columns] {
            for special in [
                0.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN_POSITIVE,
                1e-45,
            ] {
                let (mut x, mut w) = (Rng(3).heavy_tailed(5 * 70), Rng(4).heavy_tailed(70 * 40));
                w.iter_mut().step_by(11).for_each(|w| *w = special);
                check(&mut products, (5, 70, 40), &x, &w, right, None);
                x.iter_mut().step_by(7).for_each(|x| *x = special);
                check(&mut products, (5, 70, 40), &x, &w, right, None);
                x.fill(special);
                w.fill(special);
                check(&mut products, (5, 70, 40), &x, &w, right, None);
            }
        }
    }
}

#[test]
fn the_longest_sums_of_the_largest_codes_are_exact() {
    const K: usize = 65_536;
    let (x, w) = (vec![1f32; 2 * K], vec![1f32; 3 * K]);
    let opposite = vec![-1f32; 3 * K];
    for isa in isas() {
        let mut products = Products::new(Some(isa), (2, K, 3));
        for right in [Right::Rows, Right::Columns] {
            for range in [DynamicRange::Positive(1.0), DynamicRange::Symmetric(1.0)] {
                check(&mut products, (2, K, 3), &x, &w, right, Some(range));
                check(&mut products, (2, K, 3), &x, &opposite, right, Some(range));
            }
        }
    }
}

#[test]
fn products_are_close_to_exact_ones() {
    let (m, k, n) = (40, 64, 50);
    let (x, w) = (Rng(5).floats(m * k), Rng(6).floats(n * k));
    let left = MatRef::new(&x, m, k, k).unwrap();
    let mut products = Products::new(None, (m, k, n));
    let mut scratch = Scratch::with_bytes(products.matmul.scratch_bytes(m, n, k));
    let right = MatRef::new(&w, n, k, k).unwrap();
    let operand = products.pack(Right::Rows, right).unwrap();
    let mut y = vec![0f32; m * n];
    let output = MatMut::new(&mut y, m, n, n).unwrap();
    let range = operand.matmul().range(left);
    operand
        .multiply(left, range, 1.0, output, &mut scratch)
        .unwrap();
    for (at, y) in y.iter().enumerate() {
        let (row, channel) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
        let exact: f32 = row.iter().zip(channel).map(|(x, w)| x * w).sum();
        // Each of 64 products is off by about two times a third of 1/254.
        assert!((y - exact).abs() < 0.1, "{y} is not {exact}");
    }
}

#[test]
fn threads_share_a_packed_operand() {
    let (m, k, n) = (60, 64, 50);
    let (x, w) = (Rng(5).floats(m * k), Rng(6).floats(n * k));
    let mut products = Products::new(None, (m, k, n));
    let matmul = products.matmul;
    let right = MatRef::new(&w, n, k, k).unwrap();
    let operand = products.pack(Right::Rows, right).unwrap();
    let range = DynamicRange::Symmetric(1.0);
    let product = |x: &[f32]| {
        let rows = x.len() / k;
        let mut y = vec![0f32; rows * n];
        let mut scratch = Scratch::with_bytes(matmul.scratch_bytes(rows, n, k));
        let (x, out) = (MatRef::new(x, rows, k, k), MatMut::new(&mut y, rows, n, n));
        operand
            .multiply(x.unwrap(), range, 1.0, out.unwrap(), &mut scratch)
            .unwrap();
        y
    };
    let whole = product(&x);
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = x
            .chunks(20 * k)
            .map(|x| scope.spawn(|| product(x)))
            .collect();
        let parts = threads.into_iter().map(|thread| thread.join().unwrap());
        parts.collect::<Vec<_>>().concat()
    });
    assert_eq!(bits(&parts), bits(&whole));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut products = Products::new(None, (2, 3, 4));
    let matmul = products.matmul;
    let mut scratch = Scratch::with_bytes(matmul.scratch_bytes(2, 4, 3));
    let numbers = [1f32; 200];
    let view = |rows, cols| MatRef::new(&numbers, rows, cols, cols).unwrap();
    for (rows, cols) in [(0, 3), (3, 0)] {
        for right in [Right::Rows, Right::Columns] {
            let wrong = products.pack(right, view(rows, cols)).unwrap_err();
            assert!(matches!(wrong, Error::Dimension { .. }), "{wrong}");
        }
    }
    let long = vec![1f32; 65_537];
    let wrong = products.pack(Right::Columns, MatRef::new(&long, 65_537, 1, 1).unwrap());
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "right operand's inputs: expected 1..=65536, got 65537"
    );
    // Memory or scratch for a smaller operand.
    let mut small = Scratch::with_bytes(64);
    let wrong = matmul.pack_rows(view(4, 3), &mut small, &mut scratch);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));
    let mut memory = Scratch::with_bytes(matmul.operand_bytes(4, 3));
    let wrong = matmul.pack_rows(view(4, 3), &mut memory, &mut small);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));

    let operand = products.pack(Right::Rows, view(4, 3)).unwrap();
    let range = DynamicRange::Symmetric(1.0);
    let mut y = [0f32; 20];
    let mut product = |x: (usize, usize), out: (usize, usize), factor, range| {
        let y = MatMut::new(&mut y, out.0, out.1, out.1).unwrap();
        operand.multiply(view(x.0, x.1), range, factor, y, &mut scratch)
    };
    let wrong = product((2, 4), (2, 4), 1.0, range).unwrap_err();
    assert!(matches!(wrong, Error::Shape { .. }), "{wrong}");
    let wrong = product((2, 3), (2, 3), 1.0, range).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "output: expected (2, 4) (rows, columns), got (2, 3)"
    );
    let wrong = product((2, 3), (2, 4), f32::NAN, range).unwrap_err();
    assert!(matches!(wrong, Error::Value { .. }), "{wrong}");
    for end in [-1.0, f32::NAN] {
        for range in [DynamicRange::Symmetric(end), DynamicRange::Positive(end)] {
            let wrong = product((2, 3), (2, 4), 1.0, range).unwrap_err();
            assert!(matches!(wrong, Error::Value { .. }), "{wrong}");
        }
    }
    product((2, 3), (2, 4), 1.0, range).unwrap();
    product((0, 3), (0, 4), 1.0, range).unwrap();
    let x = view(2, 3);
    let output = MatMut::new(&mut y, 2, 4, 4).unwrap();
    let wrong = operand.multiply(x, range, 1.0, output, &mut small);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));

    // The same of products with constants that are made before.
    let wrong = operand.product(range, 1.0, &mut small);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));
    let mut constants = Scratch::with_bytes(matmul.product_bytes(4, 3));
    for (range, factor) in [(range, f32::INFINITY), (DynamicRange::Positive(-1.0), 1.0)] {
        let wrong = operand.product(range, factor, &mut constants);
        assert!(matches!(wrong, Err(Error::Value { .. })));
    }
    let product = operand.product(range, 1.0, &mut constants).unwrap();
    let codes = vec![1u8; 2 * matmul.codes_stride(3)];
    for (x, out) in [((2, 4), (2, 4)), ((2, 3), (2, 3)), ((1, 3), (2, 4))] {
        let output = MatMut::new(&mut y, out.0, out.1, out.1).unwrap();
        let wrong = product.multiply(view(x.0, x.1), output, &mut scratch);
        assert!(matches!(wrong, Err(Error::Shape { .. })), "{x:?} {out:?}");
    }
    let output = MatMut::new(&mut y, 2, 3, 3).unwrap();
    let wrong = product.multiply_codes(&codes, output, &mut scratch);
    assert!(matches!(wrong, Err(Error::Shape { .. })));
    for length in [0, codes.len() / 2, codes.len() - 1] {
        let output = MatMut::new(&mut y, 2, 4, 4).unwrap();
        let wrong = product.multiply_codes(&codes[..length], output, &mut scratch);
        assert!(matches!(wrong, Err(Error::Length { .. })), "{length}");
    }
    let output = MatMut::new(&mut y, 2, 4, 4).unwrap();
    let wrong = product.multiply(x, output, &mut small);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));
    let output = MatMut::new(&mut y, 2, 4, 4).unwrap();
    let wrong = product.multiply_codes(&codes, output, &mut small);
    assert!(matches!(wrong, Err(Error::ScratchTooSmall { .. })));
    let nothing = MatMut::new(&mut y, 0, 4, 4).unwrap();
    product.multiply_codes(&[], nothing, &mut small).unwrap();

    let missing = Isa::ALL.into_iter().find(|isa| !isa.is_available());
    if let Some(isa) = missing {
        let wrong = DynamicMatmul::new(Some(isa)).unwrap_err();
        assert!(matches!(wrong, Error::IsaUnavailable { .. }), "{wrong}");
    }
}

#[test]
fn rows_without_elements_have_a_range_however_many_there_are() {
    for rows in [0, 1, 1 << 30, usize::MAX] {
        let empty = MatRef::new::<f32>(&[], rows, 0, 0).unwrap();
        let matmul = DynamicMatmul::new(None).unwrap();
        assert_eq!(matmul.range(empty), DynamicRange::Symmetric(0.0));
        let half = MatRef::new::<half::bf16>(&[], rows, 0, 7).unwrap();
        assert_eq!(matmul.range(half), DynamicRange::Symmetric(0.0));
        let columns = MatRef::new::<f32>(&[], 0, rows, rows).unwrap();
        assert_eq!(matmul.range(columns), DynamicRange::Symmetric(0.0));
        // No operand has no inputs or no outputs.
        let [mut memory, mut scratch] = [0; 2].map(Scratch::with_bytes);
        let refused = matmul.pack_rows(empty, &mut memory, &mut scratch);
        assert!(matches!(refused, Err(Error::Dimension { .. })), "{rows}");
        let refused = matmul.pack_columns(empty, &mut memory, &mut scratch);
        assert!(matches!(refused, Err(Error::Dimension { .. })), "{rows}");
    }
}
