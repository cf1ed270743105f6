//! `config.json` of Hugging Face's transformers, with the defaults of its configurations.

use super::{
    architecture::{Activation, SwinConfig, VitConfig},
    preprocess::Habit,
};
use crate::{checkpoint::Entries, error::Error};

/// The kinds of models, by `model_type`.
const TYPES: [(&str, Kind); 5] = [
    ("vit", Kind::Vit),
    ("deit", Kind::Deit),
    ("dinov2", Kind::Dinov2),
    ("dinov2_with_registers", Kind::Dinov2),
    ("swin", Kind::Swin),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Vit,
    Deit,
    Dinov2,
    Swin,
}

/// A configuration of transformers. What it leaves out has the default of its kind.
#[derive(Clone, Debug)]
pub(super) struct HuggingFace {
    entries: Entries,
    kind: Kind,
}

impl HuggingFace {
    /// Refuse what is no supported architecture.
    pub(super) fn new(entries: Entries) -> Result<Self, Error> {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        let kind = entries.text("model_type")?;
        let known = TYPES.iter().find(|(name, _)| kind.as_deref() == Some(name));
        let Some((_, kind)) = known else {
            let got = kind.map_or("no such entry".into(), |kind| format!("`{kind}`"));
            return Err(entries.wrong("model_type", &names.join(" or "), got));
        };
        for key in ["use_swiglu_ffn", "use_absolute_embeddings"] {
            if entries.flag(key)? == Some(true) {
                return Err(entries.refuse(key, "false"));
            }
        }
        Ok(Self {
            entries,
            kind: *kind,
        })
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn is_swin(&self) -> bool {
        self.kind == Kind::Swin
    }

    /// How the architecture's images are made.
    pub(super) fn habit(&self) -> Habit {
        match self.kind {
            Kind::Vit => Habit::Half,
            Kind::Dinov2 => Habit::Dino,
            Kind::Deit | Kind::Swin => Habit::ImageNet,
        }
    }

    pub(super) fn activation(&self) -> Result<Activation, Error> {
        let known = [
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_fast", Activation::GeluTanh),
            ("gelu_accurate", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("gelu_python_tanh", Activation::GeluTanh),
            ("quick_gelu", Activation::QuickGelu),
        ];
        let Some(name) = self.entries.text("hidden_act")? else {
            return Ok(Activation::Gelu);
        };
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, activation)| *activation).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.entries.refuse("hidden_act", &names.join(" or "))
        })
    }

    /// Heads of a ViT.
    pub(super) fn heads(&self) -> Result<usize, Error> {
        Ok(self.entries.count("num_attention_heads")?.unwrap_or(12))
    }

    pub(super) fn layer_norm_eps(&self) -> Result<f32, Error> {
        let usual = match self.kind {
            Kind::Vit | Kind::Deit => 1e-12,
            Kind::Dinov2 => 1e-6,
            Kind::Swin => 1e-5,
        };
        let stated = self.entries.number("layer_norm_eps")?;
        Ok(stated.map_or(usual, |eps| eps as f32))
    }

    /// Whether each logit is judged by itself; none if the number of classes decides.
    pub(super) fn several_labels(&self) -> Result<Option<bool>, Error> {
        match self.entries.text("problem_type")?.as_deref() {
            None => Ok(None),
            Some("single_label_classification") => Ok(Some(false)),
            Some("multi_label_classification") => Ok(Some(true)),
            Some(_) => Err(self.entries.refuse(
                "problem_type",
                "single_label_classification or multi_label_classification",
            )),
        }
    }

    /// Refuse what contradicts the tensors of a ViT.
    pub(super) fn agree_vit(
        &self,
        vit: &VitConfig,
        image_size: usize,
        channels: usize,
    ) -> Result<(), Error> {
        let entries = &self.entries;
        for (key, found) in [
            ("hidden_size", vit.width),
            ("num_hidden_layers", vit.depth),
            ("intermediate_size", vit.mlp_width),
            ("num_register_tokens", vit.registers),
            ("num_channels", channels),
        ] {
            entries.agree(key, entries.count(key)?, found)?;
        }
        entries.agree("patch_size", entries.square("patch_size")?, vit.patch_size)?;
        entries.agree("image_size", entries.square("image_size")?, image_size)?;
        match self.kind {
            Kind::Dinov2 => self.agree_ratio(vit.width, vit.mlp_width),
            _ => Ok(()),
        }
    }

    /// Refuse what contradicts the tensors of a Swin.
    pub(super) fn agree_swin(&self, swin: &SwinConfig, channels: usize) -> Result<(), Error> {
        let entries = &self.entries;
        entries.agree("embed_dim", entries.count("embed_dim")?, swin.width)?;
        let depths = swin.stages.iter().map(|stage| stage.depth).collect();
        entries.agree("depths", entries.counts("depths")?, depths)?;
        let heads = swin.stages.iter().map(|stage| stage.heads).collect();
        entries.agree("num_heads", entries.counts("num_heads")?, heads)?;
        entries.agree("num_channels", entries.count("num_channels")?, channels)?;
        entries.agree("patch_size", entries.square("patch_size")?, swin.patch_size)?;
        for (at, stage) in swin.stages.iter().enumerate() {
            entries.agree("window_size", entries.square("window_size")?, stage.window)?;
            self.agree_ratio(swin.stage_width(at), stage.mlp_width)?;
        }
        Ok(())
    }

    fn agree_ratio(&self, width: usize, mlp_width: usize) -> Result<(), Error> {
        let stated = self.entries.number("mlp_ratio")?;
        match stated {
            Some(ratio) if (width as f64 * ratio) as usize != mlp_width => {
                let expected = format!("{mlp_width} / {width}, as in the tensors");
                Err(self.entries.refuse("mlp_ratio", &expected))
            }
            _ => Ok(()),
        }
    }
}
