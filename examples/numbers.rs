//! A layer of numbers that another tool found, without any feature of the crate:
//!
//! ```text
//! cargo run --example numbers --no-default-features
//! ```

use noisyquant::{Error, Executor, Isa, Numbers, QuantLinear, Scratch};

fn main() -> Result<(), Error> {
    // What a quantized model holds for a layer of 4 inputs and 2 outputs.
    let weight_codes = vec![12, -7, 127, 0, -128, 3, 9, 44];
    let numbers = Numbers::new(weight_codes, vec![0.01, 0.02], 0.05, 113u8);
    let numbers = numbers.with_bias(vec![0.5, -0.5]);

    // Without detection of the CPU, what the program was compiled for is there, and always `scalar`.
    let isa = Isa::available().last();
    let layer = QuantLinear::from_numbers(numbers, isa)?;
    println!("{}", layer.explain(2));

    let x = [0.3f32, -1.2, 5.0, 0.0, 1.0, 1.0, -4.0, 2.5];
    let mut y = [0f32; 4];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(2, 1));
    layer.forward_into(&x, &mut y, &mut scratch, Executor::serial())?;
    println!("{y:?}");
    Ok(())
}
