//! One file that holds a whole model: the quantized layers as [`noisyquant::io`] stores them, all
//! other tensors in f32, and in the metadata entry `noisyquant_vit` the configuration and what was
//! chosen for each layer.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use noisyquant::{QuantLinear, io};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    Attention, Config, Error, LayerReport, Linear, Model, OpenOptions, Overrides,
    checkpoint::Tensors,
};

/// The metadata entry.
const KEY: &str = "noisyquant_vit";

/// Version of the entry and of the tensors' names. A reader refuses later ones. The first had no `attention`.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    version: u32,
    config: Cow<'a, Config>,
    attention: Option<Attention>,
    reports: Cow<'a, [LayerReport]>,
}

/// Read before the rest, whose form depends on it.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Whether [`Model::to_bytes`] made this file.
pub(crate) fn is_quantized(tensors: &Tensors<'_>) -> bool {
    tensors.metadata(KEY).is_some()
}

/// The model of a file that [`Model::to_bytes`] made.
pub(crate) fn read(tensors: Tensors<'_>, options: &OpenOptions) -> Result<Model, Error> {
    let json = tensors.metadata(KEY).unwrap_or_default();
    let wrong = |source| Error::Json {
        what: format!("metadata `{KEY}`"),
        source,
    };
    let Version { version } = serde_json::from_str(json).map_err(wrong)?;
    if !(1..=VERSION).contains(&version) {
        return Err(Error::Setting {
            what: format!("metadata `{KEY}`"),
            expected: format!("version 1 to {VERSION}"),
            got: format!("version {version}"),
        });
    }
    let header: Header<'_> = serde_json::from_str(json).map_err(wrong)?;
    let attention = match (version, header.attention) {
        (1, _) => Attention::F32,
        (_, Some(attention)) => attention,
        (_, None) => {
            return Err(Error::Setting {
                what: format!("metadata `{KEY}`"),
                expected: "attention".into(),
                got: "none".into(),
            });
        }
    };
    let mut config = header.config.into_owned();
    let Overrides {
        image_size,
        heads,
        layer_norm_eps,
        ..
    } = &options.overrides;
    if image_size.is_some() || heads.is_some() || layer_norm_eps.is_some() {
        return Err(Error::Setting {
            what: "image size, heads and layer_norm_eps".into(),
            expected: "them left as they are in a quantized file".into(),
            got: "others".into(),
        });
    }
    options.overrides.apply(&mut config.preprocess);
    config.check()?;
    let mut quantized = BTreeMap::new();
    for bytes in tensors.files() {
        quantized.extend(io::from_bytes(bytes, options.isa).map_err(Error::Quantized)?);
    }
    Model::restore(tensors, quantized, config, header.reports.into_owned())?
        .on(options.isa)
        .with_attention(attention)
}

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
                Linear::Quantized(quantized) => Some((layer.name.clone(), quantized.clone())),
                Linear::Float(_) => None,
            });
        let layers: BTreeMap<String, QuantLinear> = layers.collect();
        let quantized = io::to_bytes(&layers).map_err(Error::Quantized)?;
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
