//! Runs each micro-kernel that the program is compiled for, and compares with the specification:
//!
//! ```text
//! cargo run --release --manifest-path tools/no_std/Cargo.toml --target-dir target/no_std --bin kernels
//! ```
//!
//! Writes the names of the kernels that ran; exits with 1 if one of them is wrong.

#![no_std]
#![no_main]

use core::ffi::c_int;

use no_std::print;
use noisyquant_kernels::ready::{Codes, Panels, Ready};
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::{spec, table};

/// Inputs of the product.
const K: usize = 64;
/// The largest tile of the table has as many rows, and as many channels.
const MOST: usize = 32;

#[repr(C, align(64))]
struct Operands {
    panel: [i8; MOST * K],
    sums: [i32; MOST * MOST],
    /// As stored, and as widened for kernels that read them so.
    codes: [u8; MOST * K],
    wide: [u8; 2 * MOST * K],
}

/// Whether a tile of the kernel is as the specification says.
fn check(kernel: Ready<MicroKernel>) -> bool {
    let (rows, nr) = (kernel.tile.mr, kernel.tile.nr);
    let max_code = kernel.max_code.min(63);
    let max_weight = kernel.form.max_weight().min(31);
    let code = |row: usize, k: usize| ((row * 37 + k * 11) % (usize::from(max_code) + 1)) as u8;
    let weight =
        |n: usize, k: usize| ((n * 29 + k * 13) % (2 * max_weight as usize + 1)) as i8 - max_weight;
    let mut o = Operands {
        panel: [0; MOST * K],
        sums: [0; MOST * MOST],
        codes: [0; MOST * K],
        wide: [0; 2 * MOST * K],
    };
    let mut weights = [[0i8; K]; MOST];
    for (n, channel) in weights.iter_mut().enumerate() {
        *channel = core::array::from_fn(|k| weight(n, k));
    }
    let layout = kernel.panel();
    let panel = &mut o.panel[..layout.panel_bytes(K)];
    layout.pack(weights[..nr].as_flattened(), K, nr, K, panel);
    for row in 0..rows {
        for k in 0..K {
            o.codes[row * K + k] = code(row, k).wrapping_sub(kernel.code_offset);
        }
    }
    let bytes = match kernel.code_bytes() {
        1 => &o.codes[..rows * K],
        _ => {
            kernel.widen(&o.codes[..rows * K], &mut o.wide);
            &o.wide[..2 * rows * K]
        }
    };
    let codes = Codes {
        bytes,
        stride: bytes.len() / rows,
        rows,
        k: K,
        max: max_code,
    };
    let panels = Panels {
        bytes: panel,
        corrections: &[],
        max: max_weight.unsigned_abs(),
    };
    kernel.run(codes, panels, &mut o.sums);
    (0..rows).all(|row| {
        let codes: [u8; K] = core::array::from_fn(|k| code(row, k));
        (0..nr).all(|n| {
            let sum: i32 = weights[n].iter().map(|w| i32::from(*w)).sum();
            let stored =
                spec::accumulate(&codes, &weights[n]) - i32::from(kernel.code_offset) * sum;
            o.sums[row * nr + n] == stored
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let mut wrong = 0;
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        print(kernel.name);
        match check(kernel) {
            true => print("\n"),
            false => {
                print(" is wrong\n");
                wrong = 1;
            }
        }
    }
    wrong
}
