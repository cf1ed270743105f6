//! Makes a layer of numbers and runs it, by the crate without any of its features:
//!
//! ```text
//! cargo run --release --manifest-path tools/no_std/Cargo.toml --target-dir target/no_std --bin layer
//! ```
//!
//! Writes the name of the kernel that ran; exits with 1 if an output is wrong.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::ffi::c_int;

use no_std::print;
use noisyquant::{Error, Executor, Isa, Numbers, QuantLinear, Scratch};

const ROWS: usize = 5;
const INPUTS: usize = 70;
const OUTPUTS: usize = 40;
const ZERO: i32 = 113;

fn code(row: usize, k: usize) -> i32 {
    ((row * 37 + k * 11) % 256) as i32
}

fn weight(n: usize, k: usize) -> i32 {
    ((n * 29 + k * 13) % 255) as i32 - 127
}

/// Whether all outputs are `Σ (u − z) · w`.
fn check() -> Result<bool, Error> {
    let weights = (0..OUTPUTS * INPUTS).map(|i| weight(i / INPUTS, i % INPUTS) as i8);
    let numbers = Numbers::new(weights.collect(), vec![1.0; OUTPUTS], 1.0, ZERO as f32);
    let layer = QuantLinear::from_numbers(numbers, Isa::available().last())?;
    print(layer.kernel());
    let inputs = (0..ROWS * INPUTS).map(|i| (code(i / INPUTS, i % INPUTS) - ZERO) as f32);
    let inputs: Vec<f32> = inputs.collect();
    let mut outputs = vec![0f32; ROWS * OUTPUTS];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(ROWS, 1));
    layer.forward_into(&inputs, &mut outputs, &mut scratch, Executor::serial())?;
    Ok(outputs.iter().enumerate().all(|(i, output)| {
        let (row, n) = (i / OUTPUTS, i % OUTPUTS);
        let terms = (0..INPUTS).map(|k| (code(row, k) - ZERO) * weight(n, k));
        *output == terms.sum::<i32>() as f32
    }))
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    match check() {
        Ok(true) => {
            print("\n");
            0
        }
        Ok(false) => {
            print(" is wrong\n");
            1
        }
        Err(_) => {
            print("refused\n");
            1
        }
    }
}
