//! Models: their layers in order, and what they have beside them.

use std::sync::Arc;

use noisyquant::{DynamicMatmul, Isa};

use super::{
    attention::Attention,
    layer::{Layer, LayerReport},
    memory::Sizes,
    named::NamedTensor,
    run::{MlpLayers, Mlps},
    source::Source,
    swin::Swin,
    vit::Vit,
};
use crate::{
    config::{Architecture, Config},
    error::Error,
    ops::{Arithmetic, Heads, Linear, MAX_KEYS},
    warning::Warnings,
};

/// A vision transformer: a ViT, DeiT, DINOv2 or Swin, its linear layers in f32 or quantized.
pub struct Model {
    pub(super) config: Config,
    pub(super) layers: Vec<Layer>,
    /// Those of `layers` that run as one.
    pub(super) mlps: Mlps,
    pub(super) body: Arc<Body>,
    attention: Attention,
    /// The instruction set of attention where no layer has one.
    isa: Option<Isa>,
    reports: Vec<LayerReport>,
    warnings: Warnings,
    origin: Option<String>,
}

/// What a model has beside its linear layers.
pub(super) enum Body {
    Vit(Vit),
    Swin(Swin),
}

impl Body {
    /// The MLPs whose layers are both quantized.
    fn mlps(&self, layers: &[Layer]) -> Mlps {
        let mlps: Vec<MlpLayers> = match self {
            Body::Vit(vit) => vit.mlps().collect(),
            Body::Swin(swin) => swin.mlps().collect(),
        };
        let quantized = |mlp: MlpLayers| Some((mlp.fc1, mlp.quantized(layers)?));
        mlps.into_iter().filter_map(quantized).collect()
    }
}

impl Model {
    /// A model of this configuration, with the tensors and layers of `source` and attention in f32.
    pub(crate) fn build(mut source: Source<'_>, config: Config) -> Result<Self, Error> {
        let body = match &config.architecture {
            Architecture::Vit(vit) => Body::Vit(Vit::read(&mut source, &config, vit)?),
            Architecture::Swin(swin) => Body::Swin(Swin::read(&mut source, &config, swin)?),
        };
        let (layers, warnings) = source.finish(&config)?;
        Ok(Self {
            mlps: body.mlps(&layers),
            layers,
            config,
            body: Arc::new(body),
            attention: Attention::F32,
            isa: None,
            reports: Vec::new(),
            warnings,
            origin: None,
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

    /// Bytes of the packed weights of the quantized layers in memory:
    /// [`QuantLinear::packed_bytes`](noisyquant::QuantLinear::packed_bytes) of all.
    pub fn packed_bytes(&self) -> usize {
        let bytes = |layer: &Layer| match &layer.linear {
            Linear::Quantized(linear) => linear.packed_bytes(),
            Linear::Float(_) => 0,
        };
        self.layers.iter().map(bytes).sum()
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
    pub(super) fn arithmetic(&self) -> Result<Arithmetic, noisyquant::Error> {
        let isa = |layer: &Layer| match &layer.linear {
            Linear::Quantized(linear) => Some(linear.isa()),
            Linear::Float(_) => None,
        };
        Ok(match self.attention {
            Attention::F32 => Arithmetic::Float,
            Attention::Int8 => {
                let isa = self.layers.iter().find_map(isa).or(self.isa);
                Arithmetic::Int8(DynamicMatmul::new(isa)?)
            }
        })
    }

    /// What was chosen for each layer when this model was quantized; none for a float checkpoint.
    pub fn reports(&self) -> &[LayerReport] {
        &self.reports
    }

    /// What was guessed or passed over when the checkpoint was read; a quantized file keeps it.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// [`Model::digest`] of the float model that this one was made of; none of a float model, or in older
    /// files.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// This model with the digest of the float model that it was made of.
    pub(crate) fn with_origin(self, origin: Option<String>) -> Self {
        Self { origin, ..self }
    }

    /// What this model has beside its layers, by name, with shapes.
    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        match &*self.body {
            Body::Vit(vit) => vit.tensors(),
            Body::Swin(swin) => swin.tensors(),
        }
    }

    /// This model with reports of how its layers were made.
    pub(crate) fn with_reports(self, reports: Vec<LayerReport>) -> Self {
        Self { reports, ..self }
    }

    /// This model with what was guessed before it was built, and then what was when it was built.
    pub(crate) fn with_warnings(self, mut warnings: Warnings) -> Self {
        warnings.extend(&self.warnings);
        Self { warnings, ..self }
    }

    /// The same model with other layers.
    pub(crate) fn with_layers(&self, layers: Vec<Layer>, reports: Vec<LayerReport>) -> Self {
        Self {
            config: self.config.clone(),
            mlps: self.body.mlps(&layers),
            layers,
            body: Arc::clone(&self.body),
            attention: self.attention,
            isa: self.isa,
            reports,
            warnings: self.warnings.clone(),
            origin: self.origin.clone(),
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
}
