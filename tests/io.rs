//! Saved layers: the same bits after loading, on every instruction set; as many bits in the file as weights
//! have; errors for damaged files.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read, Seek, SeekFrom};

use common::{Problem, Rng, bits, isas};
use noisyquant::{Executor, Numbers, QuantLinear, Recipe, io};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A file taken apart.
struct File {
    header: String,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl File {
    fn parse(bytes: &[u8]) -> File {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let tensors = SafeTensors::deserialize(bytes).unwrap().tensors();
        let store = |view: TensorView<'_>| {
            let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
            (view.dtype(), shape, data)
        };
        let tensors = tensors.into_iter().map(|(name, view)| (name, store(view)));
        File {
            header: metadata.metadata().as_ref().unwrap()["noisyquant"].clone(),
            tensors: tensors.collect(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            let view = TensorView::new(*dtype, shape.clone(), data);
            (name, view.unwrap())
        });
        let metadata = HashMap::from([("noisyquant".into(), self.header.clone())]);
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.header.contains(from), "{from} in {}", self.header);
        self.header = self.header.replace(from, to);
    }
}

/// A layer of these rows of codes.
fn layer(rows: &[&[i8]], bits: u32) -> QuantLinear {
    let scales = vec![0.5; rows.len()];
    let numbers = Numbers::new(rows.concat(), scales, 0.25, 3.0).with_weight_bits(bits);
    QuantLinear::from_numbers(numbers, None).unwrap()
}

/// Codes of all values that there are of so many bits.
fn any_layer(n: usize, k: usize, bits: u32) -> QuantLinear {
    let mut rng = Rng(u64::from(bits));
    let code = |_| (rng.word() as i8) >> (8 - bits);
    let codes: Vec<i8> = (0..n * k).map(code).collect();
    // Plain NEON has no kernel for −128.
    let codes: Vec<i8> = codes.into_iter().map(|code| code.max(-127)).collect();
    layer(&codes.chunks(k).collect::<Vec<_>>(), bits)
}

fn message(bytes: &[u8]) -> String {
    io::from_bytes(bytes, None).unwrap_err().to_string()
}

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
    let small = [(0, 8), (7, 8), (9, 6)].map(|(i, bits)| {
        let builder = problem.builder().recipe(recipes[i].1.clone());
        let builder = builder.weight_bits(bits);
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

/// The bytes that older versions wrote and read.
#[test]
fn a_file_of_8_bits_is_what_it_was() {
    let layer = layer(&[&[1, -2, 127], &[-127, 0, 5]], 8);
    let entry = r#"{"weight_bits":8,"activation_bits":8,"twin_shift":null}"#;
    let header = format!(r#"{{"version":1,"layers":{{"a":{entry}}}}}"#);
    let floats = |values: &[f32]| -> (Dtype, Vec<usize>, Vec<u8>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        (Dtype::F32, vec![values.len()], bytes.collect())
    };
    let weight = vec![1, 254, 127, 129, 0, 5];
    let tensors = [
        ("a.weight", (Dtype::I8, vec![2, 3], weight)),
        ("a.weight_scale", floats(&[0.5, 0.5])),
        ("a.bias", floats(&[0.0, 0.0])),
        ("a.channel_scale", floats(&[1.0; 3])),
        ("a.noise", floats(&[0.0; 3])),
        ("a.activation", floats(&[0.25, 3.0])),
    ];
    let expected = File {
        header,
        tensors: tensors.map(|(name, tensor)| (name.into(), tensor)).into(),
    };
    let bytes = io::to_bytes([("a", &layer)]).unwrap();
    assert_eq!(bytes, expected.bytes());
}

/// Written out by hand, as the page of the format says.
#[test]
fn rows_of_6_and_4_bits_are_known_bytes() {
    let six = layer(&[&[1, -1, 31, -32, 5], &[0, 0, 0, 0, -1]], 6);
    let four = layer(&[&[1, -1, 7, -8], &[-3, 2, 0, 4]], 4);
    let file = File::parse(&io::to_bytes([("six", &six), ("four", &four)]).unwrap());
    let bytes = vec![0xc1, 0xff, 0x81, 0x05, 0, 0, 0, 0x3f];
    assert_eq!(file.tensors["six.weight"], (Dtype::U8, vec![2, 4], bytes));
    let bytes = vec![0xf1, 0x87, 0x2d, 0x40];
    assert_eq!(file.tensors["four.weight"], (Dtype::U8, vec![2, 2], bytes));
    assert!(
        file.header.starts_with("{\"version\":2,"),
        "{}",
        file.header
    );
}

#[test]
fn weights_of_all_bits_come_back_from_files_of_both_versions() {
    for bits in 2..=8 {
        for (n, k) in [(1, 1), (3, 8), (5, 13), (2, 65_536), (70, 33), (300, 999)] {
            let layer = any_layer(n, k, bits);
            let bytes = io::to_bytes([("a", &layer)]).unwrap();
            let mut file = File::parse(&bytes);
            let stored = file.tensors["a.weight"].2.len();
            assert_eq!(stored, n * (k * bits as usize).div_ceil(8), "{bits} bits");
            let loaded = io::from_bytes(&bytes, None).unwrap();
            assert_eq!(
                loaded["a"].numbers(),
                layer.numbers(),
                "{bits} bits {n}x{k}"
            );

            let codes = layer.weight_codes().into_iter();
            let codes = codes.map(|code| code.to_le_bytes()[0]).collect();
            let tensor = (Dtype::I8, vec![n, k], codes);
            file.tensors.insert("a.weight".into(), tensor);
            file.header = file.header.replace("\"version\":2", "\"version\":1");
            let loaded = io::from_bytes(&file.bytes(), None).unwrap();
            assert_eq!(
                loaded["a"].numbers(),
                layer.numbers(),
                "{bits} bits {n}x{k}"
            );
        }
    }
}

#[test]
fn packed_weights_that_do_not_fit_are_refused_by_what_is_wrong() {
    let bytes = io::to_bytes([("a", &any_layer(4, 13, 6))]).unwrap();
    let rows = "rows of 13 codes of";
    let expect = |expected: &str, spoil: &dyn Fn(&mut File)| {
        let mut file = File::parse(&bytes);
        spoil(&mut file);
        assert_eq!(message(&file.bytes()), expected);
    };
    let weight = |dtype: Dtype, shape: [usize; 2]| {
        move |file: &mut File| {
            let data = vec![0; shape[0] * shape[1]];
            file.tensors
                .insert("a.weight".into(), (dtype, shape.to_vec(), data));
        }
    };
    let wanted = format!("file: expected a.weight: U8 [4, 10], {rows} 6 bits");
    for (dtype, shape) in [
        (Dtype::I8, [4, 10]),
        (Dtype::U8, [4, 13]),
        (Dtype::U8, [5, 10]),
    ] {
        let got = format!("{wanted}, got {dtype:?} {shape:?}");
        expect(&got, &weight(dtype, shape));
    }
    expect(
        &format!("file: expected a.weight: U8 [4, 9], {rows} 5 bits, got U8 [4, 10]"),
        &|file| file.replace("\"weight_bits\":6", "\"weight_bits\":5"),
    );
    expect(
        &format!("file: expected a.weight: I8 [4, 13], {rows} 8 bits, got U8 [4, 10]"),
        &|file| file.replace("\"weight_bits\":6", "\"weight_bits\":8"),
    );
    expect(
        &format!("file: expected a.weight: I8 [4, 13], {rows} 6 bits, got U8 [4, 10]"),
        &|file| file.replace("\"version\":2", "\"version\":1"),
    );
    for bits in ["1", "9", "4294967295"] {
        expect(
            &format!("weight_bits: expected 2..=8, got {bits}"),
            &|file| {
                file.replace("\"weight_bits\":6", &format!("\"weight_bits\":{bits}"));
            },
        );
    }
    expect(
        "file: expected a.weight: zeros after the last code of each row, got other bits in row 2",
        &|file| file.tensors.get_mut("a.weight").unwrap().2[29] |= 0x80,
    );
    let mut long = File::parse(&io::to_bytes([("a", &any_layer(300, 999, 6))]).unwrap());
    long.tensors.get_mut("a.weight").unwrap().2[250 * 750 + 749] |= 0x80;
    let got = message(&long.bytes());
    assert!(got.ends_with("got other bits in row 250"), "{got}");
    expect("file: expected a.weight, got no such tensor", &|file| {
        file.tensors.remove("a.weight");
    });
    // A byte each, a code may be outside of its bits.
    expect(
        "weight code: expected within the range of its bits, got -33 at index 51",
        &|file| {
            file.replace("\"version\":2", "\"version\":1");
            let mut data = vec![0; 4 * 13];
            data[51] = 0xdf;
            file.tensors
                .insert("a.weight".into(), (Dtype::I8, vec![4, 13], data));
        },
    );
}

#[test]
fn a_reader_gives_each_layer_when_it_is_asked_for() {
    let layers = layers();
    let bytes = io::to_bytes(&layers).unwrap();
    let mut reader = io::Reader::new(Cursor::new(&bytes)).unwrap();
    assert!(reader.names().eq(layers.keys()));
    for (name, layer) in layers.iter().rev() {
        assert_eq!(reader.numbers(name).unwrap(), layer.numbers(), "{name}");
    }
    let error = reader.numbers("another").unwrap_err().to_string();
    assert_eq!(
        error,
        "file: expected layer \"another\", got none of this name"
    );
    let loaded = reader.layers(None).unwrap();
    assert_eq!(io::to_bytes(&loaded).unwrap(), bytes);
}

/// A file that says less the second time.
struct Shrinking<'a>(Cursor<&'a [u8]>, usize);

impl Read for Shrinking<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let left = self.1.saturating_sub(self.0.position() as usize);
        let most = to.len().min(left);
        self.0.read(&mut to[..most])
    }
}

impl Seek for Shrinking<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_file_that_becomes_shorter_is_an_error() {
    let bytes = io::to_bytes([("a", &any_layer(40, 40, 6))]).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        let layers = |source| io::Reader::new(source).and_then(|mut reader| reader.layers(None));
        let error = layers(Shrinking(Cursor::new(&bytes), length)).unwrap_err();
        let start = "file: expected a file that can be read, got";
        assert!(error.to_string().starts_with(start), "{length}: {error}");
        let error = message(&bytes[..length]);
        assert!(error.starts_with("file: expected"), "{length}: {error}");
    }
}

/// Tensors whose lengths and that of the header add up to more than 64 bits count.
#[test]
fn lengths_that_overflow_are_refused() {
    let each = u64::MAX / 8;
    let tensor = |i: u64| {
        let (from, to) = (i * each, (i + 1) * each);
        format!(r#""{i}":{{"dtype":"U8","shape":[{each}],"data_offsets":[{from},{to}]}}"#)
    };
    let header = format!("{{{}}}", (0..8).map(tensor).collect::<Vec<_>>().join(","));
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let expected = 8 * each;
    assert_eq!(
        message(&bytes),
        format!("file: expected {expected} bytes of tensors, got 0")
    );
}

/// Whoever packs a layer, it is the same.
#[test]
fn layers_are_the_same_from_any_number_of_threads() {
    let layer = any_layer(300, 70, 6);
    let x = vec![0.5f32; 3 * 70];
    let parallel_for = |count: usize, task: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| {
            (0..count).for_each(|number| _ = scope.spawn(move || task(number)));
        });
    };
    for executor in [
        Executor::serial(),
        Executor::rayon(),
        Executor::host(5, &parallel_for),
    ] {
        let other = QuantLinear::from_numbers_on(layer.numbers(), None, executor).unwrap();
        assert_eq!(other.numbers(), layer.numbers());
        assert_eq!(other.forward(&x), layer.forward(&x), "{executor:?}");
    }
}

#[test]
fn a_layer_tells_what_it_takes_in_memory() {
    for bits in [8, 6, 4] {
        let (n, k) = (70, 130);
        let layer = any_layer(n, k, bits);
        let weights = n * k * bits as usize / 8;
        let packed = layer.packed_bytes();
        assert!((weights..4 * n * k).contains(&packed), "{packed}");
        let constants = 4 * (5 * n + 4 * k);
        let beside = layer.memory_bytes() - packed;
        assert!((constants..4 * constants).contains(&beside), "{beside}");
        assert_eq!(layer.clone().memory_bytes(), layer.memory_bytes());
    }
}
