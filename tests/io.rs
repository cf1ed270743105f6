//! Saved layers: the same bits after loading, on every instruction set; errors for damaged files.

mod common;

use std::collections::BTreeMap;

use common::{Problem, Rng, bits, isas};
use noisyquant::{QuantLinear, Recipe, io};

fn layers() -> BTreeMap<String, QuantLinear> {
    let problem = Problem::new(64, 70, 33);
    let named = Recipe::named().into_iter().enumerate();
    named
        .map(|(i, (name, recipe))| {
            let builder = problem.builder().weight_bits([8, 6, 4][i % 3]);
            let builder = builder.activation_bits([6, 8, 4][i % 3]).recipe(recipe);
            let layer = builder.calibration_rows(&problem.x).build().unwrap();
            (name.to_string(), layer)
        })
        .collect()
}

#[test]
fn a_loaded_layer_gives_the_same_bits_on_every_set() {
    let layers = layers();
    let bytes = io::to_bytes(&layers).unwrap();
    assert_eq!(
        bytes,
        io::to_bytes(&layers).unwrap(),
        "bytes are deterministic"
    );
    let x = Problem::new(64, 70, 33).x;
    for isa in isas() {
        let loaded = io::from_bytes(&bytes, Some(isa)).unwrap();
        assert_eq!(loaded.len(), layers.len());
        for (name, layer) in &layers {
            let (expected, got) = (
                layer.forward(&x).unwrap(),
                loaded[name].forward(&x).unwrap(),
            );
            assert_eq!(bits(&got), bits(&expected), "{name} on {isa}");
        }
        assert_eq!(io::to_bytes(&loaded).unwrap(), bytes);
    }
}

#[test]
fn ten_thousand_mutated_files_give_an_error_or_a_valid_layer() {
    let problem = Problem::new(4, 5, 3);
    let recipes = Recipe::named();
    let small = [0, 7, 9].map(|i| {
        let builder = problem.builder().recipe(recipes[i].1.clone());
        let layer = builder.calibration_rows(&problem.x).build().unwrap();
        (recipes[i].0.to_string(), layer)
    });
    let bytes = io::to_bytes(&BTreeMap::from(small)).unwrap();
    let mut rng = Rng(5);
    let (mut refused, mut valid) = (0, 0);
    for _ in 0..10_000 {
        let mut mutated = bytes.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(mutated.len());
            match rng.below(5) {
                0 => mutated[at] = rng.word() as u8,
                1 => mutated[at] ^= 1 << rng.below(8),
                2 => mutated.truncate(at + 1),
                3 => mutated.insert(at, b"0:,\"{}[]9"[rng.below(9)]),
                // Digits of the header: shapes, offsets, bits.
                _ => {
                    let digit = mutated.iter().skip(at).position(u8::is_ascii_digit);
                    if let Some(digit) = digit {
                        mutated[at + digit] = b"0123456789"[rng.below(10)];
                    }
                }
            }
        }
        match io::from_bytes(&mutated, None) {
            Ok(layers) => {
                valid += 1;
                for layer in layers.values() {
                    let x = vec![0.5f32; 2 * layer.in_features()];
                    let y = layer.forward(&x).unwrap();
                    assert!(y.iter().all(|y| !y.is_nan()));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("expected"), "{error}");
            }
        }
    }
    println!("{refused} refused, {valid} valid");
    assert!(refused > 1000 && valid > 100);
}

#[test]
fn other_versions_and_files_are_refused_by_name() {
    let bytes = io::to_bytes(&layers()).unwrap();
    let message = |bytes: &[u8]| io::from_bytes(bytes, None).unwrap_err().to_string();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned();
    let at = text.find("version\\\":2").unwrap() + "version\\\":".len();
    for other in [b'0', b'3'] {
        let mut bytes = bytes.clone();
        bytes[at] = other;
        let got = format!("got version {}", char::from(other));
        assert_eq!(
            message(&bytes),
            format!("file: expected version 1 or 2, {got}")
        );
    }
    assert!(message(&[]).contains("a safetensors file"));
    assert!(message(b"not a file at all").contains("a safetensors file"));
}
