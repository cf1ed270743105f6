//! Block leaves: codes and panels to outputs.

use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::output::Destination;
use noisyquant_kernels::ready::{self, Channels, Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::spec::{self, Activation};

use super::epilogue::{Cell, Check, Quantizers, Way, of_destination};
use super::operands::{FILLS, Rng, around, fill, store_codes, widest};
use crate::guarded::Guarded;

/// The block leaf with the epilogues of the kernel's set: several panels, the last one partial, outputs
/// strided and ending at the unmapped page, without activation and with one of the others in turn.
pub fn check(kernel: Ready<MicroKernel>) {
    let (mr, nr) = (kernel.tile.mr, kernel.tile.nr);
    // Behind two tiles, one of every height.
    let rows = around(mr).into_iter().chain(2 * mr + 2..3 * mr);
    let columns = around(nr).into_iter().chain([3 * nr - 2]);
    check_blocks(kernel, rows.collect(), columns.collect());
    if kernel.together() > 1 {
        assert!(kernel.is_strassen(24, 128), "{}", kernel.name);
        check_strassen(kernel);
    }
}

/// Blocks that are high enough for Strassen's algorithm: halves of every height of a tile, an odd row, a
/// panel without another, a pair of which little is there.
fn check_strassen(kernel: Ready<MicroKernel>) {
    let nr = kernel.tile.nr;
    let mut activations = Activation::ALL.into_iter().cycle();
    let (all, first) = (&Destination::ALL[..], &Destination::ALL[..1]);
    for (k, rows, columns, destinations) in [
        (128, vec![24, 26, 30, 38, 43], vec![2 * nr], all),
        (
            70,
            vec![24],
            vec![nr + nr / 2, nr + nr / 2 + 1, 3 * nr],
            first,
        ),
        (384, vec![117], vec![4 * nr - 1], first),
    ] {
        for &destination in destinations {
            let mut block = Block {
                kernel,
                destination,
                k,
                tiles: 1,
                kind: "random",
                activation: Activation::Identity,
                rows: rows.clone(),
                columns: columns.clone(),
            };
            of_destination(destination, &block);
            block.activation = activations.next().unwrap();
            (block.rows, block.kind) = (vec![25], "max, both");
            of_destination(destination, &block);
        }
    }
    for kind in FILLS {
        let block = Block {
            kernel,
            destination: Destination::ALL[0],
            k: 128,
            tiles: 2,
            kind,
            activation: Activation::Identity,
            rows: vec![24],
            columns: vec![2 * nr],
        };
        of_destination(block.destination, &block);
    }
}

fn check_blocks(kernel: Ready<MicroKernel>, rows: Vec<usize>, columns: Vec<usize>) {
    let mut activations = Activation::ALL.into_iter().cycle();
    for (k, tiles) in [(64, 1), (192, 1), (100, 3)] {
        for destination in Destination::ALL {
            let narrow = matches!(destination, Destination::Store(elem) if elem.size() < 4);
            let mut block = Block {
                kernel,
                destination,
                k,
                tiles,
                kind: "random",
                activation: Activation::Identity,
                rows: rows.clone(),
                columns: columns.clone(),
            };
            if k == 64 || !narrow {
                of_destination(destination, &block);
                block.activation = activations.next().unwrap();
                of_destination(destination, &block);
            }
        }
    }
    for kind in FILLS {
        let block = Block {
            kernel,
            destination: Destination::ALL[0],
            k: 64,
            tiles: 2,
            kind,
            activation: Activation::Identity,
            rows: rows.clone(),
            columns: columns.clone(),
        };
        of_destination(block.destination, &block);
    }
}

/// What [`check`] runs: a kernel on `k` inputs, with working memory for `tiles` tiles, for each number of
/// rows and each of columns.
struct Block {
    kernel: Ready<MicroKernel>,
    destination: Destination,
    k: usize,
    tiles: usize,
    kind: &'static str,
    activation: Activation,
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Check for Block {
    fn way<C: Cell>(&self, way: Way<C>) {
        check_sizes(self, &way);
    }
}

fn check_sizes<C: Cell>(block: &Block, way: &Way<C>) {
    let Block {
        kernel,
        destination,
        k,
        tiles,
        kind,
        activation,
        ref rows,
        ref columns,
    } = *block;
    let nr = kernel.tile.nr;
    let width = widest(&kernel);
    let epilogue = ready::epilogue(kernel.isa, destination).unwrap();
    let mut rng = Rng(17);
    for &m in rows {
        for &n in columns {
            let mut codes = vec![0u8; m * k];
            let mut weights = vec![0i8; n * k];
            fill(kind, width, &mut codes, &mut weights);
            let panel = kernel.panel();
            let mut packed = Guarded::<i8>::aligned(panel.packed_len(n, k).unwrap());
            panel.pack(&weights, k, n, k, &mut packed);
            let mut corrections = Guarded::<i32>::new(kernel.corrections(panel.panels(n), k));
            kernel.correct(&packed, k, &mut corrections);
            let stride = codes_stride(k) * kernel.code_bytes();
            let mut a = Guarded::<u8>::new((m - 1) * stride + padded_k(k) * kernel.code_bytes());
            for (r, row) in codes.chunks_exact(k).enumerate() {
                let to = &mut a[r * stride..][..padded_k(k) * kernel.code_bytes()];
                store_codes(kernel, row, to);
            }
            let padded = n.next_multiple_of(nr);
            let comp: Vec<i32> = (0..padded).map(|_| rng.below(999) as i32 - 500).collect();
            let scale: Vec<f32> = (0..padded).map(|_| rng.float() + 2.0).collect();
            let bias: Vec<f32> = (0..padded).map(|_| rng.float()).collect();
            // What the layer does about the offset (eq. 6a).
            let mut stored_comp = comp.clone();
            for (comp, weights) in stored_comp.iter_mut().zip(weights.chunks_exact(k)) {
                let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
                *comp += i32::from(kernel.code_offset) * sum;
            }
            let channels = Channels {
                comp: &stored_comp,
                scale: &scale,
                bias: &bias,
            };
            let y_stride = n + m % 3;
            let mut y = Guarded::<C>::new((m - 1) * y_stride + n);
            y.fill(way.before);
            let quantizers = Quantizers::new(&mut rng, n, 2e4);
            let coding = quantizers.coding();
            let accumulators = tiles * kernel.tile.mr * nr;
            // Not only whole tiles.
            let accumulators = accumulators + m % 2 * (nr + 3);
            let mut working = Guarded::<i32>::aligned(kernel.room(m, k) + accumulators);
            let out = (way.output)(&mut y, (m, n, y_stride), coding).activated(activation);
            let operand = Codes {
                bytes: &a,
                stride,
                rows: m,
                k,
                max: width.0,
            };
            let panels = Panels {
                bytes: &packed,
                corrections: &corrections,
                max: width.1,
            };
            kernel.run_block(operand, panels, epilogue, channels, &mut working, out);
            for (i, value) in y.iter().enumerate() {
                let (r, col) = (i / y_stride, i % y_stride);
                let expected = if col < n {
                    let row = &codes[r * k..(r + 1) * k];
                    let acc = spec::accumulate(row, &weights[col * k..(col + 1) * k]);
                    let value = activation.of(spec::output(acc, comp[col], scale[col], bias[col]));
                    (way.expected)(value, col, way.before, coding)
                } else {
                    way.before
                };
                assert_eq!(
                    value.bits(),
                    expected.bits(),
                    "{} block {kind} {destination:?} {activation:?} m={m} n={n} at {:?}",
                    kernel.name,
                    (r, col)
                );
            }
        }
    }
}
