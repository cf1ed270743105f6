//! From an image file to a model's input, as Pillow and the image processors of `transformers` do it:
//! decode to RGB, resize, crop the centre, scale and normalise.
//!
//! Resizing gives Pillow's bytes but for one in a hundred, which is off by one. JPEG decoders differ a
//! little more: on three photos the bytes were 0.1 to 0.3 off Pillow's on average, and 4 at most.
//!
//! Orientation tags and colour profiles are not applied, an alpha channel is dropped; Pillow's
//! `Image.open(path).convert("RGB")` does the same.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, RgbImage};

use crate::checkpoint::recognise;
use crate::config::{Interpolation, Preprocess};

/// Most pixels of a resized image: 12 bytes each, twice.
const MAX_PIXELS: usize = 1 << 26;

/// Why a photo cannot be a model's input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhotoError {
    /// The file cannot be opened or is no image.
    #[error("image {}: expected one that can be read, got: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader or decoder said.
        reason: String,
    },
    /// The image is smaller than the crop after it was resized.
    #[error("image: expected at least {expected}×{expected} pixels to crop, got {width}×{height}")]
    TooSmall {
        /// Side of the crop.
        expected: usize,
        /// Width of the resized image.
        width: usize,
        /// Height of the resized image.
        height: usize,
    },
    /// The image is so narrow that it would be enormous when resized.
    #[error("image: expected at most {expected} pixels once resized, got {width}×{height}")]
    TooLarge {
        /// Most pixels.
        expected: usize,
        /// Width of the resized image.
        width: usize,
        /// Height of the resized image.
        height: usize,
    },
    /// The model wants neither grey nor colour images, or has not a mean and a deviation for each
    /// channel.
    #[error("channels of an image: expected 1 or 3, each with a mean and a deviation, got {got}")]
    Channels {
        /// Channels that the model wants.
        got: usize,
    },
}

/// Read the image at `path` as normalised input `[channels, crop, crop]`; `channels` is 3 for RGB or
/// 1 for grey.
///
/// # Errors
///
/// [`PhotoError::Unreadable`], or as [`prepare`].
pub fn load(path: &Path, preprocess: &Preprocess, channels: usize) -> Result<Vec<f32>, PhotoError> {
    prepare(&decode(path)?, preprocess, channels)
}

/// The pixels of the image at `path`. Its format is told by its content, not by its name.
///
/// # Errors
///
/// [`PhotoError::Unreadable`].
pub fn decode(path: &Path) -> Result<RgbImage, PhotoError> {
    let unreadable = |reason: String| PhotoError::Unreadable {
        path: path.into(),
        reason,
    };
    let reader = ImageReader::open(path).map_err(|error| unreadable(error.to_string()))?;
    let reader = reader
        .with_guessed_format()
        .map_err(|error| unreadable(error.to_string()))?;
    let image = reader.decode().map_err(|error| {
        let foreign = beginning(path).ok().and_then(|bytes| recognise(&bytes));
        unreadable(foreign.map_or_else(|| error.to_string(), String::from))
    })?;
    Ok(image.to_rgb8())
}

/// The first bytes of a file.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Resize, crop and normalise `image` to `[channels, crop, crop]`.
///
/// # Errors
///
/// [`PhotoError::Channels`], [`PhotoError::TooSmall`], [`PhotoError::TooLarge`].
pub fn prepare(
    image: &RgbImage,
    preprocess: &Preprocess,
    channels: usize,
) -> Result<Vec<f32>, PhotoError> {
    let statistics = [&preprocess.mean, &preprocess.std];
    if !matches!(channels, 1 | 3) || statistics.iter().any(|of| of.len() != channels) {
        return Err(PhotoError::Channels { got: channels });
    }
    let (side, crop) = (preprocess.resize, preprocess.crop);
    let [height, width] = match preprocess {
        Preprocess { border: true, .. } => longer_side(image, side),
        Preprocess {
            keep_aspect: true, ..
        } => shorter_side(image, side),
        _ => [side, side],
    };
    if !preprocess.border && (height < crop || width < crop) {
        return Err(PhotoError::TooSmall {
            expected: crop,
            width,
            height,
        });
    }
    // Either pass of resizing: the first narrows or widens rows alone.
    if height.max(image.height() as usize).saturating_mul(width) > MAX_PIXELS {
        return Err(PhotoError::TooLarge {
            expected: MAX_PIXELS,
            width,
            height,
        });
    }
    let image = resize(image, height, width, preprocess.interpolation);
    let (top, left) = (preprocess.start(height), preprocess.start(width));
    let border = border(preprocess, channels);
    let pixel = |at: usize| {
        let row = (top + at / crop).checked_sub(crop);
        let column = (left + at % crop).checked_sub(crop);
        match (row, column) {
            (Some(row), Some(column)) if row < height && column < width => {
                image.get_pixel(column as u32, row as u32).0
            }
            _ => border,
        }
    };
    let plane = |channel: usize, value: &dyn Fn([u8; 3]) -> u8| {
        let (mean, std) = (preprocess.mean[channel], preprocess.std[channel]);
        let normal = |at| (f32::from(value(pixel(at))) * preprocess.rescale - mean) / std;
        (0..crop * crop).map(normal).collect::<Vec<f32>>()
    };
    Ok(match channels {
        1 => plane(0, &luma),
        _ => (0..3)
            .flat_map(|channel| plane(channel, &|rgb| rgb[channel]))
            .collect(),
    })
}

/// Height and width at which the shorter side is `side` and the shape is kept, the longer side
/// rounded down as `transformers` and torchvision do.
fn shorter_side(image: &RgbImage, side: usize) -> [usize; 2] {
    let [height, width] = [image.height(), image.width()].map(|size| size as usize);
    let longer = |long: usize, short: usize| side.saturating_mul(long) / short.max(1);
    match height < width {
        true => [side, longer(width, height)],
        false => [longer(height, width), side],
    }
}

/// Height and width at which the longer side is `side` and the shape is kept, both rounded to the nearest, as
/// timm does.
fn longer_side(image: &RgbImage, side: usize) -> [usize; 2] {
    let [height, width] = [image.height(), image.width()];
    let ratio = f64::from(height.max(width)) / side as f64;
    let shrunk = |size: u32| (f64::from(size) / ratio).round_ties_even() as usize;
    [shrunk(height), shrunk(width)].map(|size| size.max(1))
}

/// The colour around images that are smaller than the crop: the mean, in bytes.
fn border(preprocess: &Preprocess, channels: usize) -> [u8; 3] {
    let byte = |channel: usize| {
        let mean = preprocess.mean[channel.min(channels - 1)];
        (255.0 * f64::from(mean)).round_ties_even() as u8
    };
    [0, 1, 2].map(byte)
}

/// Pillow's resize: a kernel that widens with the factor by which an image shrinks, first along rows
/// and then along columns, bytes in between.
pub fn resize(
    image: &RgbImage,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> RgbImage {
    let filter = match interpolation {
        Interpolation::Nearest => None,
        Interpolation::Bilinear => Some(FilterType::Bilinear),
        Interpolation::Bicubic => Some(FilterType::CatmullRom),
        Interpolation::Lanczos => Some(FilterType::Lanczos3),
    };
    let algorithm = filter.map_or(ResizeAlg::Nearest, ResizeAlg::Convolution);
    let [height, width] = [height, width].map(|size| size as u32);
    let narrow = resize_once(image, image.height(), width, algorithm);
    resize_once(&narrow, height, width, algorithm)
}

/// In f32, because the library's resizing of bytes has coefficients of 16 bits where Pillow's have 22;
/// then one byte in eight is off by one.
fn resize_once(image: &RgbImage, height: u32, width: u32, algorithm: ResizeAlg) -> RgbImage {
    let floats = image
        .pixels()
        .map(|pixel| F32x3::new(pixel.0.map(f32::from)));
    let from = TypedImage::from_pixels(image.width(), image.height(), floats.collect())
        .expect("as many pixels as the image has");
    let mut to = TypedImage::new(width, height);
    Resizer::new()
        .resize_typed(&from, &mut to, &ResizeOptions::new().resize_alg(algorithm))
        .expect("no part of the image is cut off");
    let bytes = to.pixels().iter().flat_map(|pixel| pixel.0).map(|value| {
        (value + 0.5) as u8 // halves go up, as in Pillow; the cast saturates
    });
    RgbImage::from_raw(width, height, bytes.collect()).expect("as many values as bytes")
}

/// Brightness as Pillow's `convert("L")` weighs it (ITU-R 601-2, in 16 bits).
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let weighed = |value: u8, weight: u32| u32::from(value) * weight;
    let sum = weighed(red, 19_595) + weighed(green, 38_470) + weighed(blue, 7_471);
    ((sum + 0x8000) >> 16) as u8
}
