//! Models: their layers in order, and the forward pass.

mod patches;
mod positions;
mod run;
mod source;
mod swin;
mod vit;
mod windows;

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, time::Duration};

use noisyquant::{DynamicMatmul, Isa, QuantLinear};
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Config, Error, LayerReport, Linear, Overrides, Workspace,
    checkpoint::{Files, Names, Tensors},
    config::Sidecars,
    ops::{Arithmetic, Heads, LayerNorm, MAX_KEYS},
    save,
    workspace::Sizes,
};
pub(crate) use run::RunScratch;
pub use run::{Observed, Operation, Output};
use run::{Observer, Run, Timer};
use source::Source;
use swin::Swin;
use vit::Vit;

/// A vision transformer: a ViT, DeiT, DINOv2 or Swin, its linear layers in f32 or quantized.
pub struct Model {
    config: Config,
    layers: Vec<Layer>,
    body: Arc<Body>,
    attention: Attention,
    /// The instruction set of attention where no layer has one.
    isa: Option<Isa>,
    reports: Vec<LayerReport>,
}

/// How the two products of attention run, that of queries and keys and that of weights and values; softmax
/// between them is in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// In f32.
    #[default]
    F32,
    /// On 8-bit integers that are quantized at run time, with a noisy bias on the weights (docs/math.md,
    /// eq. 30–34).
    Int8,
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Attention::F32 => "f32",
            Attention::Int8 => "int8",
        })
    }
}

/// A linear layer of a model.
pub struct Layer {
    /// Its name in timm's style, such as `blocks.3.attn.qkv`, without `.weight`.
    pub name: String,
    /// The layer.
    pub linear: Linear,
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The instruction set of a quantized file's layers; `None` is the best that this CPU has.
    pub isa: Option<Isa>,
    /// What replaces, or stands in for, the configuration of a checkpoint.
    pub overrides: Overrides,
}

/// What a model has beside its linear layers.
pub(crate) enum Body {
    Vit(Vit),
    Swin(Swin),
}

/// Name, shape and numbers.
pub(crate) type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

fn norm_tensors<'a>(name: &str, norm: &'a LayerNorm) -> [NamedTensor<'a>; 2] {
    [("weight", &norm.weight), ("bias", &norm.bias)]
        .map(|(part, values)| (format!("{name}.{part}"), vec![values.len()], &**values))
}

impl Model {
    /// Open a float checkpoint or a quantized file: a safetensors file, a
    /// `model.safetensors.index.json` that names shards, or a folder that holds one of these.
    ///
    /// Tensors are F16, BF16 or F32, named as timm or Hugging Face's transformers name them. Files
    /// are mapped, so nothing may write to them in the meantime. Sizes come from the tensors'
    /// shapes; `config.json` and `preprocessor_config.json` beside the file tell the rest, or else
    /// the habits of the architecture do.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] or [`Error::Json`] for files that cannot be read, [`Error::At`] for what is
    /// wrong in one: see [`Model::from_safetensors`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let files = Files::open(path)?;
        let tensors = files.tensors()?;
        let model = match save::is_quantized(&tensors) {
            true => save::read(tensors, options),
            false => {
                Sidecars::read(&files).and_then(|sidecars| Self::read(tensors, &sidecars, options))
            }
        };
        model.map_err(|error| match error {
            error @ (Error::Open { .. } | Error::Json { .. }) => error,
            error => error.at(path),
        })
    }

    /// Read a float model or a quantized one from the bytes of a safetensors file.
    ///
    /// The metadata may hold `heads`, `layer_norm_eps`, and `mean` and `std` (one number per channel,
    /// commas between); `patch_size`, if there, must agree with the tensors.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for a truncated or inconsistent file, [`Error::Architecture`],
    /// [`Error::Setting`], [`Error::MissingTensor`], [`Error::Shape`], [`Error::NumberType`],
    /// [`Error::NonFinite`], or [`Error::UnexpectedTensor`] for tensors of another architecture.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let tensors = Tensors::parse(bytes)?;
        let options = OpenOptions::default();
        match save::is_quantized(&tensors) {
            true => save::read(tensors, &options),
            false => Self::read(tensors, &Sidecars::default(), &options),
        }
    }

    /// A float model.
    fn read(
        tensors: Tensors<'_>,
        sidecars: &Sidecars,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let names = Names::detect(&tensors)?;
        let config = Config::read(&tensors, &names, sidecars, &options.overrides)?;
        Self::build(Source::new(tensors, names, BTreeMap::new()), config)
    }

    /// A model of tensors and layers that [`Model::to_bytes`] stored.
    pub(crate) fn restore(
        tensors: Tensors<'_>,
        quantized: BTreeMap<String, QuantLinear>,
        config: Config,
        reports: Vec<LayerReport>,
    ) -> Result<Self, Error> {
        let names = Names::own(matches!(config.architecture, Architecture::Swin(_)));
        let model = Self::build(Source::new(tensors, names, quantized), config)?;
        Ok(Self { reports, ..model })
    }

    fn build(mut source: Source<'_>, config: Config) -> Result<Self, Error> {
        let body = match &config.architecture {
            Architecture::Vit(vit) => Body::Vit(Vit::read(&mut source, &config, vit)?),
            Architecture::Swin(swin) => Body::Swin(Swin::read(&mut source, &config, swin)?),
        };
        Ok(Self {
            layers: source.finish(&config)?,
            config,
            body: Arc::new(body),
            attention: Attention::F32,
            isa: None,
            reports: Vec::new(),
        })
    }

    /// Sizes and preprocessing.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The linear layers, in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether any layer, or attention, is quantized.
    pub fn is_quantized(&self) -> bool {
        let quantized = |layer: &Layer| matches!(layer.linear, Linear::Quantized(_));
        self.attention == Attention::Int8 || self.layers.iter().any(quantized)
    }

    /// How attention runs.
    pub fn attention(&self) -> Attention {
        self.attention
    }

    /// This model with attention of this kind.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for integers in a Swin, whose windows are too small to gain by them, or in a model
    /// of more than 65 536 tokens.
    pub fn with_attention(self, attention: Attention) -> Result<Self, Error> {
        self.check_attention(attention)?;
        Ok(Self { attention, ..self })
    }

    /// What [`Model::with_attention`] refuses.
    pub(crate) fn check_attention(&self, attention: Attention) -> Result<(), Error> {
        let got = match (attention, &*self.body) {
            (Attention::F32, _) => return Ok(()),
            (_, Body::Vit(vit)) if vit.heads().fit_integers() => return Ok(()),
            (_, Body::Vit(vit)) => format!("{attention} for {:?}", vit.heads()),
            (_, Body::Swin(_)) => format!("{attention} for a Swin"),
        };
        Err(Error::Setting {
            what: "attention".into(),
            expected: format!("f32, or int8 for a ViT of at most {MAX_KEYS} tokens"),
            got,
        })
    }

    /// This model with attention in integers where those are usually faster.
    pub(crate) fn with_usual_attention(self) -> Self {
        let attention = match &*self.body {
            Body::Vit(vit) if vit.heads().gain_by_integers() => Attention::Int8,
            _ => self.attention,
        };
        Self { attention, ..self }
    }

    /// This model with attention on `isa`, where no layer says otherwise.
    pub(crate) fn on(self, isa: Option<Isa>) -> Self {
        Self { isa, ..self }
    }

    /// The arithmetic of attention: integers run on the instruction set of the layers.
    fn arithmetic(&self) -> Result<Arithmetic, noisyquant::Error> {
        let isa = |layer: &Layer| match &layer.linear {
            Linear::Quantized(linear) => Some(linear.isa()),
            Linear::Float(_) => None,
        };
        Ok(match self.attention {
            Attention::F32 => Arithmetic::Float,
            Attention::Int8 => Arithmetic::Int8(match self.layers.iter().find_map(isa) {
                Some(isa) => isa,
                None => DynamicMatmul::new(self.isa)?.isa(),
            }),
        })
    }

    /// What was chosen for each layer when this model was quantized; none for a float checkpoint.
    pub fn reports(&self) -> &[LayerReport] {
        &self.reports
    }

    /// What this model has beside its layers, by name, with shapes.
    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        match &*self.body {
            Body::Vit(vit) => vit.tensors(),
            Body::Swin(swin) => swin.tensors(),
        }
    }

    /// The same model with other layers.
    pub(crate) fn with_layers(&self, layers: Vec<Layer>, reports: Vec<LayerReport>) -> Self {
        Self {
            config: self.config.clone(),
            layers,
            body: Arc::clone(&self.body),
            attention: self.attention,
            isa: self.isa,
            reports,
        }
    }

    /// Lengths of the buffers that a batch needs.
    pub(crate) fn sizes(&self, images: usize) -> Sizes {
        match &*self.body {
            Body::Vit(vit) => vit.sizes(&self.config, images),
            Body::Swin(swin) => swin.sizes(&self.config, images),
        }
    }

    /// Sizes of the attention of each block or stage.
    pub(crate) fn attention_sizes(&self) -> Vec<Heads> {
        match &*self.body {
            Body::Vit(vit) => vec![vit.heads()],
            Body::Swin(swin) => swin.heads().collect(),
        }
    }

    /// Most rows that each layer sees of one image.
    pub(crate) fn rows_per_image(&self) -> usize {
        match &*self.body {
            Body::Vit(vit) => vit.tokens(),
            Body::Swin(swin) => swin.most_rows(),
        }
    }

    /// Run normalised images `[n, channels, height, width]`, a few at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if the lengths do not fit together or exceed the workspace,
    /// [`Error::Workspace`] if that was made for a model of other sizes, [`Error::Layer`] if a
    /// quantized layer refuses its input.
    pub fn forward(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.check_sizes(images, output, workspace)?;
        let Config { classes, .. } = self.config;
        let together = FEW_ROWS.div_ceil(self.rows_per_image()).max(1);
        let part = |numbers: usize, each: usize, at: usize| {
            let end = numbers.min((at + 1) * together * each);
            (at * together * each).min(end)..end
        };
        for (at, images) in images.chunks(together * self.config.pixels()).enumerate() {
            let features = part(output.features.len(), self.config.features(), at);
            let logits = part(output.logits.len(), classes, at);
            let output = &mut Output {
                features: &mut output.features[features],
                logits: &mut output.logits[logits],
            };
            self.pass(images, output, workspace, None, None)?;
        }
        Ok(())
    }

    /// [`Model::forward`], all images at once, that shows `observe` the input and output rows of each
    /// linear layer.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`].
    pub fn forward_observed(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace,
        observe: &mut (dyn FnMut(Observed<'_>) + Send),
    ) -> Result<(), Error> {
        self.pass(images, output, workspace, Some(observe), None)
    }

    /// [`Model::forward`], all images at once, that tells `timer` how long each part took.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`].
    pub fn forward_timed(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace,
        timer: &mut (dyn FnMut(Operation, Duration) + Send),
    ) -> Result<(), Error> {
        self.pass(images, output, workspace, None, Some(timer))
    }

    fn pass<'h>(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace,
        observe: Option<Observer<'h>>,
        timer: Option<Timer<'h>>,
    ) -> Result<(), Error> {
        let count = self.check_sizes(images, output, workspace)?;
        let Workspace {
            buffers, scratch, ..
        } = workspace;
        let arithmetic = self.arithmetic().map_err(|source| Error::Layer {
            layer: "attention".into(),
            source,
        })?;
        let mut run = Run::new(&self.layers, arithmetic, scratch, observe, timer);
        match &*self.body {
            Body::Vit(vit) => vit.forward(&self.config, images, count, buffers, &mut run)?,
            Body::Swin(swin) => swin.forward(&self.config, images, count, buffers, &mut run)?,
        }
        let features = &buffers.features[..count * self.config.features()];
        if !output.features.is_empty() {
            output.features.copy_from_slice(features);
        }
        if output.logits.is_empty() {
            return Ok(());
        }
        match &*self.body {
            Body::Vit(vit) => vit.head(&self.config, count, buffers, output.logits, &mut run),
            Body::Swin(_) => run.linear(features, output.logits),
        }
    }

    /// The number of images, if the slices hold whole images and fit each other and the workspace.
    fn check_sizes(
        &self,
        images: &[f32],
        output: &Output<'_>,
        workspace: &Workspace,
    ) -> Result<usize, Error> {
        let pixels = self.config.pixels();
        let require = |holds: bool, what, expected: &dyn Fn() -> String, got| match holds {
            true => Ok(()),
            false => Err(Error::Size {
                what,
                expected: expected(),
                got,
            }),
        };
        if !workspace.config.same_sizes(&self.config) {
            let (expected, got) = (self.config.to_string(), workspace.config.to_string());
            return Err(Error::Workspace { expected, got });
        }
        let count = images.len() / pixels;
        let whole = images.len().is_multiple_of(pixels);
        let multiple = || format!("a multiple of {pixels}");
        require(whole, "numbers in the images", &multiple, images.len())?;
        let most = || format!("at most the workspace's {}", workspace.max_images);
        let fits = count <= workspace.max_images;
        require(fits, "number of images", &most, count)?;
        for (what, length, each) in [
            (
                "numbers in the features",
                output.features.len(),
                self.config.features(),
            ),
            (
                "numbers in the logits",
                output.logits.len(),
                self.config.classes,
            ),
        ] {
            let expected = || format!("{count} × {each}, or none");
            require(
                length == 0 || length == count * each,
                what,
                &expected,
                length,
            )?;
        }
        Ok(count)
    }
}

/// Images run together until they have so many rows: enough for all threads, and few enough for their
/// intermediate results to stay in the caches. Eight images of a ViT-S/14 take 23.4 ms each at once on two
/// threads, 21 one after the other, and 20.5 with an image on each thread.
const FEW_ROWS: usize = 256;
