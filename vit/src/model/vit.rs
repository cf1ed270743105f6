//! ViT, DeiT and DINOv2: pre-LN blocks with exact GELU in which all tokens attend to each other.

use noisyquant::Norm;

use super::{
    memory::{Buffers, Sizes},
    named::{NamedTensor, norm_tensors},
    operation::Operation,
    patches,
    positions::{self, Resampling},
    run::{MlpLayers, Rows, Run},
    source::Source,
};
use crate::{
    checkpoint::Names,
    config::{Config, Head, VitConfig},
    error::Error,
    ops::{self, Heads, mean_of_rows},
};

/// What a ViT has beside its linear layers, and which of the model's layers those are.
pub(crate) struct Vit {
    config: VitConfig,
    /// Tokens before the patches, positions added: `[tokens, width]`.
    prefix: Vec<f32>,
    /// Positions of the patches: `[patches, width]`.
    positions: Vec<f32>,
    patch_embed: usize,
    blocks: Vec<Block>,
    last_norm: Norm,
    /// None in a model of features alone.
    head: Option<usize>,
    /// Of the distillation token.
    head_dist: Option<usize>,
}

/// A block's norms, and the numbers of its linear layers, in the order in which they run.
struct Block {
    norm1: Norm,
    qkv: usize,
    proj: usize,
    norm2: Norm,
    fc1: usize,
    fc2: usize,
}

impl Vit {
    pub(super) fn read(
        source: &mut Source<'_>,
        config: &Config,
        vit: &VitConfig,
    ) -> Result<Self, Error> {
        let VitConfig {
            width,
            mlp_width,
            layer_norm_eps: eps,
            ..
        } = *vit;
        let (prefix, positions) = match source.names().is_own() {
            true => (
                source.tensor("prefix_tokens", &[1, vit.prefix_tokens(), width])?,
                source.tensor("pos_embed", &[1, config.patches(), width])?,
            ),
            false => read_tokens(source, config, vit)?,
        };
        let patch = vit.patch_size;
        let patch_shape = [width, config.channels, patch, patch];
        let patch_embed = source.linear("patch_embed.proj", &patch_shape)?;
        // A file that this crate wrote has the scales in the weights.
        let scaled = vit.layer_scale && !source.names().is_own();
        let mut blocks = Vec::new();
        for block in 0..vit.depth {
            let name = |part: &str| format!("blocks.{block}.{part}");
            let (proj, fc2) = (name("attn.proj"), name("mlp.fc2"));
            let scale = |part: &str| scaled.then(|| name(part));
            blocks.push(Block {
                norm1: source.norm(&name("norm1"), width, eps)?,
                qkv: source.linear(&name("attn.qkv"), &[3 * width, width])?,
                proj: source.linear_scaled(&proj, &[width, width], scale("ls1.gamma"))?,
                norm2: source.norm(&name("norm2"), width, eps)?,
                fc1: source.linear(&name("mlp.fc1"), &[mlp_width, width])?,
                fc2: source.linear_scaled(&fc2, &[width, mlp_width], scale("ls2.gamma"))?,
            });
        }
        let last_norm = source.norm("norm", width, eps)?;
        let (mut head, mut head_dist) = (None, None);
        if config.classes > 0 {
            let inputs = match vit.head {
                Head::ClassAndPatchMean => 2 * width,
                _ => width,
            };
            head = Some(source.linear("head", &[config.classes, inputs])?);
            if vit.head == Head::ClassAndDistillation {
                head_dist = Some(source.linear("head_dist", &[config.classes, inputs])?);
            }
        }
        Ok(Self {
            config: vit.clone(),
            prefix,
            positions,
            patch_embed,
            blocks,
            last_norm,
            head,
            head_dist,
        })
    }

    pub(super) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let width = self.config.width;
        let shape = |values: &[f32]| vec![1, values.len() / width, width];
        let mut tensors = vec![
            ("prefix_tokens".into(), shape(&self.prefix), &*self.prefix),
            ("pos_embed".into(), shape(&self.positions), &*self.positions),
        ];
        for (at, block) in self.blocks.iter().enumerate() {
            tensors.extend(norm_tensors(&format!("blocks.{at}.norm1"), &block.norm1));
            tensors.extend(norm_tensors(&format!("blocks.{at}.norm2"), &block.norm2));
        }
        tensors.extend(norm_tensors("norm", &self.last_norm));
        tensors
    }

    /// Tokens of an image.
    pub(super) fn tokens(&self) -> usize {
        (self.prefix.len() + self.positions.len()) / self.config.width
    }

    /// How many tokens of an image, the first ones, are needed after the last attention.
    fn needed_tokens(&self, logits: bool) -> usize {
        match self.config.head {
            Head::ClassAndDistillation if logits => 2,
            Head::ClassAndPatchMean if logits => self.tokens(),
            Head::ClassToken | Head::ClassAndDistillation | Head::ClassAndPatchMean => 1,
            Head::PatchMean | Head::NormedPatchMean => self.tokens(),
        }
    }

    /// The MLP of a block.
    fn mlp(&self, block: &Block) -> MlpLayers {
        MlpLayers {
            fc1: block.fc1,
            activation: self.config.activation.function(),
            fc2: block.fc2,
        }
    }

    /// The MLPs of all blocks.
    pub(super) fn mlps(&self) -> impl Iterator<Item = MlpLayers> {
        self.blocks.iter().map(|block| self.mlp(block))
    }

    /// Sizes of the attention of each block; in the last one, fewer tokens may ask.
    pub(super) fn heads(&self) -> Heads {
        let VitConfig { width, heads, .. } = self.config;
        Heads {
            tokens: self.tokens(),
            queries: self.tokens(),
            width,
            heads,
        }
    }

    pub(super) fn sizes(&self, config: &Config, images: usize) -> Sizes {
        let width = self.config.width;
        let rows = images * self.tokens();
        Sizes {
            patches: images * config.pixels(),
            tokens: rows * width,
            normal: rows * width,
            windows: 0,
            qkv: rows * 3 * width,
            mixed: rows * width,
            hidden: rows * self.config.mlp_width,
            update: rows * width,
            features: images * width,
            head_input: images * 2 * width,
            logits: images * config.classes,
        }
    }

    /// Write `buffers.features`, and what else the head needs if there are to be `logits`. After the last
    /// attention, only the tokens that are needed go on, unless the pass is observed: who chooses numbers by
    /// the rows of a layer is to see all of them.
    pub(super) fn forward(
        &self,
        config: &Config,
        images: &[f32],
        count: usize,
        logits: bool,
        buffers: &mut Buffers<'_>,
        run: &mut Run<'_, '_>,
    ) -> Result<(), Error> {
        let width = self.config.width;
        let attention = self.heads();
        let tokens = attention.tokens;
        let rows = count * tokens;
        let x = &mut buffers.tokens[..rows * width];
        let normal = &mut buffers.normal[..rows * width];
        let update = &mut buffers.update[..rows * width];
        let mixed = &mut buffers.mixed[..rows * width];
        let qkv = &mut buffers.qkv[..rows * 3 * width];
        let hidden = &mut buffers.hidden[..rows * self.config.mlp_width];

        let patch_rows = &mut buffers.patches[..images.len()];
        patches::cut(config, images, patch_rows);
        run.lap(Operation::Other);
        let embedded = &mut update[..count * self.positions.len()];
        run.linear(self.patch_embed, patch_rows, embedded)?;
        for (x, embedded) in x
            .chunks_exact_mut(tokens * width)
            .zip(embedded.chunks_exact(self.positions.len()))
        {
            let (prefix, patches) = x.split_at_mut(self.prefix.len());
            prefix.copy_from_slice(&self.prefix);
            patches.copy_from_slice(embedded);
            ops::add(patches, &self.positions);
        }
        run.lap(Operation::Other);

        let needed = match run.is_observed() {
            true => tokens,
            false => self.needed_tokens(logits),
        };
        if let Some(first) = self.blocks.first() {
            let buffers = [
                Rows::new(&mut *x, width),
                Rows::new(&mut *normal, width),
                Rows::new(&mut *qkv, 3 * width),
            ];
            run.by_rows(buffers, &|lane, [x, normal, qkv]| {
                lane.normed_linear(first.qkv, &first.norm1, None, x, normal, qkv)
            })?;
        }
        // Of each image.
        let mut kept = tokens;
        for (at, block) in self.blocks.iter().enumerate() {
            let next = self.blocks.get(at + 1);
            if next.is_none() {
                keep_first(x, tokens * width, needed * width);
                run.lap(Operation::Other);
                kept = needed;
            }
            let heads = Heads {
                queries: kept,
                ..attention
            };
            let rows = count * kept;
            let mixed = &mut mixed[..rows * width];
            let attended = run.attend_for((block.qkv, block.proj), heads, qkv, mixed)?;
            let buffers = [
                Rows::first(rows, x, width),
                Rows::first(rows, normal, width),
                Rows::first(rows, update, width),
                Rows::first(rows, hidden, self.config.mlp_width),
                Rows::first(rows, qkv, 3 * width),
            ];
            run.by_rows(buffers, &|lane, [x, normal, update, hidden, qkv]| {
                let (mlp, norm) = (self.mlp(block), &block.norm2);
                let left = lane.project(block.proj, &attended, width, x, update)?;
                let left = lane.mlp(mlp, norm, left, x, normal, hidden, update)?;
                let rest = left.then_some(&*update);
                if let Some(next) = next {
                    return lane.normed_linear(next.qkv, &next.norm1, rest, x, normal, qkv);
                }
                if let Some(rest) = rest {
                    ops::add(x, rest);
                    lane.lap(Operation::Norm);
                }
                Ok(())
            })?;
        }
        let x = &x[..count * kept * width];
        self.finish(
            x,
            normal,
            count,
            logits,
            buffers.features,
            buffers.head_input,
        );
        run.lap(Operation::Norm);
        Ok(())
    }

    /// The last norm, of the tokens that the head sees; `x` has the first tokens of each image, or all.
    fn finish(
        &self,
        x: &[f32],
        normal: &mut [f32],
        count: usize,
        logits: bool,
        features: &mut [f32],
        head_input: &mut [f32],
    ) {
        let width = self.config.width;
        let image_length = x.len() / count.max(1);
        let images = x.chunks_exact(image_length.max(1));
        let features = features[..count * width].chunks_exact_mut(width);
        match self.config.head {
            Head::PatchMean => {
                ops::normalise(&self.last_norm, x, normal);
                let images = normal.chunks_exact(image_length.max(1));
                for (mean, normal) in features.zip(images) {
                    mean_of_rows(&normal[self.prefix.len()..], mean);
                }
                return;
            }
            Head::NormedPatchMean => {
                let mean = &mut normal[..width];
                for (normed, x) in features.zip(images) {
                    mean_of_rows(&x[self.prefix.len()..], mean);
                    ops::normalise(&self.last_norm, mean, normed);
                }
                return;
            }
            _ => {
                for (class_token, x) in features.zip(images.clone()) {
                    ops::normalise(&self.last_norm, &x[..width], class_token);
                }
            }
        }
        match self.config.head {
            Head::ClassAndDistillation if logits => {
                let inputs = head_input[..count * width].chunks_exact_mut(width);
                for (token, x) in inputs.zip(images) {
                    ops::normalise(&self.last_norm, &x[width..2 * width], token);
                }
            }
            Head::ClassAndPatchMean if logits => {
                ops::normalise(&self.last_norm, x, normal);
                let inputs = head_input[..count * 2 * width].chunks_exact_mut(2 * width);
                for (input, normal) in inputs.zip(normal.chunks_exact(image_length.max(1))) {
                    let (class_token, mean) = input.split_at_mut(width);
                    class_token.copy_from_slice(&normal[..width]);
                    mean_of_rows(&normal[self.prefix.len()..], mean);
                }
            }
            _ => {}
        }
    }

    /// The logits of what [`Vit::forward`] left in the buffers.
    pub(super) fn head(
        &self,
        config: &Config,
        count: usize,
        buffers: &mut Buffers<'_>,
        logits: &mut [f32],
        run: &mut Run<'_, '_>,
    ) -> Result<(), Error> {
        let width = self.config.width;
        let Some(head) = self.head else {
            return Ok(());
        };
        let input = match self.config.head {
            Head::ClassAndPatchMean => &buffers.head_input[..count * 2 * width],
            _ => &buffers.features[..count * width],
        };
        run.linear(head, input, logits)?;
        if let Some(head_dist) = self.head_dist {
            let others = &mut buffers.logits[..count * config.classes];
            run.linear(head_dist, &buffers.head_input[..count * width], others)?;
            for (logit, other) in logits.iter_mut().zip(others) {
                *logit = (*logit + *other) / 2.0;
            }
        }
        Ok(())
    }
}

/// Move the first `kept` of each `image` numbers together, so that they are the first of `x`.
fn keep_first(x: &mut [f32], image: usize, kept: usize) {
    if kept < image {
        for at in 1..x.len() / image {
            x.copy_within(at * image..at * image + kept, at * kept);
        }
    }
}

/// Tokens before the patches with their positions, and the positions of the patches.
fn read_tokens(
    source: &mut Source<'_>,
    config: &Config,
    vit: &VitConfig,
) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let width = vit.width;
    let mut prefix = source.tensor("cls_token", &[1, 1, width])?;
    if vit.distilled {
        prefix.extend(source.tensor("dist_token", &[1, 1, width])?);
    }
    if vit.registers > 0 {
        prefix.extend(source.tensor("reg_token", &[1, vit.registers, width])?);
    }
    let [_, placed, _] = source.shape("pos_embed", "[1, tokens, width]")?;
    let mut positions = source.tensor("pos_embed", &[1, placed, width])?;
    let names: &Names = source.names();
    let grid = names.position_grid(placed, vit.prefix_tokens(), vit.registers);
    let (before, grid) = grid.ok_or_else(|| Error::Shape {
        name: names.tensor("pos_embed"),
        expected: format!("[1, tokens of a square image, {width}]"),
        got: vec![1, placed, width],
    })?;
    let patches = positions.split_off(before * width);
    // Those without a position are the last.
    ops::add(&mut prefix[..positions.len()], &positions);
    let positions = match grid == config.grid() {
        true => patches,
        false => {
            let resampling = match names.antialias_positions(vit.registers) {
                true => Resampling::Antialiased,
                false => Resampling::Plain,
            };
            positions::resample(&patches, width, grid, config.grid(), resampling)
        }
    };
    Ok((prefix, positions))
}
