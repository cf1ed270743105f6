//! The embedded model on its images, in f32 and quantized.

use noisyquant::{Isa, Noise};
use noisyquant_vit::{Calibration, Error, Linear, Recipe, Vit, Workspace, embedded};

const IMAGES: usize = 500;

fn float() -> Vit {
    Vit::from_safetensors(embedded::WEIGHTS).unwrap()
}

fn calibration(vit: &Vit) -> Calibration {
    let images = embedded::calibration().unwrap();
    Calibration::collect(vit, &images.normalised(vit.config(), 0..64).unwrap(), 256).unwrap()
}

/// Logits of all test images.
fn logits(vit: &Vit) -> Vec<f32> {
    let images = embedded::test()
        .unwrap()
        .normalised(vit.config(), 0..IMAGES)
        .unwrap();
    let mut logits = vec![0.0; IMAGES * 10];
    let mut workspace = Workspace::new(vit, 50);
    for (images, logits) in images
        .chunks(50 * vit.config().pixels())
        .zip(logits.chunks_mut(50 * 10))
    {
        vit.forward(images, logits, &mut workspace).unwrap();
    }
    logits
}

fn answers(logits: &[f32]) -> Vec<usize> {
    logits
        .chunks(10)
        .map(|row| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap())
        .collect()
}

fn share_equal(a: &[usize], b: impl Iterator<Item = usize>) -> f64 {
    a.iter().zip(b).filter(|(a, b)| **a == *b).count() as f64 / a.len() as f64
}

#[test]
fn float_is_right_and_w8a8_nearly_always_agrees() {
    let vit = float();
    let reference = logits(&vit);
    let labels = embedded::test().unwrap();
    let top1 = share_equal(
        &answers(&reference),
        labels.labels().iter().map(|&label| label.into()),
    );
    assert!(top1 >= 0.96, "f32 is right on {top1}");
    let calibration = calibration(&vit);
    for noise in [Noise::None, Noise::Searched { seed: 0 }] {
        let recipe = Recipe::new(8).with_noise(noise);
        let quantized = logits(&vit.quantize(&recipe, &calibration).unwrap());
        let agreement = share_equal(&answers(&quantized), answers(&reference).into_iter());
        assert!(
            agreement >= 0.99,
            "W8A8 ({:?}) agrees with f32 on {agreement}",
            recipe.noise
        );
        assert_ne!(quantized, reference, "nothing was quantized");
    }
}

#[test]
fn logits_do_not_depend_on_threads_batches_or_instruction_set() {
    let vit = float();
    let calibration = calibration(&vit);
    let images = embedded::test()
        .unwrap()
        .normalised(vit.config(), 0..6)
        .unwrap();
    let recipe = Recipe::new(6).with_noise(Noise::Uniform {
        range: 0.02,
        seed: 7,
    });
    let quantized = vit.quantize(&recipe, &calibration).unwrap();
    let mut expected = vec![0.0; 60];
    quantized
        .forward(
            &images,
            &mut expected,
            &mut Workspace::serial(&quantized, 6),
        )
        .unwrap();

    let run = |vit: &Vit, batch: usize| {
        let mut logits = vec![0.0; 60];
        let mut workspace = Workspace::new(vit, batch);
        for (images, logits) in images
            .chunks(batch * 784)
            .zip(logits.chunks_mut(batch * 10))
        {
            vit.forward(images, logits, &mut workspace).unwrap();
        }
        logits
    };
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        for batch in [1, 4, 6] {
            assert_eq!(
                pool.install(|| run(&quantized, batch)),
                expected,
                "{threads} threads, batches of {batch}"
            );
        }
    }
    let scalar = vit.quantize(&recipe.on(Isa::Scalar), &calibration).unwrap();
    assert_eq!(run(&scalar, 6), expected, "scalar");
}

#[test]
fn calibration_keeps_the_same_rows_in_every_run() {
    let vit = float();
    let images = embedded::calibration()
        .unwrap()
        .normalised(vit.config(), 0..20)
        .unwrap();
    let [once, again] = [(); 2].map(|()| Calibration::collect(&vit, &images, 100).unwrap());
    for (layer, linear) in vit.linears().enumerate() {
        let expected_rows = if vit.layer_name(layer) == "head" {
            20
        } else {
            100
        };
        assert_eq!(
            once.rows(layer).len(),
            expected_rows * linear.in_features(),
            "{}",
            vit.layer_name(layer)
        );
        assert_eq!(once.rows(layer), again.rows(layer));
    }
    assert!(once.rows(26).is_empty());
}

#[test]
fn every_layer_is_quantized() {
    let vit = float();
    let quantized = vit.quantize(&Recipe::new(4), &calibration(&vit)).unwrap();
    assert_eq!(quantized.linears().count(), 1 + 4 * 6 + 1);
    assert!(
        quantized
            .linears()
            .all(|layer| matches!(layer, Linear::Quantized(_)))
    );
}

#[test]
fn wrong_uses_are_errors() {
    let vit = float();
    let calibration = calibration(&vit);
    let quantized = vit.quantize(&Recipe::new(8), &calibration).unwrap();
    let again = quantized.quantize(&Recipe::new(8), &calibration);
    assert!(matches!(again, Err(Error::AlreadyQuantized { .. })));
    for bits in [0, 1, 9, u32::MAX] {
        let error = vit
            .quantize(&Recipe::new(bits), &calibration)
            .err()
            .unwrap();
        assert!(matches!(error, Error::Layer { .. }), "{error}");
    }
    let none = Calibration::collect(&vit, &[], 100);
    assert!(matches!(none, Err(Error::Size { .. })));
    assert!(matches!(
        Calibration::collect(&vit, &[0.0; 785], 100),
        Err(Error::Size { .. })
    ));
    let no_rows = Calibration::collect(&vit, &[0.0; 784], 0).unwrap();
    assert!(matches!(
        vit.quantize(&Recipe::new(8), &no_rows),
        Err(Error::Layer { .. })
    ));

    let mut workspace = Workspace::new(&quantized, 1);
    for (pixels, logits) in [(783, 10), (784, 9), (0, 10), (2 * 784, 20)] {
        let result = quantized.forward(&vec![0.0; pixels], &mut vec![0.0; logits], &mut workspace);
        assert!(
            matches!(result, Err(Error::Size { .. })),
            "{pixels} pixels, {logits} logits"
        );
    }
    quantized.forward(&[], &mut [], &mut workspace).unwrap();
    // The float model needs no scratch, so its workspace has none for quantized layers.
    let result = quantized.forward(&[0.0; 784], &mut [0.0; 10], &mut Workspace::new(&vit, 1));
    assert!(matches!(result, Err(Error::Layer { .. })));
    let images = embedded::test().unwrap();
    assert!(matches!(
        images.normalised(vit.config(), 499..501),
        Err(Error::Size { .. })
    ));
    assert!(
        images
            .normalised(vit.config(), 500..500)
            .unwrap()
            .is_empty()
    );
    assert!(vit.config().normalise(&[0; 785]).is_err());
}

/// A model may be shared between threads.
#[test]
fn models_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Vit>();
    check::<Calibration>();
    check::<Workspace>();
    check::<Error>();
}
