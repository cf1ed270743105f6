//! A model as the bytes of one file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use noisyquant::io;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::header::{Header, KEY, VERSION};
use crate::{error::Error, model::Model, ops::Linear};

impl Model {
    /// This model as the bytes of one safetensors file that [`Model::open`] reads on any CPU to the
    /// same outputs, bit for bit. The same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Quantized`] if the layers cannot be stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let layers = self
            .layers()
            .iter()
            .filter_map(|layer| match &layer.linear {
                Linear::Quantized(quantized) => Some((&layer.name, quantized)),
                Linear::Float(_) => None,
            });
        let quantized = io::to_bytes(layers).map_err(Error::Quantized)?;
        let mut tensors = self.tensors();
        for layer in self.layers() {
            if let Linear::Float(float) = &layer.linear {
                let outputs = float.bias().len();
                let shape = vec![outputs, float.in_features()];
                tensors.push((format!("{}.weight", layer.name), shape, float.weight()));
                tensors.push((format!("{}.bias", layer.name), vec![outputs], float.bias()));
            }
        }
        let floats: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape, values)| {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (name, shape, bytes.collect())
            })
            .collect();
        let wrap = |source| Error::File {
            length: quantized.len(),
            source,
        };
        let (_, header) = SafeTensors::read_metadata(&quantized).map_err(wrap)?;
        let mut metadata: HashMap<String, String> = header.metadata().clone().unwrap_or_default();
        let own = Header {
            version: VERSION,
            config: Cow::Borrowed(self.config()),
            attention: Some(self.attention()),
            reports: Cow::Borrowed(self.reports()),
            warnings: Cow::Borrowed(self.warnings()),
            origin: self.origin().map(Cow::Borrowed),
        };
        let json = serde_json::to_string(&own).map_err(|source| Error::Json {
            what: format!("metadata `{KEY}`"),
            source,
        })?;
        metadata.insert(KEY.into(), json);
        let stored = SafeTensors::deserialize(&quantized).map_err(wrap)?;
        let mut views = stored.tensors();
        for (name, shape, bytes) in &floats {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(wrap)?;
            views.push((name.clone(), view));
        }
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(wrap)?;
        Ok(with_sorted_header(bytes))
    }
}

/// A safetensors file with the entries of its header in alphabetical order: safetensors writes
/// metadata as a hash map happens to hold it.
fn with_sorted_header(mut bytes: Vec<u8>) -> Vec<u8> {
    type Header<'a> = BTreeMap<Cow<'a, str>, BTreeMap<Cow<'a, str>, serde_json::Value>>;
    let sorted = bytes.split_first_chunk().and_then(|(length, rest)| {
        let text = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let header: Header<'_> = serde_json::from_slice(text).ok()?;
        let mut sorted = serde_json::to_vec(&header).ok()?;
        // The same entries take the same room, and padding is spaces.
        (sorted.len() <= text.len()).then(|| {
            sorted.resize(text.len(), b' ');
            sorted
        })
    });
    if let Some(sorted) = sorted {
        bytes[8..8 + sorted.len()].copy_from_slice(&sorted);
    }
    bytes
}
