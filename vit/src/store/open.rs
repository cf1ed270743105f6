//! Models out of files: float checkpoints, and what [`Model::to_bytes`] made.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{Cursor, Read, Seek},
    path::Path,
    time::{Duration, Instant},
};

use noisyquant::{Executor, Isa, Numbers, QuantLinear, io};

use super::header::{Header, KEY, VERSION, Version};
use crate::{
    checkpoint::{Files, Names, Tensors, View},
    config::{Architecture, Config, Judgement, Overrides, Sidecars},
    error::Error,
    model::{Attention, Model, Source},
    warning::Warnings,
};

/// Layers of a file of fewer bytes are packed by the calling thread: threads take longer to start.
const SMALL: usize = 1 << 20;

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The instruction set of a quantized file's layers; `None` is the best that this CPU has.
    pub isa: Option<Isa>,
    /// What replaces, or stands in for, the configuration of a checkpoint.
    pub overrides: Overrides,
}

impl Model {
    /// Open a float checkpoint or a quantized file: a safetensors file, a
    /// `model.safetensors.index.json` that names shards, or a folder that holds one of these.
    ///
    /// Tensors are F16, BF16 or F32, named as timm or Hugging Face's transformers name them; wrappers such as
    /// `module.` may stand before all names. Sizes come from the tensors' shapes; `config.json` and
    /// `preprocessor_config.json` beside the file tell the rest, or else the habits of the architecture do,
    /// of which [`Model::warnings`] tells.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] or [`Error::Json`] for files that cannot be read, [`Error::At`] for what is
    /// wrong in one: see [`Model::from_safetensors`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        Self::open_timed(path, options, &mut Duration::default())
    }

    /// [`Model::open`] that adds to `packing` how long it took to make quantized layers of their numbers.
    pub(crate) fn open_timed(
        path: &Path,
        options: &OpenOptions,
        packing: &mut Duration,
    ) -> Result<Self, Error> {
        let files = Files::open(path)?;
        let tensors = files.tensors()?;
        let model = match is_quantized(&tensors) {
            true => read_quantized(tensors, options, packing),
            false => {
                Sidecars::read(&files).and_then(|sidecars| read_float(tensors, &sidecars, options))
            }
        };
        let model = model.map(|model| model.with_warnings(files.warnings().clone()));
        model.map_err(|error| match error {
            error @ (Error::Open { .. } | Error::Json { .. } | Error::At { .. }) => error,
            error => error.at(path),
        })
    }

    /// Read a float model or a quantized one from the bytes of a safetensors file.
    ///
    /// The metadata may hold `noisyquant.heads`, `noisyquant.layer_norm_eps`, `noisyquant.resize`,
    /// `noisyquant.interpolation`, and `noisyquant.mean` and `noisyquant.std` (one number per channel,
    /// commas between); `noisyquant.patch_size`, if there, must agree with the tensors. Where the first
    /// are not stated, [`Model::warnings`] says what was guessed.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for a truncated or inconsistent file, [`Error::Architecture`],
    /// [`Error::Setting`], [`Error::MissingTensor`], [`Error::Shape`], [`Error::NumberType`],
    /// [`Error::NonFinite`], or [`Error::UnexpectedTensor`] for tensors of another architecture.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let tensors = Tensors::parse(bytes)?;
        let options = OpenOptions::default();
        match is_quantized(&tensors) {
            true => read_quantized(tensors, &options, &mut Duration::default()),
            false => read_float(tensors, &Sidecars::default(), &options),
        }
    }
}

/// Whether the file at `path` holds tensors that [`Model::to_bytes`] did not write.
pub(crate) fn is_float_checkpoint(path: &Path) -> bool {
    let is_float = || Ok::<_, Error>(!is_quantized(&Files::open(path)?.tensors()?));
    path.is_file() && is_float().unwrap_or(false)
}

/// The model of a float checkpoint.
fn read_float(
    tensors: Tensors<'_>,
    sidecars: &Sidecars,
    options: &OpenOptions,
) -> Result<Model, Error> {
    if tensors.contains("prefix_tokens")
        || tensors.names().any(|name| name.ends_with(".weight_scale"))
    {
        return Err(Error::Setting {
            what: format!("metadata `{KEY}`"),
            expected: "it beside the tensors of a quantized model (save them with their metadata)"
                .into(),
            got: "none".into(),
        });
    }
    let names = Names::detect(&tensors)?;
    let mut warnings = Warnings::default();
    let overrides = &options.overrides;
    let config = Config::read(&tensors, &names, sidecars, overrides, &mut warnings)?;
    let source = Source::new(tensors, names, BTreeMap::new());
    let source = source.without_bias(sidecars.without_bias()?);
    let model = Model::build(source, config)?;
    Ok(model.with_warnings(warnings))
}

/// Whether [`Model::to_bytes`] made this file.
fn is_quantized(tensors: &Tensors<'_>) -> bool {
    tensors.metadata(KEY).is_some()
}

/// The model of a file that [`Model::to_bytes`] made.
fn read_quantized(
    tensors: Tensors<'_>,
    options: &OpenOptions,
    packing: &mut Duration,
) -> Result<Model, Error> {
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
    if version < 3 {
        config.judgement = Judgement::usual(config.classes);
    }
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
    let mut warnings = header.warnings.into_owned();
    options
        .overrides
        .apply(&mut config.preprocess, &mut warnings);
    config.check()?;
    let mut quantized = BTreeMap::new();
    for view in tensors.files() {
        let executor = match view.len() < SMALL {
            true => Executor::serial(),
            false => Executor::default(),
        };
        let pack = |numbers| {
            let started = Instant::now();
            let layer = QuantLinear::from_numbers_on(numbers, options.isa, executor);
            *packing += started.elapsed();
            layer
        };
        let layers = match *view {
            View::Memory(bytes) => read_layers(Cursor::new(bytes), pack),
            View::File(file, _) => read_layers(file, pack),
        };
        quantized.extend(layers.map_err(Error::Quantized)?);
    }
    let names = Names::own(matches!(config.architecture, Architecture::Swin(_)));
    Model::build(Source::new(tensors, names, quantized), config)?
        .with_reports(header.reports.into_owned())
        .with_warnings(warnings)
        .with_origin(header.origin.map(Cow::into_owned))
        .on(options.isa)
        .with_attention(attention)
}

/// The quantized layers of a file, each packed before the next is read, so that no other is in memory twice.
fn read_layers(
    source: impl Read + Seek,
    mut pack: impl FnMut(Numbers) -> Result<QuantLinear, noisyquant::Error>,
) -> Result<BTreeMap<String, QuantLinear>, noisyquant::Error> {
    let mut reader = io::Reader::new(source)?;
    let names: Vec<String> = reader.names().map(String::from).collect();
    let layers = names.into_iter().map(|name| {
        let layer = pack(reader.numbers(&name)?)?;
        Ok((name, layer))
    });
    layers.collect()
}
