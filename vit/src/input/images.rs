//! Labelled images as stored bytes.

use std::ops::Range;

use crate::{checkpoint::Tensors, config::Config, error::Error};

/// Images `[n, height, width]` of one channel with their labels.
#[derive(Clone, Debug)]
pub struct Images {
    bytes: Vec<u8>,
    labels: Vec<u8>,
    pixels: usize,
}

impl Images {
    /// Read tensors `images`, U8 `[n, height, width]`, and `labels`, U8 `[n]`.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::MissingTensor`], [`Error::Shape`], [`Error::NumberType`] or
    /// [`Error::UnexpectedTensor`] if the file is not of this form.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let mut file = Tensors::parse(bytes)?;
        let [count, height, width] = file.shape("images", "[n, height, width]")?;
        let bytes = file.take_u8("images", &[count, height, width])?;
        let labels = file.take_u8("labels", &[count])?;
        file.finish("file of images")?;
        Ok(Self {
            pixels: bytes.len() / count,
            bytes,
            labels,
        })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The first `count` images, or all if there are fewer.
    pub fn first(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        self.bytes.truncate(self.labels.len() * self.pixels);
        self
    }

    /// Images `range` as the model with this configuration wants them, f32 `[n, channels, height,
    /// width]`.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if there are not that many images or they are not of the model's size.
    pub fn normalised(&self, config: &Config, range: Range<usize>) -> Result<Vec<f32>, Error> {
        if self.pixels != config.pixels() {
            let expected = config.pixels().to_string();
            return Err(Error::Size {
                what: "pixels of an image",
                expected,
                got: self.pixels,
            });
        }
        let bytes = self
            .bytes
            .get(range.start.saturating_mul(self.pixels)..range.end.saturating_mul(self.pixels));
        let bytes = bytes.ok_or_else(|| {
            let expected = format!("at least {}", range.end.max(range.start));
            Error::Size {
                what: "number of images",
                expected,
                got: self.len(),
            }
        })?;
        config.normalise(bytes)
    }
}
