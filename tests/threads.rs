//! The bits do not depend on the number of threads, nor on what the scratch was made for.

mod common;

use common::{Problem, bits, isas};
use noisyquant::Noise;
use rayon::ThreadPoolBuilder;

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // Tall, short, one row, wide and narrow; large enough to be worth a second thread.
    for (m, k, n) in [
        (197, 384, 384),
        (3, 1024, 3000),
        (1, 2048, 2048),
        (64, 512, 33),
        (500, 64, 200),
    ] {
        let problem = Problem::new(m, k, n);
        for isa in isas().into_iter().filter(|isa| isa.name() != "scalar") {
            let layer = problem
                .builder()
                .noise(Noise::Uniform {
                    range: 0.1,
                    seed: 5,
                })
                .calibrate(&problem.x)
                .isa(isa)
                .build()
                .unwrap();
            let mut serial = vec![0f32; m * n];
            let mut scratch = layer.scratch_with_threads(m, 1);
            layer
                .forward_into(&problem.x, &mut serial, &mut scratch)
                .unwrap();
            for threads in [1, 2, 3, 7, 16] {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let (y, tasks) = pool.install(|| {
                    let mut y = vec![f32::NAN; m * n];
                    let mut scratch = layer.scratch(m);
                    assert_eq!(scratch.threads(), threads);
                    layer
                        .forward_into(&problem.x, &mut y, &mut scratch)
                        .unwrap();
                    (y, layer.explain(m).tasks)
                });
                assert_eq!(
                    bits(&y),
                    bits(&serial),
                    "{isa} {m}x{k}x{n}, {tasks} of {threads}"
                );
            }
        }
    }
}

#[test]
fn a_scratch_of_fewer_slots_than_the_pool_still_serves() {
    let problem = Problem::new(197, 384, 384);
    let layer = problem.builder().calibrate(&problem.x).build().unwrap();
    let expected = layer.forward(&problem.x).unwrap();
    let pool = ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    for slots in 1..=5 {
        let mut scratch = noisyquant::Scratch::with_bytes(layer.scratch_bytes(197, slots), 5);
        let mut y = vec![0f32; 197 * 384];
        pool.install(|| layer.forward_into(&problem.x, &mut y, &mut scratch))
            .unwrap();
        assert_eq!(bits(&y), bits(&expected));
    }
}
