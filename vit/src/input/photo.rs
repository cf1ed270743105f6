//! From an image file to a model's input, as Pillow and the image processors of `transformers` do it:
//! decode to RGB, resize, crop the centre, scale and normalise.
//!
//! Resizing gives Pillow's bytes but for one in a hundred, which is off by one. JPEG decoders differ a
//! little more: on three photos the bytes were 0.1 to 0.3 off Pillow's on average, and 4 at most.
//!
//! A photo is turned as its Exif says, as `load_image` of `transformers` does; [`Options`] has a switch.
//! Colour profiles are not applied, an alpha channel is dropped; Pillow's `Image.open(path).convert("RGB")`
//! does the same.
//!
//! A PNG is decoded by rows, whatever its size; of other formats all pixels are in memory, in the numbers of
//! the file, which are 3 bytes a pixel as a rule. Large images are decoded one at a time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::RgbImage;

use super::decode::Opened;
use super::resize::{self, Rows, Whole};
use crate::config::{Interpolation, Preprocess};

/// Most pixels of an image that is resized in one of two directions or both, 3 bytes each.
const MAX_RESIZED: usize = 1 << 26;

/// Images of more pixels are decoded one at a time, for they take much memory.
const LARGE: u64 = 1 << 24;

static LARGE_ONE: Mutex<()> = Mutex::new(());

/// How image files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether photos are turned as their Exif says.
    pub turn: bool,
    /// Most pixels of an image file.
    pub max_pixels: u64,
}

impl Default for Options {
    /// Turned; 2^28 pixels, more than phones make and few enough for 1 GB.
    fn default() -> Self {
        Self {
            turn: true,
            max_pixels: 1 << 28,
        }
    }
}

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
    /// The image has another size than can be used.
    #[error("image {}: {source}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<PhotoError>,
    },
    /// The file has more pixels than it may have.
    #[error("expected at most {expected} pixels (--max-pixels), got {width}×{height}")]
    TooManyPixels {
        /// Most pixels: [`Options::max_pixels`].
        expected: u64,
        /// Width of the image.
        width: usize,
        /// Height of the image.
        height: usize,
    },
    /// The image is smaller than the crop after it was resized.
    #[error("expected at least {expected}×{expected} pixels to crop, got {width}×{height}")]
    TooSmall {
        /// Side of the crop.
        expected: usize,
        /// Width of the resized image.
        width: usize,
        /// Height of the resized image.
        height: usize,
    },
    /// The image is so narrow that it would be enormous when resized.
    #[error("expected at most {expected} pixels once resized, got {width}×{height}")]
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
/// [`PhotoError::Unreadable`]; or [`PhotoError::Size`] with [`PhotoError::TooManyPixels`] or what
/// [`prepare`] fails with.
pub fn load(
    path: &Path,
    preprocess: &Preprocess,
    channels: usize,
    options: &Options,
) -> Result<Vec<f32>, PhotoError> {
    let (opened, size) = open(path, preprocess, channels, options)?;
    read(path, opened, |rows| fit(rows, size, preprocess, channels))
}

/// Whether [`load`] can be expected to succeed, by the header of the file.
///
/// # Errors
///
/// As [`load`].
pub fn check(
    path: &Path,
    preprocess: &Preprocess,
    channels: usize,
    options: &Options,
) -> Result<(), PhotoError> {
    open(path, preprocess, channels, options).map(|_| ())
}

/// The pixels of the image at `path`. Its format is told by its content, not by its name.
///
/// # Errors
///
/// [`PhotoError::Unreadable`]; [`PhotoError::Size`] with [`PhotoError::TooManyPixels`].
pub fn decode(path: &Path, options: &Options) -> Result<RgbImage, PhotoError> {
    read(path, header(path, options)?, |rows| {
        let [width, height] = rows.size();
        let image = RgbImage::from_raw(width as u32, height as u32, rows.next(height)?);
        Ok(image.expect("as many bytes as pixels have"))
    })
}

/// What is in the header of the file at `path`.
fn header(path: &Path, options: &Options) -> Result<Opened, PhotoError> {
    let opened = Opened::new(path, options.turn, options.max_pixels);
    let opened = opened.map_err(|reason| unreadable(path, reason))?;
    let ([width, height], expected) = (opened.size(), options.max_pixels);
    match pixels(&opened) > expected {
        false => Ok(opened),
        true => Err(wrap(
            path,
            PhotoError::TooManyPixels {
                expected,
                width,
                height,
            },
        )),
    }
}

/// The same, and the height and width that the image is resized to.
fn open(
    path: &Path,
    preprocess: &Preprocess,
    channels: usize,
    options: &Options,
) -> Result<(Opened, [usize; 2]), PhotoError> {
    let opened = header(path, options)?;
    let size = resized(opened.size(), preprocess, channels);
    let size = size.map_err(|error| wrap(path, error))?;
    Ok((opened, size))
}

/// What `work` makes of the rows of the image.
fn read<T>(
    path: &Path,
    opened: Opened,
    work: impl FnOnce(&mut dyn Rows) -> Result<T, String>,
) -> Result<T, PhotoError> {
    let large = pixels(&opened) > LARGE;
    let _alone = large.then(|| {
        LARGE_ONE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    });
    let done = opened.rows().and_then(|mut rows| work(&mut *rows));
    done.map_err(|reason| unreadable(path, reason))
}

fn pixels(opened: &Opened) -> u64 {
    let [width, height] = opened.size().map(|size| size as u64);
    width.saturating_mul(height)
}

fn unreadable(path: &Path, reason: String) -> PhotoError {
    PhotoError::Unreadable {
        path: path.into(),
        reason,
    }
}

fn wrap(path: &Path, error: PhotoError) -> PhotoError {
    PhotoError::Size {
        path: path.into(),
        source: Box::new(error),
    }
}

/// Resize, crop and normalise `image` to `[channels, crop, crop]`.
///
/// # Errors
///
/// [`PhotoError::Channels`], [`PhotoError::TooSmall`], [`PhotoError::TooLarge`]. [`PhotoError::Unreadable`],
/// without a path, if there is not enough memory.
pub fn prepare(
    image: &RgbImage,
    preprocess: &Preprocess,
    channels: usize,
) -> Result<Vec<f32>, PhotoError> {
    let mut rows = Whole::new(image);
    let size = resized(rows.size(), preprocess, channels)?;
    let input = fit(&mut rows, size, preprocess, channels);
    input.map_err(|reason| unreadable(Path::new(""), reason))
}

/// Height and width that an image of this width and height is resized to.
fn resized(
    [width, height]: [usize; 2],
    preprocess: &Preprocess,
    channels: usize,
) -> Result<[usize; 2], PhotoError> {
    let statistics = [&preprocess.mean, &preprocess.std];
    if !matches!(channels, 1 | 3) || statistics.iter().any(|of| of.len() != channels) {
        return Err(PhotoError::Channels { got: channels });
    }
    let (from_height, side, crop) = (height, preprocess.resize, preprocess.crop);
    let [height, width] = match preprocess {
        Preprocess { border: true, .. } => longer_side([width, height], side),
        Preprocess {
            keep_aspect: true, ..
        } => shorter_side([width, height], side),
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
    if height.max(from_height).saturating_mul(width) > MAX_RESIZED {
        return Err(PhotoError::TooLarge {
            expected: MAX_RESIZED,
            width,
            height,
        });
    }
    Ok([height, width])
}

/// Resize, crop and normalise.
fn fit(
    rows: &mut dyn Rows,
    [height, width]: [usize; 2],
    preprocess: &Preprocess,
    channels: usize,
) -> Result<Vec<f32>, String> {
    let image = resize::resize(rows, height, width, preprocess.interpolation)?;
    let crop = preprocess.crop;
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
fn shorter_side([width, height]: [usize; 2], side: usize) -> [usize; 2] {
    let longer = |long: usize, short: usize| side.saturating_mul(long) / short.max(1);
    match height < width {
        true => [side, longer(width, height)],
        false => [longer(height, width), side],
    }
}

/// Height and width at which the longer side is `side` and the shape is kept, both rounded to the nearest, as
/// timm does.
fn longer_side([width, height]: [usize; 2], side: usize) -> [usize; 2] {
    let ratio = height.max(width) as f64 / side as f64;
    let shrunk = |size: usize| (size as f64 / ratio).round_ties_even() as usize;
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
///
/// # Panics
///
/// If there is not enough memory for the result.
pub fn resize(
    image: &RgbImage,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> RgbImage {
    let resized = resize::resize(&mut Whole::new(image), height, width, interpolation);
    resized.expect("memory for the resized image")
}

/// Brightness as Pillow's `convert("L")` weighs it (ITU-R 601-2, in 16 bits).
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let weighed = |value: u8, weight: u32| u32::from(value) * weight;
    let sum = weighed(red, 19_595) + weighed(green, 38_470) + weighed(blue, 7_471);
    ((sum + 0x8000) >> 16) as u8
}
