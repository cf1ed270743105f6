//! Layers out of a file take little more memory than they keep. One test in this binary: the counter is
//! global.

mod peak;

use std::io::Cursor;

use noisyquant::{Numbers, QuantLinear, io};
use rayon::ThreadPoolBuilder;

const LAYERS: usize = 16;
const WIDTH: usize = 512;

fn layer(bits: u32) -> QuantLinear {
    let code = |i: usize| ((i * 2_654_435_761) as i8 >> (8 - bits)).max(-127);
    let codes = (0..WIDTH * WIDTH).map(code).collect();
    let numbers = Numbers::new(codes, vec![0.5; WIDTH], 0.25, 3.0);
    let numbers = numbers.with_weight_bits(bits).with_activation_bits(bits);
    QuantLinear::from_numbers(numbers, None).unwrap()
}

#[test]
fn a_file_is_loaded_in_half_as_much_again_as_its_packed_weights() {
    for bits in [8, 6, 4] {
        let layer = layer(bits);
        let names = (0..LAYERS).map(|i| format!("blocks.{i}.mlp.fc1"));
        let file = io::to_bytes(names.map(|name| (name, &layer))).unwrap();
        for threads in [1, 8] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            let load = || io::Reader::new(Cursor::new(&file))?.layers(None);
            let (layers, most) = pool.unwrap().install(|| peak::of(load));
            let layers = layers.unwrap();
            let packed: usize = layers.values().map(QuantLinear::packed_bytes).sum();
            let kept: usize = layers.values().map(QuantLinear::memory_bytes).sum();
            println!(
                "{bits} bits, {threads} threads: {packed} packed, {kept} kept, {most} at most"
            );
            assert!(
                most >= kept,
                "what layers say of themselves: {kept} in {most}"
            );
            assert!(most <= packed + packed / 2, "{most} for {packed}");
        }
    }
}
