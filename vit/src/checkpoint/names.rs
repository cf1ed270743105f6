//! Names of tensors: this crate's are timm's; Hugging Face's are translated to.

use super::tensors::Tensors;
use crate::error::Error;

/// How a checkpoint names the tensors that this crate calls `blocks.3.attn.qkv` and so on.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    style: Style,
    swin: bool,
    /// Name of the layer that makes the logits.
    head: &'static str,
    /// Whether the layer between stages `s − 1` and `s` is stored with stage `s − 1`.
    downsample_with_previous: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Style {
    /// What this crate writes.
    Own,
    Timm,
    HuggingFace {
        /// In front of all but the head's names, such as `vit.`.
        prefix: String,
        /// Whether blocks have the names of DINOv2 instead of ViT's.
        dino: bool,
    },
}

const TIMM_PATCHES: &str = "patch_embed.proj.weight";
const HUGGING_FACE_PATCHES: &str = "embeddings.patch_embeddings.projection.weight";

impl Names {
    /// The names that this crate writes.
    pub(crate) fn own(swin: bool) -> Self {
        Self {
            style: Style::Own,
            swin,
            head: "head",
            downsample_with_previous: false,
        }
    }

    /// Whether the library of these names resamples positions with antialiasing, for a model of so many
    /// register tokens.
    pub(crate) fn antialias_positions(&self, registers: usize) -> bool {
        match self.style {
            Style::Own | Style::Timm => true,
            Style::HuggingFace { .. } => registers > 0,
        }
    }

    /// Find out whose names these are.
    pub(crate) fn detect(tensors: &Tensors<'_>) -> Result<Self, Error> {
        let mut names = tensors.names();
        let prefix = names.find_map(|name| name.strip_suffix(HUGGING_FACE_PATCHES));
        let swin = tensors
            .names()
            .any(|name| name.ends_with("relative_position_bias_table"));
        if let Some(prefix) = prefix {
            let dino = format!("{prefix}encoder.layer.0.norm1.weight");
            let heads = ["cls_classifier", "classifier"];
            let head = heads
                .into_iter()
                .find(|head| tensors.contains(&format!("{head}.weight")));
            return Ok(Self {
                style: Style::HuggingFace {
                    prefix: prefix.into(),
                    dino: tensors.contains(&dino),
                },
                swin,
                head: head.unwrap_or("classifier"),
                downsample_with_previous: true,
            });
        }
        if !tensors.contains(TIMM_PATCHES) {
            let first = tensors.names().next();
            return Err(Error::Architecture {
                got: match first {
                    Some(name) => format!("tensors such as `{name}` but no `{TIMM_PATCHES}`"),
                    None => "no tensors".into(),
                },
            });
        }
        let nested = tensors.contains("head.fc.weight");
        Ok(Self {
            style: Style::Timm,
            swin,
            head: if nested { "head.fc" } else { "head" },
            downsample_with_previous: tensors.contains("layers.0.downsample.norm.weight"),
        })
    }

    pub(crate) fn is_swin(&self) -> bool {
        self.swin
    }

    pub(crate) fn is_own(&self) -> bool {
        self.style == Style::Own
    }

    pub(crate) fn is_hugging_face(&self) -> bool {
        matches!(self.style, Style::HuggingFace { .. })
    }

    /// What LayerNorm adds to the variance where nothing states it.
    pub(crate) fn usual_layer_norm_eps(&self) -> f32 {
        match &self.style {
            _ if self.swin => 1e-5,
            Style::HuggingFace { dino: false, .. } => 1e-12,
            _ => 1e-6,
        }
    }

    /// How many of `placed` positions belong to tokens before the patches, and the side of the square
    /// of the others. Registers have none in Hugging Face's files; in timm's either all tokens before
    /// the patches have some or none has.
    pub(crate) fn position_grid(
        &self,
        placed: usize,
        prefix: usize,
        registers: usize,
    ) -> Option<(usize, usize)> {
        let candidates = match (self.is_hugging_face(), registers) {
            (true, _) => [prefix - registers; 2],
            (false, 0) => [prefix, 0],
            (false, _) => [0, prefix],
        };
        candidates.into_iter().find_map(|before| {
            let patches = placed.checked_sub(before)?;
            let grid = patches.isqrt();
            (grid > 0 && grid * grid == patches).then_some((before, grid))
        })
    }

    /// What the names of stages begin with.
    pub(crate) fn stage_prefix(&self) -> String {
        match &self.style {
            Style::HuggingFace { prefix, .. } => format!("{prefix}encoder.layers."),
            _ => "layers.".into(),
        }
    }

    /// What the names of blocks begin with, of a stage if there are stages.
    pub(crate) fn block_prefix(&self, stage: Option<usize>) -> String {
        match (stage, &self.style) {
            (Some(stage), _) => format!("{}{stage}.blocks.", self.stage_prefix()),
            (None, Style::HuggingFace { prefix, .. }) => format!("{prefix}encoder.layer."),
            (None, _) => "blocks.".into(),
        }
    }

    /// The checkpoint's name of a tensor, or of a layer without `.weight` and `.bias`.
    pub(crate) fn tensor(&self, name: &str) -> String {
        if name == "head" {
            return self.head.into();
        }
        let mut name = name.to_string();
        if self.downsample_with_previous
            && let Some((stage, part)) = stage_of(&name)
            && part.starts_with("downsample.")
        {
            name = format!("layers.{}.{part}", stage.saturating_sub(1));
        }
        match &self.style {
            Style::HuggingFace { prefix, dino } => hugging_face(&name, prefix, *dino),
            _ => name,
        }
    }

    /// The checkpoint's names of the layers that lie below each other in layer `name`: queries, keys
    /// and values are three in Hugging Face's files.
    pub(crate) fn layers(&self, name: &str) -> Vec<String> {
        match (name.strip_suffix(".attn.qkv"), &self.style) {
            (Some(block), Style::HuggingFace { .. }) => {
                let inner = if self.swin { "self" } else { "attention" };
                let block = self.tensor(block);
                let part = |part| format!("{block}.attention.{inner}.{part}");
                ["query", "key", "value"].map(part).into()
            }
            _ => vec![self.tensor(name)],
        }
    }

    /// Whether a forward pass has no use for this tensor: masks of training, heads of other tasks
    /// that come with a backbone, and tables that are computed here.
    pub(crate) fn is_unused(&self, name: &str) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        match self.style {
            Style::Own => false,
            Style::Timm => matches!(last, "relative_position_index" | "attn_mask"),
            Style::HuggingFace { .. } => {
                matches!(last, "relative_position_index" | "mask_token")
                    || name.contains("pooler.dense.")
            }
        }
    }
}

/// Stage and rest of `layers.STAGE.REST`.
fn stage_of(name: &str) -> Option<(usize, &str)> {
    let (stage, part) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((stage.parse().ok()?, part))
}

fn hugging_face(name: &str, prefix: &str, dino: bool) -> String {
    let fixed = match name {
        "head_dist" => return "distillation_classifier".into(),
        "cls_token" => "embeddings.cls_token",
        "dist_token" => "embeddings.distillation_token",
        "reg_token" => "embeddings.register_tokens",
        "pos_embed" => "embeddings.position_embeddings",
        "patch_embed.proj" => "embeddings.patch_embeddings.projection",
        "patch_embed.norm" => "embeddings.norm",
        "norm" => "layernorm",
        _ => "",
    };
    if !fixed.is_empty() {
        return format!("{prefix}{fixed}");
    }
    if let Some((stage, part)) = stage_of(name) {
        let part = match part.strip_prefix("blocks.") {
            Some(block) => format!("blocks.{}", in_block(block, false)),
            None => part.into(),
        };
        return format!("{prefix}encoder.layers.{stage}.{part}");
    }
    let block = name.strip_prefix("blocks.").unwrap_or(name);
    format!("{prefix}encoder.layer.{}", in_block(block, dino))
}

/// `BLOCK.PART` with Hugging Face's name of the part; `BLOCK` alone stays as it is.
fn in_block(name: &str, dino: bool) -> String {
    let Some((block, part)) = name.split_once('.') else {
        return name.into();
    };
    let part = match part {
        "norm1" if !dino => "layernorm_before",
        "norm2" if !dino => "layernorm_after",
        "mlp.fc1" if !dino => "intermediate.dense",
        "mlp.fc2" if !dino => "output.dense",
        "attn.proj" => "attention.output.dense",
        "attn.relative_position_bias_table" => "attention.self.relative_position_bias_table",
        "ls1.gamma" => "layer_scale1.lambda1",
        "ls2.gamma" => "layer_scale2.lambda1",
        other => other,
    };
    format!("{block}.{part}")
}
