//! The shape of a vision transformer, read from its tensors and the file's metadata.

use crate::{Error, tensor_file::TensorFile};

/// Sizes of a ViT and how its input is normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Height and width of a patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Colour channels of an image.
    pub channels: usize,
    /// Features of a token.
    pub width: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Features of the hidden layer of a block's MLP.
    pub mlp_width: usize,
    /// Number of logits.
    pub classes: usize,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f32,
    /// Subtracted from each channel of an image scaled to 0..=1. One per channel.
    pub mean: Vec<f32>,
    /// What each channel is divided by after that. One per channel, positive.
    pub std: Vec<f32>,
}

impl Config {
    /// Patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Tokens of an image: its patches and the class token.
    pub fn tokens(&self) -> usize {
        self.patches() + 1
    }

    /// Numbers in a patch: the input features of the patch embedding.
    pub fn patch_features(&self) -> usize {
        self.channels * self.patch_size * self.patch_size
    }

    /// Numbers in an image.
    pub fn pixels(&self) -> usize {
        self.patches() * self.patch_features()
    }

    /// Turn stored bytes `[n, channels, height, width]` into the model's input.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if `bytes` is not a whole number of images.
    pub fn normalise(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let pixels = self.pixels();
        if !bytes.len().is_multiple_of(pixels) {
            let expected = format!("a multiple of {pixels}");
            return Err(Error::Size {
                what: "bytes of images",
                expected,
                got: bytes.len(),
            });
        }
        let plane = self.image_size * self.image_size;
        let planes = bytes.chunks_exact(plane).enumerate();
        let values = planes.flat_map(|(at, plane)| {
            let (mean, std) = (self.mean[at % self.channels], self.std[at % self.channels]);
            plane
                .iter()
                .map(move |&byte| (f32::from(byte) / 255.0 - mean) / std)
        });
        Ok(values.collect())
    }

    /// Work out the sizes from the shapes of a few tensors; the rest are checked when they are
    /// taken.
    pub(crate) fn read(file: &TensorFile<'_>) -> Result<Self, Error> {
        const PATCH: &str = "patch_embed.proj.weight";
        let [width, channels, patch_size, patch_width] =
            file.shape(PATCH, "[width, channels, patch, patch]")?;
        if patch_width != patch_size {
            let expected = format!("[{width}, {channels}, {patch_size}, {patch_size}]");
            let got = vec![width, channels, patch_size, patch_width];
            return Err(Error::Shape {
                name: PATCH.into(),
                expected,
                got,
            });
        }
        let [_, tokens, _] = file.shape("pos_embed", "[1, patches + 1, width]")?;
        let grid = (tokens - 1).isqrt();
        let pixels = (|| {
            patch_size
                .checked_mul(grid)?
                .checked_pow(2)?
                .checked_mul(channels)
        })();
        if grid == 0 || grid * grid != tokens - 1 || pixels.is_none() {
            let expected = format!("[1, square number + 1, {width}]");
            return Err(Error::Shape {
                name: "pos_embed".into(),
                expected,
                got: vec![1, tokens, width],
            });
        }
        let [mlp_width, _] = file.shape("blocks.0.mlp.fc1.weight", "[mlp width, width]")?;
        let [classes, _] = file.shape("head.weight", "[classes, width]")?;
        let config = Self {
            image_size: grid * patch_size,
            patch_size,
            channels,
            width,
            depth: (0..)
                .take_while(|block| file.contains_prefix(&format!("blocks.{block}.")))
                .count(),
            heads: number(file, "heads", "a divisor of the width")?,
            mlp_width,
            classes,
            layer_norm_eps: number(file, "layer_norm_eps", "a positive number")?,
            mean: numbers(file, "mean", channels)?,
            std: numbers(file, "std", channels)?,
        };
        config.check(file)
    }

    fn check(self, file: &TensorFile<'_>) -> Result<Self, Error> {
        let wrong =
            |key, expected: String, got: String| Err(Error::Metadata { key, expected, got });
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return wrong(
                "heads",
                format!("a divisor of the width {}", self.width),
                self.heads.to_string(),
            );
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return wrong(
                "layer_norm_eps",
                "a positive number".into(),
                self.layer_norm_eps.to_string(),
            );
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return wrong("mean", "finite numbers".into(), format!("{:?}", self.mean));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return wrong("std", "positive numbers".into(), format!("{:?}", self.std));
        }
        match file.metadata("patch_size") {
            Some(stated) if stated != self.patch_size.to_string() => wrong(
                "patch_size",
                format!("{}, as in `patch_embed.proj.weight`", self.patch_size),
                stated.into(),
            ),
            _ => Ok(self),
        }
    }
}

fn entry<'a>(
    file: &'a TensorFile<'_>,
    key: &'static str,
    expected: &str,
) -> Result<&'a str, Error> {
    file.metadata(key).ok_or_else(|| Error::Metadata {
        key,
        expected: expected.into(),
        got: "no such entry".into(),
    })
}

fn number<T: std::str::FromStr>(
    file: &TensorFile<'_>,
    key: &'static str,
    expected: &str,
) -> Result<T, Error> {
    let text = entry(file, key, expected)?;
    text.trim().parse().map_err(|_| Error::Metadata {
        key,
        expected: expected.into(),
        got: format!("`{text}`"),
    })
}

/// As many comma-separated numbers as there are channels.
fn numbers(file: &TensorFile<'_>, key: &'static str, channels: usize) -> Result<Vec<f32>, Error> {
    let expected = format!("{channels} numbers with commas between");
    let text = entry(file, key, &expected)?;
    match text
        .split(',')
        .map(|part| part.trim().parse())
        .collect::<Result<Vec<f32>, _>>()
    {
        Ok(values) if values.len() == channels => Ok(values),
        _ => Err(Error::Metadata {
            key,
            expected,
            got: format!("`{text}`"),
        }),
    }
}
