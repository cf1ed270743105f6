//! Bad input: an error that names what was expected and what was got, never a panic.

mod common;

use common::Problem;
use noisyquant::{
    ActivationRange, Builder, Error, Executor, Isa, MatMut, MatRef, Noise, QuantLinear, Quantizer,
    Scratch,
};

const UNIT: Quantizer = Quantizer::symmetric(ActivationRange::Fixed {
    min: -1.0,
    max: 1.0,
});

fn builder(weight: &[f32], n: usize, k: usize) -> Builder<'_> {
    QuantLinear::builder(weight, n, k).quantizer(UNIT)
}

/// The message of the error that `builder` ends in.
fn refusal(builder: Builder<'_>) -> String {
    builder.build().expect_err("should be refused").to_string()
}

#[test]
fn wrong_lengths_and_dimensions() {
    let weight = [0.5f32; 12];
    assert_eq!(
        refusal(builder(&weight, 3, 5)),
        "weight: expected 15 elements, got 12"
    );
    assert!(refusal(builder(&weight, 0, 4)).contains("out_features: expected 1..="));
    assert!(refusal(builder(&weight, 4, 0)).contains("in_features: expected 1..=65536, got 0"));
    assert!(refusal(builder(&weight, 1, 65_537)).contains("expected 1..=65536, got 65537"));
    assert!(refusal(builder(&weight, usize::MAX, 64)).contains("out_features"));
    assert!(refusal(builder(&weight, usize::MAX / 64, 64)).contains("out_features"));
    assert!(
        refusal(builder(&weight, 3, 4).bias(&[1.0; 2]))
            .contains("bias: expected 3 elements, got 2")
    );
    let message = refusal(builder(&weight, 3, 4).calibration_rows(&[1.0; 6]));
    assert_eq!(
        message,
        "calibration rows: expected rows of 4 elements, got 6 elements"
    );
    let message = refusal(builder(&weight, 3, 4).noise(Noise::PerChannel(vec![0.0; 3])));
    assert_eq!(message, "noise: expected 4 elements, got 3");
}

#[test]
fn bits_out_of_range() {
    let weight = [0.5f32; 12];
    for bits in [0, 1, 9, u32::MAX] {
        let message = refusal(builder(&weight, 3, 4).weight_bits(bits));
        assert_eq!(message, format!("weight_bits: expected 2..=8, got {bits}"));
        let message = refusal(builder(&weight, 3, 4).activation_bits(bits));
        assert_eq!(
            message,
            format!("activation_bits: expected 2..=8, got {bits}")
        );
    }
}

#[test]
fn values_that_are_not_finite() {
    let good = [0.5f32; 12];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut weight = good;
        weight[7] = bad;
        assert!(refusal(builder(&weight, 3, 4)).contains("at index 7"));
        assert!(refusal(builder(&good, 3, 4).bias(&[0.0, bad, 0.0])).contains("bias"));
        assert!(
            refusal(builder(&good, 3, 4).calibration_rows(&[bad; 4])).contains("calibration rows")
        );
        let noise = Noise::PerChannel(vec![bad; 4]);
        assert!(refusal(builder(&good, 3, 4).noise(noise)).contains("noise"));
        let noise = Noise::Uniform {
            range: bad,
            seed: 0,
        };
        assert!(refusal(builder(&good, 3, 4).noise(noise)).contains("noise range"));
        let quantizer = Quantizer::symmetric(ActivationRange::Fixed { min: bad, max: 1.0 });
        assert!(refusal(builder(&good, 3, 4).quantizer(quantizer)).contains("fixed range"));
        let quantizer = Quantizer::asymmetric(ActivationRange::Percentile(bad));
        let builder = builder(&good, 3, 4)
            .calibration_rows(&[1.0; 4])
            .quantizer(quantizer);
        assert!(refusal(builder).contains("percentile"));
    }
}

#[test]
fn huge_values_are_refused_or_work() {
    // Extreme but finite weights, inputs, biases and noise in all combinations: no panic.
    let extremes = [0.0f32, 1e-45, f32::MIN_POSITIVE, 1.0, 1e30, f32::MAX];
    let mut refused = 0;
    for w in extremes {
        for x in extremes {
            for n in extremes {
                let layer = QuantLinear::builder(&[w, -w, w, w], 2, 2)
                    .bias(&[f32::MAX, -1.0])
                    .noise(Noise::PerChannel(vec![n, -n]))
                    .calibration_rows(&[x, -x])
                    .build();
                match layer {
                    Ok(layer) => {
                        let y = layer.forward(&[x, f32::NAN, f32::INFINITY, -x]).unwrap();
                        assert!(y.iter().all(|y| !y.is_nan()), "w={w} x={x} n={n}: {y:?}");
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("expected"), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn missing_calibration() {
    let weight = [0.5f32; 12];
    for range in [
        ActivationRange::MinMax,
        ActivationRange::Percentile(99.0),
        ActivationRange::Mse,
    ] {
        let builder = QuantLinear::builder(&weight, 3, 4).quantizer(Quantizer::symmetric(range));
        assert!(refusal(builder).contains("needs calibration rows"));
    }
    let message = refusal(builder(&weight, 3, 4).noise(Noise::Searched { seed: 0 }));
    assert!(
        message.starts_with("searched noise needs calibration rows"),
        "{message}"
    );
}

#[test]
fn noise_that_could_overflow_the_correction() {
    let weight = vec![1.0f32; 1000];
    let noise = Noise::PerChannel(vec![1e9; 1000]);
    let message = refusal(builder(&weight, 1, 1000).noise(noise));
    assert!(
        message.contains("output channel 0: expected") && message.contains("i32"),
        "{message}"
    );
}

#[test]
fn calls_that_do_not_fit() {
    let problem = Problem::new(2, 4, 3);
    let layer = problem
        .builder()
        .calibration_rows(&problem.x)
        .build()
        .unwrap();
    let mut scratch = layer.scratch(2);
    let mut y = [0f32; 6];
    let error = layer
        .forward_into(&[1f32; 7], &mut y, &mut scratch, Executor::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "input: expected rows of 4 elements, got 7 elements"
    );
    let error = layer
        .forward_into(&[1f32; 8], &mut y[..5], &mut scratch, Executor::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "output: expected 6 elements, got 5");

    let mut small = Scratch::with_bytes(64);
    let error = layer
        .forward_into(&[1f32; 8], &mut y, &mut small, Executor::default())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::ScratchTooSmall {
                got: 64,
                rows: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(y, [0.0; 6], "nothing written");

    let x = [1f32; 10];
    let x = MatRef::new(&x, 2, 5, 5).unwrap();
    let out = MatMut::new(&mut y, 2, 3, 3).unwrap();
    let error = layer
        .forward_view(x, out, &mut scratch, Executor::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "input: expected (2, 4) (rows, columns), got (2, 5)"
    );
    let x = [1f32; 8];
    let x = MatRef::new(&x, 2, 4, 4).unwrap();
    let out = MatMut::new(&mut y, 3, 2, 2).unwrap();
    let error = layer
        .forward_view(x, out, &mut scratch, Executor::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "output: expected (2, 3) (rows, columns), got (3, 2)"
    );
}

#[test]
fn an_instruction_set_that_is_not_there() {
    let foreign = if cfg!(target_arch = "x86_64") {
        Isa::Neon
    } else {
        Isa::Avx2
    };
    let message = refusal(builder(&[1.0; 4], 2, 2).isa(foreign));
    assert!(
        message.contains(foreign.name()) && message.contains("scalar"),
        "{message}"
    );
}

/// More than a process can have of memory, but less than overflows.
#[test]
fn memory_that_cannot_be_had_is_an_error_or_a_panic_and_never_the_end_of_the_process() {
    for bytes in [
        1 << 60,
        isize::MAX as usize / 2,
        isize::MAX as usize,
        usize::MAX,
    ] {
        let error = Scratch::try_with_bytes(bytes).unwrap_err();
        let said = format!("scratch: expected {bytes} bytes of memory, got none");
        assert_eq!(error.to_string(), said);
        let panicked = std::panic::catch_unwind(|| Scratch::with_bytes(bytes).bytes());
        let message = panicked.unwrap_err();
        assert_eq!(message.downcast_ref::<String>(), Some(&said));
    }
    assert_eq!(Scratch::try_with_bytes(65).unwrap().bytes(), 65);
}
