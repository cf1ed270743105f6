//! Swin: attention within windows that shift from block to block, over a feature map that halves
//! its sides from stage to stage.

use noisyquant::Norm;

use super::{
    memory::{Buffers, Sizes},
    named::{NamedTensor, norm_tensors},
    operation::Operation,
    patches,
    run::{MlpLayers, Rows, Run},
    source::Source,
    windows::Windows,
};
use crate::{
    config::{Activation, Config, StageConfig, SwinConfig},
    error::Error,
    ops::{self, Bias, Heads, mean_of_rows},
};

/// Added to the variance in the norms between stages, which no configuration changes.
const MERGE_EPS: f32 = 1e-5;

/// Most numbers in the masks of a feature map, which an absurd image size would not fit in memory.
const MAX_MASK: usize = 1 << 26;

/// What a Swin has beside its linear layers, and which of the model's layers those are.
pub(crate) struct Swin {
    patch_embed: usize,
    patch_norm: Norm,
    stages: Vec<Stage>,
    last_norm: Norm,
    /// None in a model of features alone.
    head: Option<usize>,
}

struct Stage {
    /// None in the first stage.
    merge: Option<Merge>,
    /// Tokens along a side.
    side: usize,
    heads: Heads,
    mlp_width: usize,
    activation: Activation,
    /// Of even blocks and of odd ones.
    windows: [Windows; 2],
    blocks: Vec<Block>,
}

/// What makes the tokens of a stage out of four each of the stage before: a norm, and the number of
/// a linear layer.
struct Merge {
    norm: Norm,
    reduction: usize,
}

/// A block's norms, and the numbers of its linear layers, in the order in which they run.
struct Block {
    norm1: Norm,
    qkv: usize,
    /// As stored, `[(2 · window − 1)², heads]`.
    table: Vec<f32>,
    /// The same for each pair of tokens, `[heads, tokens, tokens]`.
    bias: Vec<f32>,
    proj: usize,
    norm2: Norm,
    fc1: usize,
    fc2: usize,
}

impl Swin {
    pub(super) fn read(
        source: &mut Source<'_>,
        config: &Config,
        swin: &SwinConfig,
    ) -> Result<Self, Error> {
        let (patch, width) = (swin.patch_size, swin.width);
        let patch_shape = [width, config.channels, patch, patch];
        let patch_embed = source.linear("patch_embed.proj", &patch_shape)?;
        let patch_norm = source.norm("patch_embed.norm", width, MERGE_EPS)?;
        let mut side = config.grid();
        let mut stages = Vec::new();
        for (at, stage) in swin.stages.iter().enumerate() {
            let width = swin.stage_width(at);
            let mut merge = None;
            if at > 0 {
                side = side.div_ceil(2);
                let name = format!("layers.{at}.downsample");
                // Four tokens of half the width.
                let inputs = 2 * width;
                let reduction = format!("{name}.reduction");
                merge = Some(Merge {
                    norm: source.norm(&format!("{name}.norm"), inputs, MERGE_EPS)?,
                    reduction: source.linear_without_bias(&reduction, &[width, inputs])?,
                });
            }
            stages.push(Stage::read(source, swin, at, stage, side, merge)?);
        }
        let last_norm = source.norm("norm", config.features(), swin.layer_norm_eps)?;
        let mut head = None;
        if config.classes > 0 {
            head = Some(source.linear("head", &[config.classes, config.features()])?);
        }
        Ok(Self {
            patch_embed,
            patch_norm,
            stages,
            last_norm,
            head,
        })
    }

    pub(super) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let mut tensors = norm_tensors("patch_embed.norm", &self.patch_norm).to_vec();
        for (at, stage) in self.stages.iter().enumerate() {
            if let Some(merge) = &stage.merge {
                let name = format!("layers.{at}.downsample.norm");
                tensors.extend(norm_tensors(&name, &merge.norm));
            }
            for (block, parts) in stage.blocks.iter().enumerate() {
                let name = |part: &str| format!("layers.{at}.blocks.{block}.{part}");
                tensors.extend(norm_tensors(&name("norm1"), &parts.norm1));
                tensors.extend(norm_tensors(&name("norm2"), &parts.norm2));
                let heads = stage.heads.heads;
                let shape = vec![parts.table.len() / heads, heads];
                let table = name("attn.relative_position_bias_table");
                tensors.push((table, shape, &parts.table));
            }
        }
        tensors.extend(norm_tensors("norm", &self.last_norm));
        tensors
    }

    /// Sizes of the attention of each stage.
    pub(super) fn heads(&self) -> impl Iterator<Item = Heads> {
        self.stages.iter().map(|stage| stage.heads)
    }

    /// The MLPs of all blocks.
    pub(super) fn mlps(&self) -> impl Iterator<Item = MlpLayers> {
        let blocks = (self.stages.iter())
            .flat_map(|stage| stage.blocks.iter().map(move |block| (stage, block)));
        blocks.map(|(stage, block)| stage.mlp(block))
    }

    /// Most rows that a layer sees of one image.
    pub(super) fn most_rows(&self) -> usize {
        let rows = self.stages.iter().map(Stage::most_rows);
        rows.max().unwrap_or(0)
    }

    pub(super) fn sizes(&self, config: &Config, images: usize) -> Sizes {
        let most = |numbers: &dyn Fn(&Stage) -> usize| {
            images * self.stages.iter().map(numbers).max().unwrap_or(0)
        };
        let tokens = most(&|stage| stage.side.pow(2) * stage.heads.width);
        let windows = most(&|stage| stage.most_rows() * stage.heads.width);
        Sizes {
            patches: images * config.pixels(),
            tokens,
            // Four merged tokens are twice as wide as what becomes of them.
            normal: most(&|stage| stage.side.pow(2) * 2 * stage.heads.width),
            windows: windows.max(most(&|stage| stage.side.pow(2) * 2 * stage.heads.width)),
            qkv: 3 * windows,
            mixed: windows,
            hidden: most(&|stage| stage.side.pow(2) * stage.mlp_width),
            update: windows,
            features: images * config.features(),
            head_input: 0,
            logits: 0,
        }
    }

    /// The logits of the features that [`Swin::forward`] left in the buffers.
    pub(super) fn head(
        &self,
        config: &Config,
        count: usize,
        buffers: &Buffers<'_>,
        logits: &mut [f32],
        run: &mut Run<'_, '_>,
    ) -> Result<(), Error> {
        match self.head {
            Some(head) => {
                let features = &buffers.features[..count * config.features()];
                run.linear(head, features, logits)
            }
            None => Ok(()),
        }
    }

    /// Write `buffers.features`.
    pub(super) fn forward(
        &self,
        config: &Config,
        images: &[f32],
        count: usize,
        buffers: &mut Buffers<'_>,
        run: &mut Run<'_, '_>,
    ) -> Result<(), Error> {
        let patch_rows = &mut buffers.patches[..images.len()];
        patches::cut(config, images, patch_rows);
        run.lap(Operation::Other);
        let width = self.patch_norm.width();
        let tokens = count * config.patches() * width;
        let embedded = &mut buffers.update[..tokens];
        let patch_width = patch_rows.len() / (count * config.patches()).max(1);
        let rows = [
            Rows::new(patch_rows, patch_width),
            Rows::new(embedded, width),
            Rows::new(&mut buffers.tokens[..tokens], width),
        ];
        run.by_rows(rows, &|lane, [patches, embedded, tokens]| {
            lane.linear(self.patch_embed, patches, embedded)?;
            ops::normalise(&self.patch_norm, embedded, tokens);
            lane.lap(Operation::Norm);
            Ok(())
        })?;
        let mut side = config.grid();
        for stage in &self.stages {
            stage.forward(side, count, buffers, run)?;
            side = stage.side;
        }
        let width = config.features();
        let tokens = side * side * width;
        let normal = &mut buffers.normal[..count * tokens];
        ops::normalise(&self.last_norm, &buffers.tokens[..count * tokens], normal);
        let features = buffers.features[..count * width].chunks_exact_mut(width);
        for (mean, normal) in features.zip(normal.chunks_exact(tokens)) {
            mean_of_rows(normal, mean);
        }
        run.lap(Operation::Norm);
        Ok(())
    }
}

impl Stage {
    fn read(
        source: &mut Source<'_>,
        swin: &SwinConfig,
        at: usize,
        config: &StageConfig,
        side: usize,
        merge: Option<Merge>,
    ) -> Result<Self, Error> {
        let (width, eps) = (swin.stage_width(at), swin.layer_norm_eps);
        let StageConfig {
            depth,
            heads,
            window,
            shift,
            mlp_width,
        } = *config;
        if window > side {
            return Err(Error::Setting {
                what: format!("window of stage {at}"),
                expected: format!("at most the {side} tokens along a side of its feature map"),
                got: window.to_string(),
            });
        }
        if (side * window).pow(2) > MAX_MASK {
            return Err(Error::Setting {
                what: "image size".into(),
                expected: format!("masks of at most {MAX_MASK} numbers in stage {at}"),
                got: format!("{side}×{side} tokens in windows of {window}×{window}"),
            });
        }
        let mut blocks = Vec::new();
        for block in 0..depth {
            let name = |part: &str| format!("layers.{at}.blocks.{block}.{part}");
            let offsets = (2 * window - 1).pow(2);
            let table = name("attn.relative_position_bias_table");
            let table = source.tensor(&table, &[offsets, heads])?;
            blocks.push(Block {
                norm1: source.norm(&name("norm1"), width, eps)?,
                qkv: source.linear(&name("attn.qkv"), &[3 * width, width])?,
                bias: relative_bias(&table, window, heads),
                table,
                proj: source.linear(&name("attn.proj"), &[width, width])?,
                norm2: source.norm(&name("norm2"), width, eps)?,
                fc1: source.linear(&name("mlp.fc1"), &[mlp_width, width])?,
                fc2: source.linear(&name("mlp.fc2"), &[width, mlp_width])?,
            });
        }
        // A single window has nowhere to shift to.
        let shift = if window < side { shift } else { 0 };
        Ok(Self {
            merge,
            side,
            heads: Heads {
                tokens: window * window,
                queries: window * window,
                width,
                heads,
            },
            mlp_width,
            activation: swin.activation,
            windows: [0, shift].map(|shift| Windows::new(side, window, shift, swin.padding)),
            blocks,
        })
    }

    /// The MLP of a block.
    fn mlp(&self, block: &Block) -> MlpLayers {
        MlpLayers {
            fc1: block.fc1,
            activation: self.activation.function(),
            fc2: block.fc2,
        }
    }

    /// Rows of an image's windows, padding included.
    fn most_rows(&self) -> usize {
        self.windows[0].rows()
    }

    /// Run on `buffers.tokens`, whose map has sides of `previous_side`, and leave the result there.
    fn forward(
        &self,
        previous_side: usize,
        count: usize,
        buffers: &mut Buffers<'_>,
        run: &mut Run<'_, '_>,
    ) -> Result<(), Error> {
        let width = self.heads.width;
        let map = self.side * self.side * width;
        if let Some(Merge { norm, reduction }) = &self.merge {
            let previous = previous_side * previous_side * width / 2;
            let maps = &mut buffers.mixed[..count * previous];
            maps.copy_from_slice(&buffers.tokens[..count * previous]);
            let rows = [
                Rows::new(&mut buffers.windows[..2 * count * map], 2 * width),
                Rows::new(&mut buffers.normal[..2 * count * map], 2 * width),
                Rows::new(&mut buffers.tokens[..count * map], width),
            ];
            run.by_rows(rows, &|lane, [merged, normal, tokens]| {
                merge_tokens(maps, previous_side, lane.first_row(), merged, 2 * width);
                lane.lap(Operation::Other);
                lane.normed_linear(*reduction, norm, None, merged, normal, tokens)
            })?;
        }
        let rows = count * self.most_rows();
        let x = &mut buffers.tokens[..count * map];
        let normal = &mut buffers.normal[..count * map];
        let windows = &mut buffers.windows[..rows * width];
        let qkv = &mut buffers.qkv[..rows * 3 * width];
        let mixed = &mut buffers.mixed[..rows * width];
        let update = &mut buffers.update[..rows * width];
        let hidden = &mut buffers.hidden[..count * map / width * self.mlp_width];
        for (at, block) in self.blocks.iter().enumerate() {
            let partition = &self.windows[at % 2];
            let rows = [Rows::new(windows, width), Rows::new(qkv, 3 * width)];
            run.by_rows(rows, &|lane, [windows, qkv]| {
                partition.gather(&block.norm1, x, lane.first_row(), windows);
                lane.lap(Operation::Norm);
                lane.linear(block.qkv, windows, qkv)
            })?;
            let bias = Bias {
                per_head: &block.bias,
                mask: partition.mask(),
            };
            run.attend(block.qkv, self.heads, qkv, Some(bias), mixed)?;
            run.linear(block.proj, mixed, update)?;
            let rows = [
                Rows::new(x, width),
                Rows::new(normal, width),
                Rows::new(hidden, self.mlp_width),
                Rows::new(&mut windows[..count * map], width),
            ];
            run.by_rows(rows, &|lane, [x, normal, hidden, rest]| {
                partition.add_back(update, width, lane.first_row(), x);
                lane.lap(Operation::Norm);
                let (mlp, norm) = (self.mlp(block), &block.norm2);
                if lane.mlp(mlp, norm, false, x, normal, hidden, rest)? {
                    ops::add(x, rest);
                    lane.lap(Operation::Norm);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Rows of `width` numbers, from row `first` on, each of 2 × 2 tokens of the `maps`, whose sides are `side`:
/// above left, below left, above right, below right. Zeros where the map has no token.
fn merge_tokens(maps: &[f32], side: usize, first: usize, merged: &mut [f32], width: usize) {
    let (half, part) = (side.div_ceil(2), width / 4);
    for (at, token) in merged.chunks_exact_mut(width).enumerate() {
        let (map, at) = ((first + at) / (half * half), (first + at) % (half * half));
        let (row, column) = (at / half * 2, at % half * 2);
        let corners = [(0, 0), (1, 0), (0, 1), (1, 1)];
        for ((down, right), to) in corners.iter().zip(token.chunks_exact_mut(part)) {
            let (row, column) = (row + down, column + right);
            match row < side && column < side {
                true => {
                    let start = ((map * side + row) * side + column) * part;
                    to.copy_from_slice(&maps[start..start + part]);
                }
                false => to.fill(0.0),
            }
        }
    }
}

/// `[heads, tokens, tokens]` out of a table `[(2 · window − 1)², heads]`: the entry of a query and a
/// key is that of the query's place relative to the key's, rows before columns.
fn relative_bias(table: &[f32], window: usize, heads: usize) -> Vec<f32> {
    let tokens = window * window;
    let offsets = 2 * window - 1;
    let pair = |head: usize, query: usize, key: usize| {
        let rows = query / window + window - 1 - key / window;
        let columns = query % window + window - 1 - key % window;
        table[(rows * offsets + columns) * heads + head]
    };
    let pairs = (0..tokens).flat_map(|query| (0..tokens).map(move |key| (query, key)));
    (0..heads)
        .flat_map(|head| pairs.clone().map(move |(query, key)| (head, query, key)))
        .map(|(head, query, key)| pair(head, query, key))
        .collect()
}
