//! Every assertion of the checked calls: a call that fits, spoilt in one place, must stop at the assertion
//! that is meant for it. The message tells which it was, so that no other can stand in for one that is
//! missing.

#![cfg(unix)]

#[allow(
    dead_code,
    reason = "this test has no buffers that must end at the page"
)]
mod guarded;
mod message;

use guarded::Guarded;
use half::f16;
use message::message;
use noisyquant_kernels::output::{CodeForm, Destination};
use noisyquant_kernels::ready::{self, Channels, Codes, NormNumbers, Panels, Ready};
use noisyquant_kernels::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use noisyquant_kernels::spec::NormKind;
use noisyquant_kernels::table;
use noisyquant_kernels::view::{Elem, MatMut, MatRef};

/// Inputs of the calls that fit.
const K: usize = 128;

/// A product of two rows with one panel, or a block of them, by its lengths.
#[derive(Clone, Copy)]
struct Product {
    k: usize,
    stride: usize,
    codes: usize,
    panel: usize,
    sums: usize,
    /// Values by which panel and sums begin past a cache line.
    panel_past: usize,
    sums_past: usize,
    /// Of the output of a block.
    rows: usize,
    /// Of the codes.
    code_rows: usize,
    output: Elem,
    channels: [usize; 3],
}

impl Product {
    fn that_fits(kernel: Ready<MicroKernel>) -> Product {
        let nr = kernel.tile.nr;
        Product {
            k: K,
            stride: K * kernel.code_bytes(),
            codes: 2 * K * kernel.code_bytes(),
            panel: kernel.panel().panel_bytes(K),
            sums: kernel.room(2, K) + nr * kernel.tile.mr.max(2),
            panel_past: 0,
            sums_past: 0,
            rows: 2,
            code_rows: 2,
            output: Elem::F32,
            channels: [nr; 3],
        }
    }

    /// What the product says, and what the block does.
    fn messages(&self, kernel: Ready<MicroKernel>) -> [String; 2] {
        let codes = vec![0u8; self.codes];
        let panel = Guarded::<i8>::aligned(self.panel_past + self.panel);
        let mut sums = Guarded::<i32>::aligned(self.sums_past + self.sums);
        let codes = Codes {
            bytes: &codes,
            stride: self.stride,
            rows: self.code_rows,
            k: self.k,
            max: 15,
        };
        let panels = Panels {
            bytes: &panel[self.panel_past..],
            corrections: &[],
            max: 6,
        };
        let product = message(|| kernel.run(codes, panels, &mut sums[self.sums_past..]));
        let [comp, scale, bias] = self.channels;
        let (comp, scale, bias) = (vec![0; comp], vec![1.0; scale], vec![0.0; bias]);
        let channels = Channels {
            comp: &comp,
            scale: &scale,
            bias: &bias,
        };
        let epilogue = ready::epilogue(kernel.isa, Destination::Store(Elem::F32))
            .expect("that of the kernel's base");
        let (columns, cells) = (kernel.tile.nr, self.rows * kernel.tile.nr);
        let (mut y, mut narrow) = (vec![0f32; cells], vec![f16::ZERO; cells]);
        let y = match self.output {
            Elem::F32 => MatMut::new(&mut y, self.rows, columns, columns),
            _ => MatMut::new(&mut narrow, self.rows, columns, columns),
        };
        let y = y.expect("whole rows");
        let working = &mut sums[self.sums_past..];
        let block =
            message(|| kernel.run_block(codes, panels, epilogue, channels, working, y.into()));
        [product, block]
    }
}

#[test]
fn a_spoilt_product_or_block_stops_at_its_assertion() {
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        let fits = Product::that_fits(kernel);
        assert_eq!(fits.messages(kernel), ["", ""], "{}", kernel.name);
        let (nr, bytes) = (kernel.tile.nr, kernel.code_bytes());
        let of = |k: usize| Product {
            k,
            panel: kernel.panel().panel_bytes(64) / 64 * k,
            ..fits
        };
        let inputs = "inputs: from 1 to 65536";
        // What both say, ...
        for (what, spoilt, expected) in [
            (
                "inputs beyond memory",
                Product {
                    k: usize::MAX - 63,
                    ..fits
                },
                "inputs",
            ),
            ("no inputs", of(0), inputs),
            ("65 panels of no inputs", of(65_537), "inputs"),
            ("a panel of 63 inputs", of(63), "panels of 64 inputs"),
            (
                "a short panel",
                Product {
                    panel: fits.panel - 1,
                    ..fits
                },
                "panels of 128 inputs",
            ),
            (
                "a long panel",
                Product {
                    panel: fits.panel + nr,
                    ..fits
                },
                "panels of 128 inputs",
            ),
            (
                "a panel off its line",
                Product {
                    panel_past: 1,
                    ..fits
                },
                "alignment to 64 bytes",
            ),
            (
                "short codes",
                Product {
                    codes: 2 * K * bytes - 1,
                    ..fits
                },
                "codes",
            ),
            (
                "rows too far apart",
                Product {
                    stride: fits.stride + 1,
                    ..fits
                },
                "codes",
            ),
            (
                "rows beyond memory",
                Product {
                    stride: usize::MAX,
                    ..fits
                },
                "codes",
            ),
            (
                "rows so far apart that their distance overflows",
                Product {
                    rows: 3,
                    code_rows: 3,
                    stride: usize::MAX,
                    sums: fits.sums + nr,
                    ..fits
                },
                "codes",
            ),
        ] {
            let [product, block] = spoilt.messages(kernel);
            let what = format!("{}: {what}: {product:?}, {block:?}", kernel.name);
            assert!(
                product.contains(expected) && block.contains(expected),
                "{what}"
            );
        }
        // ... what the product says alone, ...
        let short = Product {
            sums: 2 * nr - 1,
            ..fits
        };
        assert_eq!(short.messages(kernel)[0], "accumulators", "{}", kernel.name);
        let past = Product {
            sums_past: 1,
            ..fits
        };
        assert_eq!(
            past.messages(kernel)[0],
            "alignment to 64 bytes",
            "{}",
            kernel.name
        );
        // ... and the block.
        let [_, scale, bias] = fits.channels;
        for (what, spoilt, expected) in [
            ("rows of the output", Product { rows: 3, ..fits }, "rows"),
            (
                "working memory",
                Product {
                    sums: fits.sums.min(short_working(kernel)),
                    ..fits
                },
                "working memory",
            ),
            (
                "working memory off its line",
                Product {
                    sums_past: 1,
                    ..fits
                },
                "alignment to 64 bytes",
            ),
            (
                "another output",
                Product {
                    output: Elem::F16,
                    ..fits
                },
                "destination",
            ),
            (
                "short comp",
                Product {
                    channels: [nr - 1, scale, bias],
                    ..fits
                },
                "channels",
            ),
            (
                "short scale",
                Product {
                    channels: [nr, nr - 1, bias],
                    ..fits
                },
                "channels",
            ),
            (
                "short bias",
                Product {
                    channels: [nr, scale, nr - 1],
                    ..fits
                },
                "channels",
            ),
        ] {
            let block = &spoilt.messages(kernel)[1];
            assert!(
                block.contains(expected),
                "{}: {what}: {block:?}",
                kernel.name
            );
        }
    }
}

/// Working memory of one value less than a tile.
fn short_working(kernel: Ready<MicroKernel>) -> usize {
    kernel.room(2, K) + kernel.tile.nr * kernel.tile.mr - 1
}

#[test]
fn spoilt_codes_are_not_widened() {
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        let said = |codes: usize, wide: usize| {
            let (codes, mut wide) = (vec![0u8; codes], vec![0u8; wide]);
            message(|| kernel.widen(&codes, &mut wide))
        };
        if kernel.code_bytes() == 1 {
            assert_eq!(
                said(64, 128),
                "a kernel that reads 16-bit codes",
                "{}",
                kernel.name
            );
            continue;
        }
        assert_eq!(said(64, 128), "", "{}", kernel.name);
        assert_eq!(said(63, 128), "codes", "{}", kernel.name);
        assert_eq!(said(64, 127), "widened codes", "{}", kernel.name);
    }
}

/// Two rows of 70 inputs, by the lengths of the operands.
#[derive(Clone, Copy)]
struct Quantize {
    source: Elem,
    inv: usize,
    t: usize,
    past: usize,
    codes: usize,
    stride: usize,
}

impl Quantize {
    fn message(&self, row: Ready<Prologue>) -> String {
        let (wide, narrow) = ([0f32; 140], [f16::ZERO; 140]);
        let x = match self.source {
            Elem::F32 => MatRef::new(&wide, 2, 70, 70),
            _ => MatRef::new(&narrow, 2, 70, 70),
        };
        let (x, inv, t) = (
            x.expect("whole rows"),
            vec![0.0; self.inv],
            vec![0.0; self.t],
        );
        let mut codes = Guarded::<u8>::aligned(self.past + self.codes);
        let form = CodeForm {
            max: 255,
            offset: 0,
        };
        let codes = &mut codes[self.past..];
        message(|| row.quantize(x, &inv, &t, form, codes, self.stride))
    }
}

#[test]
fn a_spoilt_norm_stops_at_its_assertion() {
    for row in table::norms().filter_map(Norm::ready) {
        let (wide, narrow) = ([0f32; 140], [f16::ZERO; 140]);
        let wide = MatRef::new(&wide, 2, 70, 70).unwrap();
        let narrow = MatRef::new(&narrow, 2, 70, 70).unwrap();
        let said = |x: MatRef<'_>, (rows, cols), weight: usize, bias: usize| {
            let (weight, bias, mut y) = (vec![0.0; weight], vec![0.0; bias], [0f32; 280]);
            let numbers = NormNumbers {
                kind: NormKind::Layer,
                weight: &weight,
                bias: &bias,
                eps: 0.0,
            };
            let y = MatMut::new(&mut y, rows, cols, cols).unwrap();
            message(|| row.normalize(x, numbers, y))
        };
        assert_eq!(said(wide, (2, 70), 70, 70), "", "{}", row.name);
        for (x, shape, weight, bias, expected) in [
            (narrow, (2, 70), 70, 70, "element types"),
            (wide, (3, 70), 70, 70, "shapes"),
            (wide, (2, 69), 70, 70, "shapes"),
            (wide, (2, 70), 69, 70, "weights and biases"),
            (wide, (2, 70), 70, 71, "weights and biases"),
        ] {
            let said = said(x, shape, weight, bias);
            assert!(said.contains(expected), "{}: {said}", row.name);
        }
        let numbers = NormNumbers {
            kind: NormKind::Rms,
            weight: &[0.0; 70],
            bias: &[0.0; 70],
            eps: 0.0,
        };
        let mut y = [f16::ZERO; 140];
        let y = MatMut::new(&mut y, 2, 70, 70).unwrap();
        let said = message(|| row.normalize(wide, numbers, y));
        assert!(said.contains("element types"), "{}: {said}", row.name);
    }
}

#[test]
fn spoilt_magnitudes_stop_at_their_assertion() {
    let rows = table::absmaxes().filter_map(Absmax::ready);
    for row in rows.filter(|row| row.source == Elem::F32) {
        let (wide, narrow) = ([0f32; 140], [f16::ZERO; 140]);
        let wide = MatRef::new(&wide, 2, 70, 70).unwrap();
        let narrow = MatRef::new(&narrow, 2, 70, 70).unwrap();
        let said = |x: MatRef<'_>, most: usize| message(|| row.raise(x, &mut vec![0.0; most]));
        assert_eq!(said(wide, 70), "", "{}", row.name);
        assert!(said(narrow, 70).contains("source type"), "{}", row.name);
        for most in [0, 69, 71] {
            assert!(said(wide, most).contains("columns"), "{}", row.name);
        }
    }
}

#[test]
fn a_spoilt_prologue_stops_at_its_assertion() {
    let rows = table::prologues().filter_map(Prologue::ready);
    for row in rows.filter(|row| row.source == Elem::F32) {
        let fits = Quantize {
            source: Elem::F32,
            inv: 128,
            t: 128,
            past: 0,
            codes: 192 + 128,
            stride: 192,
        };
        assert_eq!(fits.message(row), "", "{}", row.name);
        for (spoilt, expected) in [
            (
                Quantize {
                    source: Elem::F16,
                    ..fits
                },
                "source type",
            ),
            (Quantize { inv: 127, ..fits }, "inv and t"),
            (Quantize { t: 127, ..fits }, "inv and t"),
            (Quantize { past: 1, ..fits }, "alignment to 64 bytes"),
            (Quantize { stride: 64, ..fits }, "stride of codes"),
            (
                Quantize {
                    stride: 160,
                    ..fits
                },
                "stride of codes",
            ),
            (
                Quantize {
                    codes: fits.codes - 1,
                    ..fits
                },
                "codes",
            ),
            (
                Quantize {
                    stride: usize::MAX - 63,
                    ..fits
                },
                "codes",
            ),
        ] {
            let said = spoilt.message(row);
            // Exactly so, or after what `assert_eq!` says; "stride of codes" is not "codes".
            let last = said.lines().next().unwrap_or_default();
            let meant = last == expected || last.ends_with(&format!("failed: {expected}"));
            assert!(meant, "{}: {said:?} for {expected}", row.name);
        }
    }
}

#[test]
fn a_spoilt_epilogue_stops_at_its_assertion() {
    let rows = table::epilogues().filter_map(Epilogue::ready);
    for row in rows.filter(|row| row.destination == Destination::Store(Elem::F32)) {
        let said = |elem: Elem, sums: usize, columns: usize, channels: [usize; 3]| {
            let (mut wide, mut narrow) = (vec![0f32; 2 * columns], vec![f16::ZERO; 2 * columns]);
            let y = match elem {
                Elem::F32 => MatMut::new(&mut wide, 2, columns, columns),
                _ => MatMut::new(&mut narrow, 2, columns, columns),
            };
            let [comp, scale, bias] = channels;
            let (comp, scale, bias) = (vec![0; comp], vec![1.0; scale], vec![0.0; bias]);
            let channels = Channels {
                comp: &comp,
                scale: &scale,
                bias: &bias,
            };
            let (sums, y) = (vec![0i32; sums], y.expect("whole rows"));
            message(|| row.finish(&sums, 8, channels, y.into()))
        };
        assert_eq!(said(Elem::F32, 16, 8, [8; 3]), "", "{}", row.name);
        let other = said(Elem::F16, 16, 8, [8; 3]);
        assert!(other.contains("destination"), "{}: {other}", row.name);
        let nothing = said(Elem::F16, 16, 0, [8; 3]);
        assert!(nothing.contains("destination"), "{}: {nothing}", row.name);
        assert_eq!(
            said(Elem::F32, 15, 8, [8; 3]),
            "accumulators",
            "{}",
            row.name
        );
        assert_eq!(said(Elem::F32, 32, 9, [9; 3]), "columns", "{}", row.name);
        for channels in [[7, 8, 8], [8, 7, 8], [8, 8, 7]] {
            assert_eq!(said(Elem::F32, 16, 8, channels), "channels", "{}", row.name);
        }
    }
}
