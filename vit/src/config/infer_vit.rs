//! The sizes of a ViT.

use super::{
    architecture::{Architecture, Head, VitConfig},
    reader::Reader,
    stated::{Metadata, Stated},
    timm::{Pool, VitFacts},
};
use crate::{error::Error, warning::Warnings};

impl Reader<'_> {
    /// A ViT, and the image size that its positions were trained at.
    pub(super) fn vit(&self, warnings: &mut Warnings) -> Result<(Architecture, usize), Error> {
        let [width, channels, patch_size, _] = self.patch_weight()?;
        let distilled = self.has("dist_token");
        let registers = match self.has("reg_token") {
            true => self.shape::<3>("reg_token", "", "[1, registers, width]")?[1],
            false => 0,
        };
        let [_, placed, _] = self.shape("pos_embed", "", "[1, tokens, width]")?;
        let prefix = 1 + usize::from(distilled) + registers;
        let Some((before, grid)) = self.names.position_grid(placed, prefix, registers) else {
            return Err(Error::Shape {
                name: self.names.tensor("pos_embed"),
                expected: format!("[1, {prefix} + a square number, {width}]"),
                got: vec![1, placed, width],
            });
        };
        let depth = self.count(&self.names.block_prefix(None));
        let [mlp_width, _] = self.shape("blocks.0.mlp.fc1", ".weight", "[MLP width, width]")?;
        let trained_size = grid * patch_size;
        let vit = VitConfig {
            patch_size,
            width,
            depth,
            heads: self.vit_heads(width, warnings)?,
            mlp_width,
            layer_norm_eps: self.layer_norm_eps(warnings)?,
            activation: self.activation()?,
            distilled,
            registers,
            layer_scale: self.has("blocks.0.ls1.gamma"),
            head: self.head(width)?,
        };
        match self.stated {
            Stated::Nothing => {}
            Stated::HuggingFace(stated) => {
                stated.agree_vit(&vit, trained_size, channels)?;
                self.agree_qkv_bias(stated.entries(), "blocks.0.attn.qkv")?;
            }
            Stated::Timm(stated) => {
                let facts = VitFacts {
                    image_size: trained_size,
                    channels,
                    classes: self.head_classes()?,
                    qkv_bias: self.has_bias("blocks.0.attn.qkv"),
                    proj_bias: self.has_bias("blocks.0.attn.proj"),
                    no_embed_class: before == 0,
                    fc_norm: self.names.has_fc_norm(),
                };
                stated.agree_vit(&vit, &facts)?;
            }
        }
        Ok((Architecture::Vit(vit), trained_size))
    }

    /// Heads, which no shape tells.
    fn vit_heads(&self, width: usize, warnings: &mut Warnings) -> Result<usize, Error> {
        let expected = "a divisor of the width";
        let metadata = Metadata(self.tensors).number("heads", expected)?;
        let asked = match self.overrides.heads.as_deref() {
            None => None,
            Some([heads]) => Some(*heads),
            Some(several) => {
                return Err(Error::Setting {
                    what: "heads".into(),
                    expected: "one number for a ViT".into(),
                    got: format!("{several:?}"),
                });
            }
        };
        // timm's habit: 64 features a head, but 16 heads from ViT-H to ViT-G.
        let usual = match width {
            1280 | 1408 | 1664 => 16,
            _ => (width / 64).max(1),
        };
        let stated = match self.stated {
            Stated::Nothing => None,
            Stated::HuggingFace(stated) => Some(stated.heads()?),
            Stated::Timm(stated) => stated.heads(width)?,
        };
        Ok(asked.or(stated).or(metadata).unwrap_or_else(|| {
            warnings.guess("heads", usual, "--heads");
            usual
        }))
    }

    fn head(&self, width: usize) -> Result<Head, Error> {
        let pool = match self.stated {
            Stated::Timm(stated) => stated.pool()?,
            _ => None,
        };
        let distilled = self.has("head_dist.weight");
        let fc_norm = self.names.has_fc_norm();
        let mean = pool.map_or(fc_norm, |pool| pool == Pool::Mean);
        if mean && distilled {
            let what = "config.json `global_pool`".into();
            return Err(Error::Setting {
                what,
                expected: "token, for there is a head of a distillation token".into(),
                got: "avg".into(),
            });
        }
        let inputs = match self.has("head.weight") {
            true => self.shape::<2>("head", ".weight", "[classes, width]")?[1],
            false => width,
        };
        Ok(match () {
            () if mean && fc_norm => Head::NormedPatchMean,
            () if mean => Head::PatchMean,
            () if distilled => Head::ClassAndDistillation,
            () if inputs == 2 * width => Head::ClassAndPatchMean,
            () => Head::ClassToken,
        })
    }
}
