//! Corrections, which kernels that multiply by Strassen's algorithm read beside panels (docs/math.md, eq.
//! 43).

#![cfg(all(unix, feature = "std"))]

mod guarded;
mod message;

use guarded::Guarded;
use message::message;
use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::output::Destination;
use noisyquant_kernels::ready::{self, Channels, Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;
use noisyquant_kernels::view::{Elem, MatMut};

/// Inputs, of which half a panel has 64.
const K: usize = 128;

/// All rows of the table that read them. (Whether the CPU has their instructions does not matter for making
/// them.)
fn rows() -> impl Iterator<Item = &'static MicroKernel> {
    table::micro_kernels().filter(|row| row.corrections(2, K) > 0)
}

/// Two and a half panels of weights.
fn weights(row: &MicroKernel) -> (usize, Vec<i8>) {
    let n = 5 * row.tile.nr / 2;
    let most = i32::from(row.max_weight);
    let code = |i: usize| ((i * 7919 + i / K * 31) as i32 % (2 * most + 1) - most) as i8;
    (n, (0..n * K).map(code).collect())
}

fn packed(row: &MicroKernel, n: usize, weights: &[i8]) -> Guarded<i8> {
    let layout = row.tile.panel();
    let mut panels = Guarded::<i8>::aligned(layout.packed_len(n, K).unwrap());
    layout.pack(weights, K, n, K, &mut panels);
    panels
}

#[test]
fn corrections_are_those_of_the_equation() {
    let x86 = cfg!(target_arch = "x86_64");
    let arm = cfg!(all(target_arch = "aarch64", target_endian = "little"));
    assert_eq!(rows().next().is_some(), x86 || arm, "rows to be tested");
    for row in rows() {
        let (n, codes) = weights(row);
        let nr = row.tile.nr;
        let panels = packed(row, n, &codes);
        let mut corrections = Guarded::<i32>::new(row.corrections(3, K));
        row.correct(&panels, K, &mut corrections);
        // `sdot` reads signed bytes, which need no bias.
        let bias = if row.isa == Isa::NeonDotprod { 0 } else { 63 };
        for channel in 0..nr {
            let (mut lower, mut c12) = (0, 0);
            for input in 0..K / 2 {
                let b = |next: usize, second: usize| {
                    i32::from(codes[(next * nr + channel) * K + second * K / 2 + input])
                };
                let (t1, t3) = (b(1, 0) - b(0, 0), b(1, 1) - b(1, 0));
                let t2 = b(1, 1) - t1;
                lower += bias * t2 + bias * t3;
                c12 += bias * t2 + 2 * bias * b(1, 1);
            }
            let got = [corrections[channel], corrections[nr + channel]];
            assert_eq!(got, [lower, c12], "{} {channel}", row.name);
        }
    }
}

#[test]
fn nothing_is_corrected_that_cannot_be_halved_or_paired() {
    for row in rows() {
        for (panels, k) in [(0, K), (1, K), (2, 64), (4, 192)] {
            assert_eq!(row.corrections(panels, k), 0, "{} {panels} {k}", row.name);
        }
        assert_eq!(row.corrections(5, K), row.corrections(4, K), "{}", row.name);
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for row in rows() {
        let (n, codes) = weights(row);
        let panels = packed(row, n, &codes);
        let count = row.corrections(3, K);
        for length in [0, count - 1, count + 1] {
            let said = message(|| row.correct(&panels, K, &mut vec![0; length]));
            assert!(said.contains("corrections"), "{}: {said}", row.name);
        }
    }
}

#[test]
fn a_block_wants_the_corrections_of_its_panels() {
    for kernel in rows().filter_map(MicroKernel::ready) {
        let count = kernel.corrections(2, K);
        assert_eq!(block(kernel, count), "", "{}", kernel.name);
        for length in [0, count - 1, count + 1, 2 * count] {
            let said = block(kernel, length);
            assert!(said.contains("corrections"), "{}: {said}", kernel.name);
        }
    }
}

/// What a block of two rows and panels says to so many corrections.
fn block(kernel: Ready<MicroKernel>, corrections: usize) -> String {
    let nr = kernel.tile.nr;
    let (codes, panels) = (
        Guarded::<u8>::new(2 * K),
        Guarded::<i8>::aligned(2 * nr * K),
    );
    let codes = Codes {
        bytes: &codes,
        stride: K,
        rows: 2,
        k: K,
        max: 63,
    };
    let panels = Panels {
        bytes: &panels,
        corrections: &vec![0; corrections],
        max: 31,
    };
    let (comp, scale, bias) = (vec![0; 2 * nr], vec![1.0; 2 * nr], vec![0.0; 2 * nr]);
    let channels = Channels {
        comp: &comp,
        scale: &scale,
        bias: &bias,
    };
    let mut working = Guarded::<i32>::aligned(kernel.room(2, K) + nr * kernel.tile.mr);
    let mut y = vec![0f32; 4 * nr];
    let y = MatMut::new(&mut y, 2, 2 * nr, 2 * nr).unwrap();
    let epilogue = ready::epilogue(kernel.isa, Destination::Store(Elem::F32)).unwrap();
    message(|| kernel.run_block(codes, panels, epilogue, channels, &mut working, y.into()))
}
