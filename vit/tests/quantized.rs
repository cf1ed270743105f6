//! The embedded model on its images, in f32 and quantized.

mod common;

use std::sync::Mutex;

use common::File;
use noisyquant::{Errors, Isa, Noise, QuantLinear, Quantizer};
use noisyquant_vit::{
    Calibration, Choice, Error, FloatLinear, LayerPlan, LayerReport, Linear, Model, OpenOptions,
    Output, Workspace, embedded,
};
use safetensors::Dtype;
use serde_json::Value;

const IMAGES: usize = 500;

fn float() -> Model {
    Model::from_safetensors(embedded::WEIGHTS).unwrap()
}

/// Calibrated on the first `images` calibration images, keeping up to `rows` rows.
fn calibrated(model: &Model, images: usize, rows: usize) -> Calibration {
    let images = embedded::calibration()
        .unwrap()
        .normalised(model.config(), 0..images)
        .unwrap();
    let mut calibration = Calibration::new(model, rows, 0).unwrap();
    let mut workspace = Workspace::new(model, 16);
    for images in images.chunks(16 * model.config().pixels()) {
        calibration.observe(model, images, &mut workspace).unwrap();
    }
    calibration
}

fn calibration(model: &Model) -> Calibration {
    calibrated(model, 64, 256)
}

/// Every layer by the same plan.
fn quantize(model: &Model, plan: &LayerPlan, calibration: &Calibration) -> Result<Model, Error> {
    let quantized = model.quantize(&|_| plan.clone(), calibration, &|_| ());
    quantized.map(|(model, _)| model)
}

/// Logits of normalised images, in batches.
fn logits_of(model: &Model, images: &[f32], batch: usize) -> Vec<f32> {
    let pixels = model.config().pixels();
    let mut logits = vec![0.0; images.len() / pixels * 10];
    let mut workspace = Workspace::new(model, batch);
    for (images, logits) in images
        .chunks(batch * pixels)
        .zip(logits.chunks_mut(batch * 10))
    {
        let mut output = Output::logits(logits);
        model.forward(images, &mut output, &mut workspace).unwrap();
    }
    logits
}

/// Logits of all test images.
fn logits(model: &Model) -> Vec<f32> {
    let images = embedded::test()
        .unwrap()
        .normalised(model.config(), 0..IMAGES)
        .unwrap();
    logits_of(model, &images, 50)
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
    let model = float();
    let reference = logits(&model);
    let labels = embedded::test().unwrap();
    let top1 = share_equal(
        &answers(&reference),
        labels.labels().iter().map(|&label| label.into()),
    );
    assert!(top1 >= 0.96, "f32 is right on {top1}");
    let calibration = calibration(&model);
    for noise in [Noise::None, Noise::Searched { seed: 0 }] {
        let plan = LayerPlan::new(8).with(Quantizer::default(), noise.clone());
        let quantized = logits(&quantize(&model, &plan, &calibration).unwrap());
        let agreement = share_equal(&answers(&quantized), answers(&reference).into_iter());
        assert!(
            agreement >= 0.99,
            "W8A8 ({noise:?}) agrees with f32 on {agreement}"
        );
        assert_ne!(quantized, reference, "nothing was quantized");
    }
}

#[test]
fn logits_do_not_depend_on_threads_batches_or_instruction_set() {
    let model = float();
    let calibration = calibration(&model);
    let images = embedded::test()
        .unwrap()
        .normalised(model.config(), 0..6)
        .unwrap();
    let noise = Noise::Uniform {
        range: 0.02,
        seed: 7,
    };
    let plan = LayerPlan::new(6).with(Quantizer::default(), noise);
    let quantized = quantize(&model, &plan, &calibration).unwrap();
    let mut expected = vec![0.0; 60];
    quantized
        .forward(
            &images,
            &mut Output::logits(&mut expected),
            &mut Workspace::serial(&quantized, 6),
        )
        .unwrap();

    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        for batch in [1, 4, 6] {
            assert_eq!(
                pool.install(|| logits_of(&quantized, &images, batch)),
                expected,
                "{threads} threads, batches of {batch}"
            );
        }
    }
    let scalar = quantize(&model, &plan.on(Isa::Scalar), &calibration).unwrap();
    assert_eq!(logits_of(&scalar, &images, 6), expected, "scalar");
}

#[test]
fn calibration_keeps_the_same_rows_in_every_run() {
    let model = float();
    let [once, again] = [(); 2].map(|()| calibrated(&model, 20, 100));
    for (at, layer) in model.layers().iter().enumerate() {
        let rows = if layer.name == "head" { 20 } else { 100 };
        let expected = rows * layer.linear.in_features();
        assert_eq!(once.rows(at).len(), expected, "{}", layer.name);
        assert_eq!(once.rows(at), again.rows(at));
    }
    assert!(once.rows(26).is_empty());
}

#[test]
fn layers_are_quantized_as_the_plan_says() {
    let model = float();
    let plan = |name: &str| match name {
        "head" => LayerPlan::new(8).with_choice(Choice::Float),
        "blocks.0.mlp.fc1" => LayerPlan::auto(6, 5),
        _ => LayerPlan::new(4),
    };
    let heard = Mutex::new(Vec::new());
    let progress = |report: &LayerReport| heard.lock().unwrap().push(report.name.clone());
    let (quantized, reports) = model
        .quantize(&plan, &calibration(&model), &progress)
        .unwrap();
    assert_eq!(quantized.layers().len(), 1 + 4 * 6 + 1);
    assert_eq!(quantized.reports(), reports);
    assert!(quantized.is_quantized() && !model.is_quantized());
    for (layer, report) in quantized.layers().iter().zip(&reports) {
        assert_eq!(layer.name, report.name);
        let (bits, auto) = match &*layer.name {
            "head" => (32, false),
            "blocks.0.mlp.fc1" => (6, true),
            _ => (4, false),
        };
        assert_eq!((report.weight_bits, report.auto), (bits, auto));
        assert_eq!(report.before.is_some(), auto);
        assert_eq!(report.after.is_some(), bits < 32);
        let is_float = matches!(layer.linear, Linear::Float(_));
        assert_eq!(is_float, bits == 32, "{}", layer.name);
    }
    let mut heard = heard.into_inner().unwrap();
    let mut names: Vec<&str> = reports.iter().map(|report| &*report.name).collect();
    heard.sort();
    names.sort();
    assert_eq!(heard, names);
    let json = serde_json::to_string(&reports).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<LayerReport>>(&json).unwrap(),
        reports
    );
}

/// The integer layer that a report describes, fitted to `rows`.
fn described(float: &FloatLinear, report: &LayerReport, rows: &[f32]) -> QuantLinear {
    let (outputs, inputs) = (float.bias().len(), float.in_features());
    QuantLinear::builder(float.weight(), outputs, inputs)
        .bias(float.bias())
        .weight_bits(report.weight_bits)
        .activation_bits(report.activation_bits)
        .calibration_rows(rows)
        .recipe(report.recipe.clone().unwrap())
        .build()
        .unwrap()
}

/// Outputs of a float layer, summed in f64.
fn exact(float: &FloatLinear, rows: &[f32]) -> Vec<f32> {
    let output = |row: &[f32], (weight, bias): (&[f32], &f32)| {
        let products = row.iter().zip(weight);
        let sum: f64 = products.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
        (sum + f64::from(*bias)) as f32
    };
    let inputs = float.in_features();
    rows.chunks(inputs)
        .flat_map(|row| {
            let channels = float.weight().chunks(inputs).zip(float.bias());
            channels.map(move |channel| output(row, channel))
        })
        .collect()
}

/// The mean squared error on the rows of each quarter of the layer that is fitted to the others, in the
/// mean: how the automatic choice judges.
fn judged(float: &FloatLinear, report: &LayerReport, rows: &[f32]) -> f64 {
    let (outputs, inputs) = (float.bias().len(), float.in_features());
    let count = rows.len() / inputs;
    let quarter = |at: usize| {
        let [from, to] = [at, at + 1].map(|end| end * count / 4 * inputs);
        let layer = described(float, report, &[&rows[..from], &rows[to..]].concat());
        let rows = &rows[from..to];
        Errors::measure(&layer.forward(rows).unwrap(), &exact(float, rows), outputs).mse
    };
    (0..4).map(quarter).sum::<f64>() / 4.0
}

/// Whatever the seed, a report has the recipe of the layer that is in the model, and its errors.
#[test]
fn reports_are_of_the_layers_in_the_model() {
    let model = float();
    let calibration = calibrated(&model, 64, 64);
    let quantize = |seed: u64| {
        let plan = |_: &str| LayerPlan::auto(6, seed);
        model.quantize(&plan, &calibration, &|_| ()).unwrap()
    };
    let seeds = [0, 77];
    let quantized = seeds.map(quantize);
    let mut noisy = 0;
    for (at, layer) in model.layers().iter().enumerate() {
        let Linear::Float(float) = &layer.linear else {
            panic!("a float model")
        };
        let rows = calibration.rows(at);
        for ((model, reports), seed) in quantized.iter().zip(seeds) {
            let report = &reports[at];
            let Linear::Quantized(built) = &model.layers()[at].linear else {
                panic!("a quantized model")
            };
            let expected = described(float, report, &rows);
            assert_eq!(built.noise(), expected.noise(), "{report:?}");
            assert_eq!(
                built.forward(&rows).unwrap(),
                expected.forward(&rows).unwrap()
            );
            let (got, expected) = (report.after.unwrap().mse, judged(float, report, &rows));
            assert!(
                (got / expected - 1.0).abs() < 1e-3,
                "{expected}, not {report:?}"
            );
            let noise = &report.recipe.as_ref().unwrap().noise;
            assert!([Noise::None, Noise::Searched { seed }].contains(noise));
        }
        let [first, other] = [0, 1].map(|which| &quantized[which].1[at]);
        let noise = |report: &LayerReport| report.recipe.clone().unwrap().noise;
        assert_eq!(first.before, other.before);
        if noise(first) != Noise::None && noise(other) != Noise::None {
            assert_ne!(first.after, other.after);
            noisy += 1;
        }
    }
    assert!(noisy > 0, "some layer with noise whatever the seed");
}

#[test]
fn a_stored_model_gives_the_same_bits() {
    let model = float();
    let plan = |name: &str| match name {
        "blocks.2.attn.proj" => LayerPlan::new(8).with_choice(Choice::Float),
        "blocks.3.mlp.fc2" => LayerPlan::auto(8, 1),
        _ => LayerPlan::new(6),
    };
    let (quantized, _) = model
        .quantize(&plan, &calibration(&model), &|_| ())
        .unwrap();
    let bytes = quantized.to_bytes().unwrap();
    let same = (0..4).all(|_| bytes == quantized.to_bytes().unwrap());
    assert!(same, "the same bytes each time");
    let loaded = Model::from_safetensors(&bytes).unwrap();
    assert_eq!(loaded.config(), quantized.config());
    assert_eq!(loaded.reports(), quantized.reports());
    let images = embedded::test()
        .unwrap()
        .normalised(model.config(), 0..20)
        .unwrap();
    let expected = logits_of(&quantized, &images, 7);
    assert_eq!(logits_of(&loaded, &images, 7), expected);
    assert!(loaded.to_bytes().unwrap() == bytes);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let options = OpenOptions {
        isa: Some(Isa::Scalar),
        ..OpenOptions::default()
    };
    let scalar = Model::open(&path, &options).unwrap();
    assert_eq!(logits_of(&scalar, &images, 7), expected);
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Model::open(&path, &options).err().unwrap().to_string();
        assert!(error.contains("digits.safetensors: expected"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

/// Weights of 6 bits take 6 bits in the file; older files, with a byte for each, open as they did.
#[test]
fn weights_of_few_bits_take_as_many_in_a_file() {
    let model = float();
    let calibration = calibration(&model);
    let sizes = [8, 6, 4].map(|bits| {
        let quantized = quantize(&model, &LayerPlan::new(bits), &calibration).unwrap();
        let bytes = quantized.to_bytes().unwrap();
        let mut file = File::parse(&bytes);
        let mut stored = 0;
        for layer in quantized.layers() {
            let Linear::Quantized(linear) = &layer.linear else {
                panic!("a quantized model")
            };
            let tensor = file.tensor(&format!("{}.weight", layer.name));
            stored += tensor.data.len();
            tensor.data = linear
                .weight_codes()
                .iter()
                .map(|code| *code as u8)
                .collect();
            tensor.dtype = Dtype::I8;
            tensor.shape = vec![linear.out_features(), linear.in_features()];
        }
        let entry = file.metadata.get_mut("noisyquant").unwrap();
        *entry = entry.replace("\"version\":2", "\"version\":1");
        let older = Model::from_safetensors(&file.bytes()).unwrap();
        assert!(older.to_bytes().unwrap() == bytes, "{bits} bits");
        stored
    });
    assert_eq!(sizes.map(|size| size * 8 / sizes[0]), [8, 6, 4]);
}

/// A file whose metadata has fields that only a later version knows still opens.
#[test]
fn a_stored_model_may_say_more_than_is_read() {
    let model = float();
    let quantized = quantize(&model, &LayerPlan::new(8), &calibration(&model)).unwrap();
    let mut file = File::parse(&quantized.to_bytes().unwrap());
    let entry = file.metadata.get_mut("noisyquant_vit").unwrap();
    let mut header: Value = serde_json::from_str(entry).unwrap();
    for path in [
        "",
        "/config",
        "/config/preprocess",
        "/reports/0",
        "/reports/0/after",
    ] {
        let object = header.pointer_mut(path).unwrap().as_object_mut().unwrap();
        object.insert("of_a_later_version".into(), 1.into());
    }
    *entry = header.to_string();
    let opened = Model::from_safetensors(&file.bytes()).unwrap();
    assert_eq!(opened.config(), quantized.config());
    assert_eq!(opened.reports(), quantized.reports());
}

#[test]
fn features_are_what_the_head_sees() {
    let model = float();
    let images = embedded::test()
        .unwrap()
        .normalised(model.config(), 0..3)
        .unwrap();
    let (mut features, mut logits) = (vec![0.0; 3 * 64], vec![0.0; 30]);
    let mut seen = Vec::new();
    let mut output = Output {
        features: &mut features,
        logits: &mut logits,
    };
    let mut workspace = Workspace::new(&model, 3);
    model
        .forward_observed(&images, &mut output, &mut workspace, &mut |observed| {
            seen.push((
                observed.layer,
                observed.input.to_vec(),
                observed.output.to_vec(),
            ));
        })
        .unwrap();
    assert!(seen.iter().map(|seen| seen.0).eq(0..26));
    let (_, input, output) = seen.pop().unwrap();
    assert_eq!((input, output), (features.clone(), logits));
    let mut alone = vec![0.0; 3 * 64];
    let mut output = Output::features(&mut alone);
    model.forward(&images, &mut output, &mut workspace).unwrap();
    assert_eq!(alone, features);
}

#[test]
fn wrong_uses_are_errors() {
    let model = float();
    let calibration = calibration(&model);
    let quantized = quantize(&model, &LayerPlan::new(8), &calibration).unwrap();
    let again = quantize(&quantized, &LayerPlan::new(8), &calibration);
    assert!(matches!(again, Err(Error::AlreadyQuantized { .. })));
    for bits in [0, 1, 9, u32::MAX] {
        let error = quantize(&model, &LayerPlan::new(bits), &calibration);
        let error = error.err().unwrap();
        assert!(matches!(error, Error::Layer { .. }), "{error}");
    }
    let none = Calibration::new(&model, 0, 0);
    assert!(matches!(none, Err(Error::Layer { .. })));
    let mut empty = Calibration::new(&model, 1, 0).unwrap();
    assert!(matches!(
        quantize(&model, &LayerPlan::new(8), &empty),
        Err(Error::Layer { .. })
    ));
    let mut workspace = Workspace::new(&model, 1);
    assert!(matches!(
        empty.observe(&model, &[0.0; 785], &mut workspace),
        Err(Error::Size { .. })
    ));
    assert!(matches!(
        empty.observe(&model, &[f32::NAN; 784], &mut workspace),
        Err(Error::Layer { .. })
    ));

    let mut workspace = Workspace::new(&quantized, 1);
    for (pixels, features, logits) in [
        (783, 64, 10),
        (784, 64, 9),
        (784, 63, 10),
        (0, 64, 10),
        (2 * 784, 128, 20),
    ] {
        let (mut features, mut logits) = (vec![0.0; features], vec![0.0; logits]);
        let mut output = Output {
            features: &mut features,
            logits: &mut logits,
        };
        let result = quantized.forward(&vec![0.0; pixels], &mut output, &mut workspace);
        assert!(matches!(result, Err(Error::Size { .. })), "{pixels} pixels");
    }
    let mut none = Output::logits(&mut []);
    quantized.forward(&[], &mut none, &mut workspace).unwrap();
    // The float model needs no scratch, so its workspace has none for quantized layers.
    let mut workspace = Workspace::new(&model, 1);
    let result = quantized.forward(&[0.0; 784], &mut none, &mut workspace);
    assert!(matches!(result, Err(Error::Layer { .. })));
    let images = embedded::test().unwrap();
    assert!(matches!(
        images.normalised(model.config(), 499..501),
        Err(Error::Size { .. })
    ));
    assert!(
        images
            .normalised(model.config(), 500..500)
            .unwrap()
            .is_empty()
    );
    assert!(model.config().normalise(&[0; 785]).is_err());
}

/// A model may be shared between threads.
#[test]
fn models_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Model>();
    check::<Calibration>();
    check::<Workspace>();
    check::<Error>();
}
