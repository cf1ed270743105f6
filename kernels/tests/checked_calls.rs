//! What the checked calls refuse, and that empty calls do nothing.

#![cfg(unix)]

mod guarded;

use std::panic::{AssertUnwindSafe, catch_unwind};

use guarded::Guarded;
use half::{bf16, f16};
use noisyquant_kernels::output::{Coarse, CodeForm, Coding, Destination, Output};
use noisyquant_kernels::ready::{self, Channels, Codes, NormNumbers, Panels, Ready};
use noisyquant_kernels::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use noisyquant_kernels::spec::{MAX_K, NormKind};
use noisyquant_kernels::table;
use noisyquant_kernels::view::{Elem, MatMut, MatRef};

fn kernels() -> impl Iterator<Item = Ready<MicroKernel>> {
    table::micro_kernels().filter_map(MicroKernel::ready)
}

/// Whether a call panics.
fn refused(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Operands of one product that fits, to be spoilt.
struct Operands {
    kernel: Ready<MicroKernel>,
    codes: Guarded<u8>,
    panels: Guarded<i8>,
    sums: Guarded<i32>,
    k: usize,
    max_code: u8,
    max_weight: u8,
}

impl Operands {
    /// Two rows, and two panels of which a product takes the first.
    fn new(kernel: Ready<MicroKernel>) -> Operands {
        let k = 128;
        Operands {
            codes: Guarded::new(2 * k * kernel.code_bytes()),
            panels: Guarded::aligned(2 * kernel.panel().panel_bytes(k)),
            sums: Guarded::aligned(2 * kernel.tile.nr),
            kernel,
            k,
            max_code: 15,
            max_weight: 7,
        }
    }

    fn run(&mut self, rows: usize, panel: usize) -> bool {
        let codes = Codes {
            bytes: &self.codes,
            stride: self.codes.len() / 2,
            rows,
            k: self.k,
            max: self.max_code,
        };
        let panel = Panels {
            bytes: &self.panels[..panel],
            corrections: &[],
            max: self.max_weight,
        };
        !refused(|| self.kernel.run(codes, panel, &mut self.sums))
    }

    /// A block of two rows and `columns` outputs.
    fn run_block(&self, epilogue: Ready<Epilogue>, columns: usize) -> bool {
        let (nr, k) = (self.kernel.tile.nr, self.k);
        let codes = Codes {
            bytes: &self.codes,
            stride: self.codes.len() / 2,
            rows: 2,
            k,
            max: self.max_code,
        };
        let corrections = vec![0; self.kernel.corrections(columns.div_ceil(nr), k)];
        let panels = Panels {
            bytes: &self.panels,
            corrections: &corrections,
            max: self.max_weight,
        };
        let constants = (vec![0; 4 * nr], vec![1.0; 4 * nr], vec![0.0; 4 * nr]);
        let channels = Channels {
            comp: &constants.0,
            scale: &constants.1,
            bias: &constants.2,
        };
        let mut working = Guarded::<i32>::aligned(64 * nr + self.kernel.room(2, 2 * k));
        let mut y = vec![0f32; 2 * columns];
        let y = MatMut::new(&mut y, 2, columns, columns).unwrap();
        !refused(|| {
            self.kernel
                .run_block(codes, panels, epilogue, channels, &mut working, y.into())
        })
    }
}

#[test]
fn operands_that_do_not_belong_together_are_refused() {
    for kernel in kernels() {
        let panel = kernel.panel().panel_bytes(128);
        let mut operands = Operands::new(kernel);
        assert!(operands.run(2, panel), "{}", kernel.name);
        assert!(!operands.run(3, panel), "{}: rows", kernel.name);
        for length in [0, panel / 2, panel - 1, panel + 1, 2 * panel] {
            assert!(
                !operands.run(2, length),
                "{}: panel of {length}",
                kernel.name
            );
        }
        for k in [0, 32, 64, 192, 256] {
            operands.k = k;
            assert!(!operands.run(2, panel), "{}: {k} inputs", kernel.name);
        }
    }
}

/// A `y` of one panel with weights of two: the inputs were taken to be twice as many.
#[test]
fn an_output_of_other_channels_than_the_weights_is_refused() {
    for kernel in kernels() {
        let epilogue = ready::epilogue(kernel.isa, Destination::Store(Elem::F32)).unwrap();
        let nr = kernel.tile.nr;
        let mut operands = Operands::new(kernel);
        assert!(operands.run_block(epilogue, 2 * nr), "{}", kernel.name);
        assert!(operands.run_block(epilogue, nr + 1), "{}", kernel.name);
        // Long enough for the inputs that there seem to be.
        operands.codes = Guarded::new(4 * 128 * kernel.code_bytes());
        assert!(operands.run_block(epilogue, 2 * nr), "{}", kernel.name);
        for columns in [1, nr, 2 * nr + 1, 4 * nr] {
            let ran = operands.run_block(epilogue, columns);
            assert!(!ran, "{}: {columns} columns", kernel.name);
        }
    }
}

#[test]
fn operands_that_are_not_exact_are_refused() {
    for kernel in kernels() {
        let panel = kernel.panel().panel_bytes(128);
        for (max_code, max_weight) in [(255, 127), (255, 128), (127, 128), (63, 31), (15, 128)] {
            let mut operands = Operands::new(kernel);
            (operands.max_code, operands.max_weight) = (max_code, max_weight);
            let exact = kernel.is_exact_for(max_code, max_weight);
            let case = format!("{} {max_code} {max_weight}", kernel.name);
            assert_eq!(operands.run(2, panel), exact, "{case}");
        }
    }
}

#[test]
fn more_inputs_than_an_accumulator_holds_are_refused() {
    for kernel in kernels() {
        for (k, fits) in [(MAX_K, true), (MAX_K + 64, false)] {
            let mut operands = Operands::new(kernel);
            operands.k = k;
            operands.codes = Guarded::new(2 * k * kernel.code_bytes());
            operands.panels = Guarded::aligned(kernel.panel().panel_bytes(k));
            let panel = operands.panels.len();
            assert_eq!(operands.run(2, panel), fits, "{} {k}", kernel.name);
        }
    }
}

/// Shapes without elements, with dimensions that no arithmetic survives.
const EMPTY: [(usize, usize); 6] = [
    (0, 0),
    (0, 5),
    (5, 0),
    (0, usize::MAX),
    (usize::MAX, 0),
    (0, usize::MAX / 4),
];

#[test]
fn prologues_of_nothing_do_nothing() {
    for row in table::prologues().filter_map(Prologue::ready) {
        for (rows, cols) in EMPTY {
            let view = empty_view(row.source, rows, cols);
            let form = CodeForm {
                max: 255,
                offset: 0,
            };
            let (mut codes, constants) = ([0x5a; 3], [0.0; 64]);
            // Neither aligned, nor long enough for anything.
            row.quantize(view, &constants, &constants, form, &mut codes[1..], 7);
            row.quantize(view, &[], &[], form, &mut codes[1..], usize::MAX);
            assert_eq!(codes, [0x5a; 3], "{} {rows} {cols}", row.name);
        }
    }
}

#[test]
fn norms_of_nothing_change_nothing() {
    for row in table::norms().filter_map(Norm::ready) {
        for (rows, cols) in EMPTY.into_iter().filter(|(_, cols)| *cols < 9) {
            let some = vec![1.0; cols];
            let numbers = NormNumbers {
                kind: NormKind::Layer,
                weight: &some,
                bias: &some,
                eps: 0.0,
            };
            let y = MatMut::new::<f32>(&mut [], rows, cols, usize::MAX).unwrap();
            row.normalize(empty_view(Elem::F32, rows, cols), numbers, y);
        }
    }
}

#[test]
fn magnitudes_of_nothing_change_nothing() {
    for row in table::absmaxes().filter_map(Absmax::ready) {
        for (rows, cols) in EMPTY.into_iter().filter(|(_, cols)| *cols < 9) {
            let mut most = vec![1.5; cols];
            row.raise(empty_view(row.source, rows, cols), &mut most);
            assert_eq!(most, vec![1.5; cols], "{} {rows} {cols}", row.name);
        }
    }
}

fn empty_view(elem: Elem, rows: usize, cols: usize) -> MatRef<'static> {
    match elem {
        Elem::F32 => MatRef::new::<f32>(&[], rows, cols, usize::MAX),
        Elem::F16 => MatRef::new::<f16>(&[], rows, cols, usize::MAX),
        Elem::Bf16 => MatRef::new::<bf16>(&[], rows, cols, usize::MAX),
    }
    .unwrap()
}

fn empty_output(destination: Destination, rows: usize, cols: usize) -> Output<'static> {
    let y = match destination {
        Destination::Store(Elem::F16) => MatMut::new::<f16>(&mut [], rows, cols, usize::MAX),
        Destination::Store(Elem::Bf16) => MatMut::new::<bf16>(&mut [], rows, cols, usize::MAX),
        _ => MatMut::new::<f32>(&mut [], rows, cols, usize::MAX),
    };
    match destination {
        Destination::Store(_) => y.unwrap().into(),
        Destination::Add => Output::add(y.unwrap()),
        Destination::Code | Destination::TwinCode => {
            // As many columns as have a multiplier.
            let some = &[1.0; 5][..cols.min(5)];
            let coarse = Coarse {
                inv: some,
                t: some,
                max: 1,
                shift: 7,
            };
            let coding = Coding {
                inv: some,
                t: some,
                form: CodeForm { max: 1, offset: 0 },
                coarse: (destination == Destination::TwinCode).then_some(coarse),
            };
            Output::codes(&mut [], rows, usize::MAX, coding).unwrap()
        }
    }
}

const NO_CHANNELS: Channels<'static> = Channels {
    comp: &[],
    scale: &[],
    bias: &[],
};

#[test]
fn epilogues_of_nothing_do_nothing() {
    for row in table::epilogues().filter_map(Epilogue::ready) {
        for (rows, cols) in EMPTY {
            row.finish(
                &[],
                8,
                NO_CHANNELS,
                empty_output(row.destination, rows, cols),
            );
        }
    }
}

#[test]
fn products_of_nothing_do_nothing() {
    for kernel in kernels() {
        for (rows, cols) in EMPTY {
            for destination in Destination::ALL {
                let epilogue = ready::epilogue(kernel.isa, destination).unwrap();
                let codes = Codes {
                    bytes: &[],
                    stride: usize::MAX,
                    rows,
                    k: 64,
                    max: 1,
                };
                let panels = Panels {
                    bytes: &[],
                    corrections: &[],
                    max: 1,
                };
                let y = empty_output(destination, rows, cols);
                kernel.run_block(codes, panels, epilogue, NO_CHANNELS, &mut [], y);
                if rows == 0 {
                    kernel.run(codes, panels, &mut []);
                }
            }
        }
    }
}
