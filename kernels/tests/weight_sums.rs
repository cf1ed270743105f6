//! Sums of weights, which kernels that multiply by Strassen's algorithm read beside panels (docs/math.md, eq.
//! 41).

#![cfg(all(unix, feature = "std"))]

mod guarded;
mod message;

use guarded::Guarded;
use message::message;
use noisyquant_kernels::output::Destination;
use noisyquant_kernels::ready::{self, Channels, Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;
use noisyquant_kernels::view::MatMut;

/// Inputs, of which half a panel has 64.
const K: usize = 128;

/// All rows of the table that read sums. (Whether the CPU has their instructions does not matter for making
/// them.)
fn rows() -> impl Iterator<Item = &'static MicroKernel> {
    table::micro_kernels().filter(|row| row.sums_bytes(2, K) > 0)
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
fn sums_are_those_of_the_equation() {
    for row in rows() {
        let (n, codes) = weights(row);
        let (nr, layout) = (row.tile.nr, row.tile.panel());
        let panels = packed(row, n, &codes);
        let mut sums = Guarded::<i8>::aligned(row.sums_bytes(3, K));
        row.sum_weights(&panels, K, &mut sums);
        let half = nr * K / 2;
        let bias = if row.code_offset == 0 && row.isa.name() != "neondotprod" {
            63
        } else {
            0
        };
        for channel in 0..nr {
            let (mut lower, mut c12) = (0, 0);
            for input in 0..K / 2 {
                let b = |next: usize, second: usize| {
                    i32::from(codes[(next * nr + channel) * K + second * K / 2 + input])
                };
                let (b11, b12, b21, b22) = (b(0, 0), b(1, 0), b(0, 1), b(1, 1));
                let (t1, t3) = (b12 - b11, b22 - b12);
                let t2 = b22 - t1;
                let at = layout.index(channel, input, K);
                for (index, t) in [t1, t2, t3, b21 - t2].into_iter().enumerate() {
                    let got = i32::from(sums[index * half + at]);
                    assert_eq!(got, t, "{}: T{} {channel} {input}", row.name, index + 1);
                }
                lower += bias * (t2 + t3);
                c12 += bias * (t2 + 2 * b22);
            }
            for (index, expected) in [lower, c12].into_iter().enumerate() {
                let at = 4 * half + (index * nr + channel) * 4;
                let bytes: [i8; 4] = sums[at..at + 4].try_into().unwrap();
                let got = i32::from_ne_bytes(bytes.map(i8::cast_unsigned));
                assert_eq!(got, expected, "{}: correction {index} {channel}", row.name);
            }
        }
    }
}

#[test]
fn nothing_is_summed_that_cannot_be_halved_or_paired() {
    for row in rows() {
        for (panels, k) in [(0, K), (1, K), (2, 64), (4, 192)] {
            assert_eq!(row.sums_bytes(panels, k), 0, "{} {panels} {k}", row.name);
        }
        assert_eq!(row.sums_bytes(5, K), row.sums_bytes(4, K), "{}", row.name);
    }
}

#[test]
fn wrong_lengths_and_weights_are_refused() {
    for row in rows() {
        let (n, mut codes) = weights(row);
        let panels = packed(row, n, &codes);
        let bytes = row.sums_bytes(3, K);
        for length in [0, bytes - 1, bytes + 1] {
            let said = message(|| row.sum_weights(&panels, K, &mut vec![0; length]));
            assert!(said.contains("sums of weights"), "{}: {said}", row.name);
        }
        for weight in [32, -32, -128] {
            codes[n * K - 1] = weight;
            let panels = packed(row, n, &codes);
            let said = message(|| row.sum_weights(&panels, K, &mut vec![0; bytes]));
            assert!(said.contains("weights to 31"), "{}: {said}", row.name);
        }
    }
}

#[test]
fn a_block_wants_the_sums_of_its_panels() {
    for kernel in rows().filter_map(MicroKernel::ready) {
        let bytes = kernel.sums_bytes(2, K);
        assert_eq!(block(kernel, bytes, 0), "", "{}", kernel.name);
        for length in [0, bytes - 1, bytes + 1, 2 * bytes] {
            let said = block(kernel, length, 0);
            assert!(said.contains("sums of weights"), "{}: {said}", kernel.name);
        }
        let said = block(kernel, bytes, 1);
        assert!(said.contains("alignment to 64"), "{}: {said}", kernel.name);
    }
}

/// What a block of two rows and panels says to so many bytes of sums, which begin so far past a cache line.
fn block(kernel: Ready<MicroKernel>, bytes: usize, past: usize) -> String {
    let nr = kernel.tile.nr;
    let (codes, panels) = (
        Guarded::<u8>::new(2 * K),
        Guarded::<i8>::aligned(2 * nr * K),
    );
    let sums = Guarded::<i8>::aligned(past + bytes);
    let codes = Codes {
        bytes: &codes,
        stride: K,
        rows: 2,
        k: K,
        max: 63,
    };
    let panels = Panels {
        bytes: &panels,
        sums: &sums[past..],
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
    let f32s = Destination::Store(noisyquant_kernels::view::Elem::F32);
    let epilogue = ready::epilogue(kernel.isa, f32s).unwrap();
    message(|| kernel.run_block(codes, panels, epilogue, channels, &mut working, y.into()))
}
