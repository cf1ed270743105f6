//! Quantized layers as safetensors: one file holds a set of named layers and is portable between
//! instruction sets, for packing happens when it is loaded.
//!
//! Per layer `NAME`, with `[n, k]` its outputs and inputs:
//!
//! | tensor | type | |
//! | --- | --- | --- |
//! | `NAME.weight` | i8 `[n, k]` | weight codes |
//! | `NAME.weight_scale` | f32 `[n]` | `s_w` |
//! | `NAME.bias` | f32 `[n]` | `B` |
//! | `NAME.channel_scale` | f32 `[k]` | `r` |
//! | `NAME.noise` | f32 `[k]` | shift and noise, in units of the scaled input |
//! | `NAME.activation` | f32 `[2]` | `s_x` and `z` |
//!
//! The metadata has one entry, `noisyquant`: JSON with the version of the format and, per layer, what
//! is not a tensor. Everything else is computed from these by the same equations that built the layer,
//! so that it returns the same bits.

use std::collections::{BTreeMap, HashMap};

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::spec;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::affine::Affine;
use super::linear::QuantLinear;
use super::numbers::{Numbers, Params};
use crate::check;
use crate::error::Error;

/// The metadata entry.
const KEY: &str = "noisyquant";

/// Version of the format. A reader refuses any other.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    layers: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    weight_bits: u32,
    activation_bits: u32,
    twin_shift: Option<u32>,
}

/// Layers by name as the bytes of a safetensors file: a map of layers, or any pairs of a name and a
/// reference. The same layers give the same bytes in any order.
///
/// # Errors
///
/// [`Error::DuplicateName`]; [`Error::File`] if safetensors refuses a name.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use noisyquant::{Numbers, QuantLinear, io};
/// # let numbers = Numbers::new(vec![1; 4], vec![0.5; 2], 0.1, 128.0);
/// # let layer = QuantLinear::from_numbers(numbers, None)?;
/// let layers = BTreeMap::from([("blocks.0.mlp.fc1".to_string(), layer)]);
/// let bytes = io::to_bytes(&layers)?; // std::fs::write, and read it again
/// let loaded = io::from_bytes(&bytes, None)?;
/// let x = [0.3f32, -0.7];
/// assert_eq!(
///     loaded["blocks.0.mlp.fc1"].forward(&x)?,
///     layers["blocks.0.mlp.fc1"].forward(&x)?,
/// );
/// # Ok::<(), noisyquant::Error>(())
/// ```
pub fn to_bytes<'a, N: AsRef<str>>(
    layers: impl IntoIterator<Item = (N, &'a QuantLinear)>,
) -> Result<Vec<u8>, Error> {
    let mut sorted = BTreeMap::new();
    for (name, layer) in layers {
        let name = name.as_ref().to_string();
        if sorted.insert(name.clone(), layer).is_some() {
            return Err(Error::DuplicateName { name });
        }
    }
    let mut header = Header {
        version: VERSION,
        layers: BTreeMap::new(),
    };
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, layer) in sorted {
        let (n, k) = (layer.out_features(), layer.in_features());
        let entry = Entry {
            weight_bits: layer.weight_bits(),
            activation_bits: layer.activation_bits(),
            twin_shift: layer.twin_shift(),
        };
        header.layers.insert(name.clone(), entry);
        let codes = layer
            .weight_codes()
            .iter()
            .map(|c| c.to_le_bytes()[0])
            .collect();
        tensors.push((format!("{name}.weight"), Dtype::I8, vec![n, k], codes));
        let activation = [layer.activation_scale(), layer.zero_point()];
        let floats = [
            ("weight_scale", layer.weight_scales()),
            ("bias", layer.bias()),
            ("channel_scale", layer.channel_scale()),
            ("noise", layer.noise()),
            ("activation", &activation),
        ];
        for (part, values) in floats {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            tensors.push((
                format!("{name}.{part}"),
                Dtype::F32,
                vec![values.len()],
                bytes,
            ));
        }
    }
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            TensorView::new(*dtype, shape.clone(), data).map(|view| (name, view))
        })
        .collect();
    let refused = |e: &dyn std::fmt::Display| file("tensors that safetensors accepts", e);
    let json = serde_json::to_string(&header).map_err(|e| refused(&e))?;
    let metadata = HashMap::from([(KEY.to_string(), json)]);
    let views = views.map_err(|e| refused(&e))?;
    safetensors::serialize(views, Some(metadata)).map_err(|e| refused(&e))
}

/// The layers of a file that [`to_bytes`] made, packed for `isa`, or else for the set that `NOISYQUANT_ISA`
/// names, or else for the best of this CPU. Returns the same outputs, bit for bit, as the layers that were
/// saved.
///
/// # Errors
///
/// [`Error`] for anything that is not such a file: damaged, of another version, with tensors of other
/// shapes or values that no layer has; or for an instruction set that is not there.
pub fn from_bytes(bytes: &[u8], isa: Option<Isa>) -> Result<BTreeMap<String, QuantLinear>, Error> {
    let refused = |e: &dyn std::fmt::Display| file("a safetensors file", e);
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| refused(&e))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| refused(&e))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let json = json.ok_or_else(|| file("metadata named noisyquant", &"none"))?;
    let version: Version = serde_json::from_str(json).map_err(|e| file("a version", &e))?;
    if version.version != VERSION {
        let expected = format!("version {VERSION}");
        return Err(file(&expected, &format!("version {}", version.version)));
    }
    let header: Header = serde_json::from_str(json).map_err(|e| file("a header", &e))?;
    let layers = header.layers.into_iter().map(|(name, entry)| {
        let layer = load(&tensors, &name, &entry, isa)?;
        Ok((name, layer))
    });
    layers.collect()
}

/// Read before the rest, whose form depends on it.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn load(
    tensors: &SafeTensors<'_>,
    name: &str,
    entry: &Entry,
    isa: Option<Isa>,
) -> Result<QuantLinear, Error> {
    let weight_name = format!("{name}.weight");
    let weight = tensors
        .tensor(&weight_name)
        .map_err(|e| file(&weight_name, &e))?;
    let (Dtype::I8, [n, k]) = (weight.dtype(), weight.shape()) else {
        let got = format!("{:?} {:?}", weight.dtype(), weight.shape());
        return Err(file(&format!("{weight_name}: I8 [out, in]"), &got));
    };
    let (n, k) = (*n, *k);
    check::dimension("in_features", k, spec::MAX_K)?;
    check::dimension("out_features", n, weight.data().len())?;
    check::length("weight", n * k, weight.data().len())?;
    let floats = |part, len| floats(tensors, name, part, len);

    let codes = weight.data().iter().map(|b| i8::from_le_bytes([*b]));
    let activation = floats("activation", 2)?;
    let numbers = Numbers {
        codes: codes.collect(),
        params: Params {
            weight_bits: entry.weight_bits,
            weight_scales: floats("weight_scale", n)?.into(),
            affine: Affine {
                scale: activation[0],
                zero_point: activation[1],
                bits: entry.activation_bits,
                twin_shift: entry.twin_shift,
            },
            channel_scale: floats("channel_scale", k)?.into(),
            noise: floats("noise", k)?,
            bias: floats("bias", n)?,
        },
    };
    QuantLinear::from_numbers(numbers, isa)
}

/// An f32 vector of the given length.
fn floats(
    tensors: &SafeTensors<'_>,
    name: &str,
    part: &str,
    len: usize,
) -> Result<Vec<f32>, Error> {
    let name = format!("{name}.{part}");
    let tensor = tensors.tensor(&name).map_err(|e| file(&name, &e))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != [len] {
        let got = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        return Err(file(&format!("{name}: F32 [{len}]"), &got));
    }
    let words = tensor.data().chunks_exact(4);
    Ok(words
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

fn file(expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::File {
        expected: expected.to_string(),
        got: got.to_string(),
    }
}
