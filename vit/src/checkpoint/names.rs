//! Names of tensors: this crate's are timm's; Hugging Face's are translated to. Wrappers such as `module.`
//! may stand before all of them.

use super::tensors::Tensors;
use crate::error::Error;

/// How a checkpoint names the tensors that this crate calls `blocks.3.attn.qkv` and so on.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    style: Style,
    swin: bool,
    /// Name of the layer that makes the logits.
    head: String,
    /// Whether the layer between stages `s − 1` and `s` is stored with stage `s − 1`.
    downsample_with_previous: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Style {
    /// What this crate writes.
    Own,
    Timm {
        /// What wrappers put in front of all names, such as `module.`.
        wrapper: String,
        /// Whether the last norm follows the pooling of patches, and is called accordingly.
        fc_norm: bool,
    },
    HuggingFace {
        /// What wrappers put in front of all names.
        wrapper: String,
        /// In front of all but the head's names, wrappers included, such as `module.vit.`.
        prefix: String,
        /// What the names of blocks begin with after that; Swin's have stages.
        blocks: &'static str,
        dialect: Dialect,
    },
}

/// How transformers calls the parts of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Dialect {
    /// Whether norms have DINOv2's names instead of ViT's, and the MLP is called one.
    dino: bool,
    /// Whether the names are those of transformers 5 in memory, which it saves by the names of before.
    inner: bool,
}

/// What a tensor that no layer takes is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leftover {
    /// Buffers and masks, of which a forward pass has no use.
    Unused,
    /// A part of training or of another task, such as a decoder.
    OtherTask,
    /// Nobody knows: the model may be another.
    Unknown,
}

const TIMM_PATCHES: &str = "patch_embed.proj.weight";
const HUGGING_FACE_PATCHES: &str = "embeddings.patch_embeddings.projection.weight";
/// Heads of transformers; the first is that of two.
const HEADS: [&str; 2] = ["cls_classifier", "classifier"];
/// What names of blocks begin with in transformers: as saved, and as transformers 5 has them in memory.
const BLOCKS: [&str; 3] = ["encoder.layer.", "encoder.layers.", "layers."];

impl Names {
    /// The names that this crate writes.
    pub(crate) fn own(swin: bool) -> Self {
        Self {
            style: Style::Own,
            swin,
            head: "head".into(),
            downsample_with_previous: false,
        }
    }

    /// Whether the library of these names resamples positions with antialiasing, for a model of so many
    /// register tokens.
    pub(crate) fn antialias_positions(&self, registers: usize) -> bool {
        match self.style {
            Style::Own | Style::Timm { .. } => true,
            Style::HuggingFace { .. } => registers > 0,
        }
    }

    /// Find out whose names these are.
    pub(crate) fn detect(tensors: &Tensors<'_>) -> Result<Self, Error> {
        if let Some(prefix) = prefix_of(tensors, HUGGING_FACE_PATCHES)? {
            return Ok(Self::hugging_face(tensors, prefix));
        }
        match prefix_of(tensors, TIMM_PATCHES)? {
            Some(prefix) => Ok(Self::timm(tensors, prefix)),
            None => {
                let first = tensors.names().next();
                Err(Error::Architecture {
                    got: match first {
                        Some(name) => format!("tensors such as `{name}` but no `{TIMM_PATCHES}`"),
                        None => "no tensors".into(),
                    },
                })
            }
        }
    }

    fn timm(tensors: &Tensors<'_>, wrapper: &str) -> Self {
        let has = |name: &str| tensors.contains(&format!("{wrapper}{name}"));
        let nested = has("head.fc.weight");
        Self {
            swin: is_swin(tensors),
            head: format!("{wrapper}{}", if nested { "head.fc" } else { "head" }),
            downsample_with_previous: has("layers.0.downsample.norm.weight"),
            style: Style::Timm {
                wrapper: wrapper.into(),
                fc_norm: has("fc_norm.weight"),
            },
        }
    }

    fn hugging_face(tensors: &Tensors<'_>, prefix: &str) -> Self {
        // The head stands beside the rest, or beside what the rest is in.
        let dots = prefix.match_indices('.').map(|(at, _)| &prefix[..=at]);
        let heads = [""]
            .into_iter()
            .chain(dots)
            .flat_map(|wrapper| HEADS.map(|head| (wrapper, format!("{wrapper}{head}"))));
        let found = heads
            .into_iter()
            .find(|(_, head)| tensors.contains(&format!("{head}.weight")));
        let (wrapper, head) = found.unwrap_or((prefix, format!("{prefix}classifier")));
        let begins = |start: &str| tensors.names().any(|name| name.starts_with(start));
        let blocks = BLOCKS
            .into_iter()
            .find(|blocks| begins(&format!("{prefix}{blocks}0.")));
        let blocks = blocks.unwrap_or(BLOCKS[0]);
        let dialect = Dialect {
            dino: tensors.contains(&format!("{prefix}{blocks}0.norm1.weight")),
            inner: tensors
                .names()
                .any(|name| name.ends_with(".attention.q_proj.weight")),
        };
        Self {
            style: Style::HuggingFace {
                wrapper: wrapper.into(),
                prefix: prefix.into(),
                blocks,
                dialect,
            },
            swin: is_swin(tensors),
            head,
            downsample_with_previous: true,
        }
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

    /// Whether the last norm follows the pooling of patches.
    pub(crate) fn has_fc_norm(&self) -> bool {
        matches!(self.style, Style::Timm { fc_norm: true, .. })
    }

    /// What LayerNorm adds to the variance where nothing states it.
    pub(crate) fn usual_layer_norm_eps(&self) -> f32 {
        match &self.style {
            _ if self.swin => 1e-5,
            Style::HuggingFace { dialect, .. } if !dialect.dino => 1e-12,
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
            Style::Timm { wrapper, .. } => format!("{wrapper}layers."),
            Style::Own => "layers.".into(),
        }
    }

    /// What the names of blocks begin with, of a stage if there are stages.
    pub(crate) fn block_prefix(&self, stage: Option<usize>) -> String {
        match (stage, &self.style) {
            (Some(stage), _) => format!("{}{stage}.blocks.", self.stage_prefix()),
            (None, Style::HuggingFace { prefix, blocks, .. }) => format!("{prefix}{blocks}"),
            (None, Style::Timm { wrapper, .. }) => format!("{wrapper}blocks."),
            (None, Style::Own) => "blocks.".into(),
        }
    }

    /// The checkpoint's name of a tensor, or of a layer without `.weight` and `.bias`.
    pub(crate) fn tensor(&self, name: &str) -> String {
        if name == "head" {
            return self.head.clone();
        }
        let mut name = name.to_string();
        if self.downsample_with_previous
            && let Some((stage, part)) = stage_of(&name)
            && part.starts_with("downsample.")
        {
            name = format!("layers.{}.{part}", stage.saturating_sub(1));
        }
        match &self.style {
            Style::Own => name,
            Style::Timm { wrapper, fc_norm } => match &*name {
                "norm" if *fc_norm => format!("{wrapper}fc_norm"),
                name => format!("{wrapper}{name}"),
            },
            Style::HuggingFace { wrapper, .. } if name == "head_dist" => {
                format!("{wrapper}distillation_classifier")
            }
            Style::HuggingFace {
                prefix,
                blocks,
                dialect,
                ..
            } => format!("{prefix}{}", hugging_face(&name, blocks, *dialect)),
        }
    }

    /// The checkpoint's names of the layers that lie below each other in layer `name`: queries, keys
    /// and values are three in Hugging Face's files.
    pub(crate) fn layers(&self, name: &str) -> Vec<String> {
        match (name.strip_suffix(".attn.qkv"), &self.style) {
            (Some(block), Style::HuggingFace { dialect, .. }) => {
                let block = self.tensor(block);
                let parts = match (dialect.inner, self.swin) {
                    (true, _) => ["q_proj", "k_proj", "v_proj"],
                    (false, true) => ["self.query", "self.key", "self.value"],
                    (false, false) => ["attention.query", "attention.key", "attention.value"],
                };
                parts.map(|part| format!("{block}.attention.{part}")).into()
            }
            _ => vec![self.tensor(name)],
        }
    }

    /// Names of the biases of queries, keys and values where timm's descendants (BEiT, EVA) store those apart
    /// from the weights, keys usually having none.
    pub(crate) fn qv_biases(&self, name: &str) -> Option<[String; 3]> {
        let attention = name.strip_suffix(".qkv")?;
        match self.style {
            Style::Timm { .. } => {
                let attention = self.tensor(attention);
                Some(["q_bias", "k_bias", "v_bias"].map(|part| format!("{attention}.{part}")))
            }
            _ => None,
        }
    }

    /// What a tensor is for that no layer takes.
    pub(crate) fn leftover(&self, name: &str) -> Leftover {
        let wrapper = match &self.style {
            Style::Own => return Leftover::Unknown,
            Style::Timm { wrapper, .. } | Style::HuggingFace { wrapper, .. } => wrapper,
        };
        let last = name.rsplit('.').next().unwrap_or(name);
        let within = name.strip_prefix(wrapper.as_str()).unwrap_or(name);
        let first = within.split('.').next().unwrap_or(within);
        match (last, first) {
            (
                "relative_position_index"
                | "attn_mask"
                | "mask_token"
                | "position_ids"
                | "n_averaged"
                | "num_batches_tracked",
                _,
            ) => Leftover::Unused,
            _ if self.is_hugging_face() && name.contains("pooler.dense.") => Leftover::Unused,
            (_, "criterion" | "loss" | "loss_fn" | "projector" | "predictor") => {
                Leftover::OtherTask
            }
            _ if first == "decoder" || first.starts_with("decoder_") => Leftover::OtherTask,
            _ => Leftover::Unknown,
        }
    }
}

/// What stands before the only name that ends with `end`, in whole parts of a name.
fn prefix_of<'a>(tensors: &'a Tensors<'_>, end: &str) -> Result<Option<&'a str>, Error> {
    let prefix = |name: &'a str| {
        let prefix = name.strip_suffix(end)?;
        (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
    };
    let mut found = tensors.names().filter_map(prefix);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(Error::Setting {
            what: format!("tensors `...{end}`"),
            expected: "those of one model".into(),
            got: format!("those of several, `{first}...` and `{second}...`"),
        }),
        (first, _) => Ok(first),
    }
}

fn is_swin(tensors: &Tensors<'_>) -> bool {
    let mut names = tensors.names();
    names.any(|name| name.ends_with("relative_position_bias_table"))
}

/// Stage and rest of `layers.STAGE.REST`.
fn stage_of(name: &str) -> Option<(usize, &str)> {
    let (stage, part) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((stage.parse().ok()?, part))
}

fn hugging_face(name: &str, blocks: &str, dialect: Dialect) -> String {
    let fixed = match name {
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
        return fixed.into();
    }
    if let Some((stage, part)) = stage_of(name) {
        let part = match part.strip_prefix("blocks.") {
            Some(block) => format!("blocks.{}", in_block(block, dialect)),
            None => part.into(),
        };
        return format!("encoder.layers.{stage}.{part}");
    }
    let block = name.strip_prefix("blocks.").unwrap_or(name);
    format!("{blocks}{}", in_block(block, dialect))
}

/// `BLOCK.PART` with Hugging Face's name of the part; `BLOCK` alone stays as it is.
fn in_block(name: &str, Dialect { dino, inner }: Dialect) -> String {
    let Some((block, part)) = name.split_once('.') else {
        return name.into();
    };
    let part = match part {
        "norm1" if !dino => "layernorm_before",
        "norm2" if !dino => "layernorm_after",
        "mlp.fc1" if !dino && !inner => "intermediate.dense",
        "mlp.fc2" if !dino && !inner => "output.dense",
        "attn.proj" if inner => "attention.o_proj",
        "attn.proj" => "attention.output.dense",
        "attn.relative_position_bias_table" if inner => {
            "attention.relative_position_bias.relative_position_bias_table"
        }
        "attn.relative_position_bias_table" => "attention.self.relative_position_bias_table",
        "ls1.gamma" => "layer_scale1.lambda1",
        "ls2.gamma" => "layer_scale2.lambda1",
        other => other,
    };
    format!("{block}.{part}")
}
