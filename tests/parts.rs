//! Codes that are made in parts, on several threads: those that the layer makes of all rows at once, on every
//! instruction set.

mod chained;
mod common;

use chained::{layer, view, view_mut};
use common::{Rng, bits, isas};
use noisyquant::half::bf16;
use noisyquant::{
    Activation, Codes, CodesPart, Executor, Input, Isa, MatRef, QuantLinear, Scratch,
};

/// Bits and shifts of quantizers whose codes fit a byte.
const QUANTIZERS: [(u32, Option<u32>); 5] = [
    (8, None),
    (6, None),
    (8, Some(0)),
    (6, Some(2)),
    (4, Some(5)),
];

fn panics(call: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
}

/// What a layer gives for codes or numbers.
fn outputs(layer: &QuantLinear, rows: usize, input: Input<'_>) -> Vec<f32> {
    let (n, here) = (layer.out_features(), Executor::serial());
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(rows, 1));
    let mut y = vec![f32::NAN; rows * n];
    let output = view_mut(&mut y, n).into();
    let done = layer.forward_with(input, Activation::Identity, output, &mut scratch, here);
    done.unwrap();
    y
}

/// Columns at which rows of `k` may be cut in two, in three and not at all.
fn cuts(k: usize) -> Vec<Vec<usize>> {
    let line = CodesPart::LINE;
    let lines = k.div_ceil(line);
    let at = |line_number: usize| (line_number * line).min(k);
    vec![
        vec![0, k],
        vec![0, at(lines / 2), k],
        vec![0, at(1), at(lines - 1).max(at(1)), k],
    ]
}

/// Makes the codes of all of `x` in such columns, above and below row `middle`, each on a thread of its own.
fn make(codes: &mut Codes<'_>, x: MatRef<'_>, columns: &[usize], middle: usize) {
    std::thread::scope(|scope| {
        let mut rest = codes.parts(x.rows()).unwrap();
        assert_eq!((rest.rows(), rest.cols()), (x.rows(), x.cols()));
        for cut in columns.windows(2) {
            let (part, right) = rest.split_cols(cut[1] - cut[0]);
            rest = right;
            let x = x.cols_range(cut[0], cut[1]);
            let (mut above, mut below) = part.split_rows(middle);
            scope.spawn(move || above.quantize(x.rows_range(0, middle)).unwrap());
            // A row at a time.
            scope.spawn(move || {
                for row in 0..below.rows() {
                    let from = x.rows_range(middle + row, middle + row + 1);
                    let mut one = below.block(row, 1, 0, x.cols());
                    one.quantize(from).unwrap();
                }
            });
        }
        assert_eq!(rest.cols(), 0);
    });
}

#[test]
fn parts_are_the_codes_of_all() {
    for isa in isas() {
        for (k, n) in [(128, 32), (384, 40), (5, 8), (64, 3), (200, 33)] {
            for (bits_of, twin) in QUANTIZERS {
                let layer = layer(1, (n, k), bits_of, twin, isa);
                // Codes of before must not matter, nor must those of fewer rows.
                let mut codes = layer.codes(60).unwrap();
                codes.quantize(view(&Rng(2).floats(60 * k), k)).unwrap();
                for (rows, middle) in [(60, 29), (1, 0), (7, 7)] {
                    let x = Rng(rows as u64).heavy_tailed(rows * k);
                    let expected = outputs(&layer, rows, view(&x, k).into());
                    for columns in cuts(k) {
                        make(&mut codes, view(&x, k), &columns, middle);
                        assert_eq!(codes.rows(), rows);
                        let got = outputs(&layer, rows, (&codes).into());
                        let case = format!("{isa} {k},{n} {bits_of} {twin:?} {rows} {columns:?}");
                        assert_eq!(bits(&got), bits(&expected), "{case}");
                        // Some of the rows.
                        let range = codes.rows_range(rows / 2, rows);
                        let got = outputs(&layer, rows - rows / 2, range.into());
                        assert_eq!(bits(&got), bits(&expected[rows / 2 * n..]), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn parts_are_made_of_any_elements() {
    for isa in isas() {
        let layer = layer(3, (16, 192), 8, None, isa);
        let x: Vec<bf16> = Rng(4)
            .floats(10 * 192)
            .into_iter()
            .map(bf16::from_f32)
            .collect();
        let x = MatRef::new(&x, 10, 192, 192).unwrap();
        let mut codes = layer.codes(10).unwrap();
        make(&mut codes, x, &[0, 64, 192], 4);
        let got = outputs(&layer, 10, (&codes).into());
        assert_eq!(bits(&got), bits(&outputs(&layer, 10, x.into())), "{isa}");
    }
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let layer = layer(1, (4, 100), 8, None, Isa::Scalar);
    let mut codes = layer.codes(3).unwrap();
    let said = codes.parts(4).unwrap_err().to_string();
    assert_eq!(said, "rows of codes: expected 0..=3, got 4");
    assert_eq!(codes.parts(0).unwrap().rows(), 0);
    let x = [0.5f32; 3 * 100];
    let mut all = codes.parts(3).unwrap();
    let said = all.quantize(view(&x[..200], 100)).unwrap_err().to_string();
    let expected = "part of an input: expected (3, 100) (rows, columns), got (2, 100)";
    assert_eq!(said, expected);
    let said = all.block(1, 2, 64, 36).quantize(view(&x[..128], 64));
    let expected = "part of an input: expected (2, 36) (rows, columns), got (2, 64)";
    assert_eq!(said.unwrap_err().to_string(), expected);

    // Parts of less than a line, or of more than there is.
    for (row, rows, col, cols) in [
        (0, 3, 0, 36),
        (0, 3, 1, 99),
        (0, 3, 64, 37),
        (0, 3, 64, usize::MAX),
        (1, 3, 0, 100),
        (4, 0, 0, 100),
    ] {
        let mut all = codes.parts(3).unwrap();
        assert!(
            panics(|| _ = all.block(row, rows, col, cols)),
            "{row} {rows} {col} {cols}"
        );
    }
    for col in [1, 63, 99, 101, 128] {
        let all = codes.parts(3).unwrap();
        assert!(panics(|| _ = all.split_cols(col)), "{col}");
    }
    let all = codes.parts(3).unwrap();
    assert!(panics(|| _ = all.split_rows(4)));
    assert!(panics(|| _ = codes.rows_range(2, 4)));
    assert!(panics(|| _ = codes.rows_range(2, 1)));
}
