//! Layers as the bytes of a file.

use std::collections::{BTreeMap, HashMap};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::bits;
use super::header::{BYTES, Entry, Header, KEY, PACKED, Row, file};
use crate::error::Error;
use crate::layer::linear::QuantLinear;

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
    let narrow = sorted.values().any(|layer| layer.weight_bits() < 8);
    let mut header = Header {
        version: if narrow { PACKED } else { BYTES },
        layers: BTreeMap::new(),
    };
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, layer) in sorted {
        let entry = Entry {
            weight_bits: layer.weight_bits(),
            activation_bits: layer.activation_bits(),
            twin_shift: layer.twin_shift(),
        };
        header.layers.insert(name.clone(), entry);
        let row = Row::of(layer.weight_bits(), header.version);
        let shape = vec![layer.out_features(), row.bytes(layer.in_features())];
        tensors.push((
            format!("{name}.weight"),
            row.dtype(),
            shape,
            weight(layer, row),
        ));
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

/// The rows of weight codes.
fn weight(layer: &QuantLinear, row: Row) -> Vec<u8> {
    let (codes, k) = (layer.weight_codes(), layer.in_features());
    match row {
        Row::Bytes => bytemuck::cast_slice(&codes).to_vec(),
        Row::Packed(bits) => {
            let mut weight = vec![0; layer.out_features() * row.bytes(k)];
            let rows = weight.chunks_exact_mut(row.bytes(k));
            for (row, codes) in rows.zip(codes.chunks_exact(k)) {
                bits::pack(codes, bits, row);
            }
            weight
        }
    }
}
