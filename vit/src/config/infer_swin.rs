//! The sizes of a Swin.

use super::{
    architecture::{Architecture, Padding, StageConfig, SwinConfig},
    reader::Reader,
    stated::Stated,
};
use crate::{error::Error, warning::Warnings};

impl Reader<'_> {
    /// A Swin, and its usual image size.
    pub(super) fn swin(&self, warnings: &mut Warnings) -> Result<(Architecture, usize), Error> {
        let [width, channels, patch_size, _] = self.patch_weight()?;
        let stage = |at: usize| {
            let block = format!("layers.{at}.blocks.0");
            let table = format!("{block}.attn.relative_position_bias_table");
            let [offsets, heads] = self.shape(&table, "", "[(2 · window − 1)², heads]")?;
            let side = offsets.isqrt();
            if side * side != offsets || side.is_multiple_of(2) {
                return Err(Error::Shape {
                    name: self.names.tensor(&table),
                    expected: format!("[(2 · window − 1)², {heads}]"),
                    got: vec![offsets, heads],
                });
            }
            let fc1 = format!("{block}.mlp.fc1");
            let [mlp_width, _] = self.shape(&fc1, ".weight", "[MLP width, width]")?;
            let window = side.div_ceil(2);
            Ok(StageConfig {
                depth: self.count(&self.names.block_prefix(Some(at))),
                heads,
                window,
                shift: window / 2,
                mlp_width,
            })
        };
        let stages = self.count(&self.names.stage_prefix());
        let stages: Vec<StageConfig> = (0..stages).map(stage).collect::<Result<_, Error>>()?;
        let each = |part: fn(&StageConfig) -> usize| stages.iter().map(part).collect::<Vec<_>>();
        let heads = each(|stage| stage.heads);
        if let Some(asked) = &self.overrides.heads
            && *asked != heads
        {
            return Err(Error::Setting {
                what: "heads".into(),
                expected: format!("{heads:?}, as in the tensors"),
                got: format!("{asked:?}"),
            });
        }
        let stated = match self.stated {
            Stated::Nothing => None,
            Stated::HuggingFace(stated) => stated.entries().square("image_size")?,
            Stated::Timm(stated) => stated.image_size()?,
        };
        let image_size = stated.or(self.overrides.image_size);
        // What Swin is published at.
        let image_size = match (image_size, stages.first().map(|stage| stage.window)) {
            (Some(size), _) => size,
            (None, Some(window @ (7 | 12))) => {
                let size = 32 * window;
                warnings.guess("image size", size, "--image-size");
                size
            }
            _ => {
                return Err(Error::Setting {
                    what: "image size".into(),
                    expected: "it in config.json or given, for no tensor tells".into(),
                    got: "none".into(),
                });
            }
        };
        let swin = SwinConfig {
            patch_size,
            width,
            stages,
            layer_norm_eps: self.layer_norm_eps(warnings)?,
            activation: self.activation()?,
            padding: match self.names.is_hugging_face() {
                true => Padding::BeforeShift,
                false => Padding::AfterShift,
            },
        };
        let qkv = "layers.0.blocks.0.attn.qkv";
        match self.stated {
            Stated::Nothing => {}
            Stated::HuggingFace(stated) => {
                stated.agree_swin(&swin, channels)?;
                self.agree_qkv_bias(stated.entries(), qkv)?;
            }
            Stated::Timm(stated) => {
                stated.agree_swin(&swin, channels, self.head_classes()?)?;
                self.agree_qkv_bias(stated.arguments(), qkv)?;
            }
        }
        Ok((Architecture::Swin(swin), image_size))
    }
}
