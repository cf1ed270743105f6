//! A host that used rayon, but not the library, before `fork()`. A binary of its own: nothing else may have
//! looked for the pool.

#![cfg(unix)]

mod common;
mod forked;

use common::{Rng, bits};
use forked::assert_in_child;
use noisyquant::{Executor, Isa, Numbers, QuantLinear, Scratch};
use rayon::prelude::*;

#[test]
fn a_child_finds_out_that_the_pool_of_its_host_is_gone() {
    let sum: usize = (0..1000usize).into_par_iter().sum();
    assert_eq!(sum, 499_500);
    let (rows, inputs, outputs) = (64, 128, 128);
    let mut rng = Rng(3);
    let codes: Vec<i8> = (0..inputs * outputs).map(|_| rng.word() as i8).collect();
    let numbers = Numbers::new(codes, vec![0.5; outputs], 0.1, 128.0);
    let layer = QuantLinear::from_numbers(numbers, Some(Isa::Scalar)).unwrap();
    let x = rng.floats(rows * inputs);
    let mut y = vec![0f32; rows * outputs];
    let mut scratch = Scratch::with_bytes(layer.scratch_bytes(rows, 1));
    let serial = layer.forward_into(&x, &mut y, &mut scratch, Executor::serial());
    serial.unwrap();
    assert_in_child(|| {
        let same = bits(&layer.forward(&x).unwrap()) == bits(&y);
        same && Executor::rayon().threads() == 1
    });
    // Where the host started it, the pool is there.
    assert_eq!(bits(&layer.forward(&x).unwrap()), bits(&y));
    assert!(rayon::current_thread_index().is_none());
}
