//! The vision transformer: its layers in order, and the forward pass.

use crate::{
    Config, Error, FloatLinear, Linear, Workspace,
    attention::Heads,
    ops::{self, LayerNorm},
    tensor_file::TensorFile,
};

/// A vision transformer with pre-LN blocks, exact GELU and a class token.
///
/// Its linear layers are numbered in the order in which they run: 0 is the patch embedding, `1 +
/// 4·b` to `4 + 4·b` are qkv, proj, fc1 and fc2 of block `b`, and the last is the head.
pub struct Vit {
    config: Config,
    cls_token: Vec<f32>,
    pos_embed: Vec<f32>,
    /// norm1 and norm2 of each block, then the last norm.
    norms: Vec<LayerNorm>,
    linears: Vec<Linear>,
}

/// The linear layers of a block, in order.
const BLOCK_LINEARS: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];

impl Vit {
    /// Read a model with timm's tensor names, stored as F16, BF16 or F32.
    ///
    /// The metadata must hold `heads`, `layer_norm_eps`, and `mean` and `std` (one number per
    /// channel, commas between); `patch_size`, if there, must agree with the tensors.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for a truncated or inconsistent file, [`Error::Metadata`],
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::NumberType`], [`Error::NonFinite`], or
    /// [`Error::UnexpectedTensor`] for tensors of another architecture.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let mut file = TensorFile::parse(bytes)?;
        let config = Config::read(&file)?;
        let Config {
            width,
            mlp_width,
            classes,
            layer_norm_eps: eps,
            ..
        } = config;
        let cls_token = file.take_f32("cls_token", &[1, 1, width])?;
        let pos_embed = file.take_f32("pos_embed", &[1, config.tokens(), width])?;

        let patch_shape = [width, config.channels, config.patch_size, config.patch_size];
        let mut norms = Vec::new();
        let mut linears = vec![take_linear(&mut file, "patch_embed.proj", &patch_shape)?];
        let sizes = [
            [3 * width, width],
            [width, width],
            [mlp_width, width],
            [width, mlp_width],
        ];
        for block in 0..config.depth {
            for norm in ["norm1", "norm2"] {
                norms.push(take_norm(
                    &mut file,
                    &format!("blocks.{block}.{norm}"),
                    width,
                    eps,
                )?);
            }
            for (name, shape) in BLOCK_LINEARS.iter().zip(&sizes) {
                linears.push(take_linear(
                    &mut file,
                    &format!("blocks.{block}.{name}"),
                    shape,
                )?);
            }
        }
        norms.push(take_norm(&mut file, "norm", width, eps)?);
        linears.push(take_linear(&mut file, "head", &[classes, width])?);
        file.finish()?;
        Ok(Self {
            config,
            cls_token,
            pos_embed,
            norms,
            linears,
        })
    }

    /// Sizes and normalisation.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The linear layers, in the order in which they run.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.linears.iter()
    }

    /// Name of linear layer number `layer` as in the file, without `.weight`.
    pub fn layer_name(&self, layer: usize) -> String {
        if layer == 0 {
            "patch_embed.proj".into()
        } else if layer > 4 * self.config.depth {
            "head".into()
        } else {
            format!(
                "blocks.{}.{}",
                (layer - 1) / 4,
                BLOCK_LINEARS[(layer - 1) % 4]
            )
        }
    }

    /// The same model with every linear layer replaced by what `replace` makes of its number and
    /// the layer.
    pub(crate) fn replace_linears(
        &self,
        replace: impl FnMut((usize, &Linear)) -> Result<Linear, Error>,
    ) -> Result<Self, Error> {
        Ok(Self {
            config: self.config.clone(),
            cls_token: self.cls_token.clone(),
            pos_embed: self.pos_embed.clone(),
            norms: self.norms.clone(),
            linears: self
                .linears
                .iter()
                .enumerate()
                .map(replace)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Write the logits `[n, classes]` of normalised images `[n, channels, height, width]`.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if the lengths do not fit together or exceed the workspace,
    /// [`Error::Workspace`] if that was made for a model of other sizes, [`Error::Layer`] if a
    /// quantized layer refuses its input.
    pub fn forward(
        &self,
        images: &[f32],
        logits: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.forward_observed(images, logits, workspace, &mut |_, _| ())
    }

    /// [`Vit::forward`] that shows `observe` the number and the input rows of each linear layer
    /// before it runs.
    ///
    /// # Errors
    ///
    /// As [`Vit::forward`].
    pub fn forward_observed(
        &self,
        images: &[f32],
        logits: &mut [f32],
        workspace: &mut Workspace,
        observe: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let count = self.check_sizes(images, logits, workspace)?;
        let Config {
            width,
            depth,
            heads,
            ..
        } = self.config;
        let (tokens, patches) = (self.config.tokens(), self.config.patches());
        let rows = count * tokens;
        let w = workspace;
        let x = &mut w.tokens[..rows * width];
        let normal = &mut w.normal[..rows * width];
        let update = &mut w.update[..rows * width];
        let mixed = &mut w.mixed[..rows * width];
        let qkv = &mut w.qkv[..rows * 3 * width];
        let hidden = &mut w.hidden[..rows * self.config.mlp_width];
        let mut linear = |layer: usize, x: &[f32], y: &mut [f32]| {
            observe(layer, x);
            let done = self.linears[layer].forward(x, y, &mut w.scratch);
            done.map_err(|source| Error::Layer {
                layer: self.layer_name(layer),
                source,
            })
        };

        let patch_rows = &mut w.patches[..images.len()];
        cut_patches(&self.config, images, patch_rows);
        let embedded = &mut w.embedded[..count * patches * width];
        linear(0, patch_rows, embedded)?;
        for (x, embedded) in x
            .chunks_exact_mut(tokens * width)
            .zip(embedded.chunks_exact(patches * width))
        {
            x[..width].copy_from_slice(&self.cls_token);
            x[width..].copy_from_slice(embedded);
            ops::add(x, &self.pos_embed);
        }

        let attention = Heads {
            tokens,
            width,
            heads,
        };
        for block in 0..depth {
            let first = 1 + 4 * block;
            self.norms[2 * block].apply(x, normal);
            linear(first, normal, qkv)?;
            for (qkv, mixed) in qkv
                .chunks_exact(tokens * 3 * width)
                .zip(mixed.chunks_exact_mut(tokens * width))
            {
                attention.attend(qkv, mixed, &mut w.scores, &mut w.head);
            }
            linear(first + 1, mixed, update)?;
            ops::add(x, update);
            self.norms[2 * block + 1].apply(x, normal);
            linear(first + 2, normal, hidden)?;
            ops::gelu(hidden);
            linear(first + 3, hidden, update)?;
            ops::add(x, update);
        }

        let class_tokens = &mut w.class_tokens[..count * width];
        for (class_token, x) in class_tokens
            .chunks_exact_mut(width)
            .zip(x.chunks_exact(tokens * width))
        {
            self.norms[2 * depth].apply(&x[..width], class_token);
        }
        linear(1 + 4 * depth, class_tokens, logits)
    }

    /// The number of images, if the slices hold whole images and fit each other and the workspace.
    fn check_sizes(
        &self,
        images: &[f32],
        logits: &[f32],
        workspace: &Workspace,
    ) -> Result<usize, Error> {
        let pixels = self.config.pixels();
        let wrong = |what, expected, got| {
            Err(Error::Size {
                what,
                expected,
                got,
            })
        };
        if workspace.config != self.config {
            let (expected, got) = (
                format!("{:?}", self.config),
                format!("{:?}", workspace.config),
            );
            return Err(Error::Workspace { expected, got });
        }
        if !images.len().is_multiple_of(pixels) {
            return wrong(
                "numbers in the images",
                format!("a multiple of {pixels}"),
                images.len(),
            );
        }
        let count = images.len() / pixels;
        if count > workspace.max_images {
            return wrong(
                "number of images",
                format!("at most the workspace's {}", workspace.max_images),
                count,
            );
        }
        if logits.len() != count * self.config.classes {
            let expected = format!("{count} × {}", self.config.classes);
            return wrong("numbers in the logits", expected, logits.len());
        }
        Ok(count)
    }
}

/// Each patch as a row `[channels, patch, patch]`, patches from left to right and top to bottom.
fn cut_patches(config: &Config, images: &[f32], rows: &mut [f32]) {
    let Config {
        image_size: size,
        patch_size: patch,
        ..
    } = *config;
    let grid = size / patch;
    let (image_pixels, row_length) = (config.pixels(), config.patch_features());
    for (image, rows) in images
        .chunks_exact(image_pixels)
        .zip(rows.chunks_exact_mut(image_pixels))
    {
        for (at, row) in rows.chunks_exact_mut(row_length).enumerate() {
            let corner = at / grid * patch * size + at % grid * patch;
            for (line, to) in row.chunks_exact_mut(patch).enumerate() {
                let from = line / patch * size * size + corner + line % patch * size;
                to.copy_from_slice(&image[from..from + patch]);
            }
        }
    }
}

fn take_norm(
    file: &mut TensorFile<'_>,
    name: &str,
    width: usize,
    eps: f32,
) -> Result<LayerNorm, Error> {
    let weight = file.take_f32(&format!("{name}.weight"), &[width])?;
    let bias = file.take_f32(&format!("{name}.bias"), &[width])?;
    Ok(LayerNorm { weight, bias, eps })
}

/// A layer of weights `[out, ...]`; all dimensions but the first are its input features.
fn take_linear(file: &mut TensorFile<'_>, name: &str, shape: &[usize]) -> Result<Linear, Error> {
    let weight = file.take_f32(&format!("{name}.weight"), shape)?;
    let bias = file.take_f32(&format!("{name}.bias"), &shape[..1])?;
    let in_features = weight.len() / bias.len();
    Ok(Linear::Float(FloatLinear::new(weight, bias, in_features)))
}
