//! Pillow's resizing, a few rows and then a few columns at a time, so that an image of many pixels never
//! stands in memory in f32, and need not stand there in bytes.

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::config::Interpolation;

/// Pixels that are resized at a time, 12 bytes each.
const AT_ONCE: usize = 1 << 20;

/// Rows and columns that are resized at a time are a multiple of this, so that the library forms the groups
/// that it forms of the whole image, and rounds as it does there.
const GROUP: usize = 32;

/// An image that is read from top to bottom.
pub(super) trait Rows {
    /// Width and height.
    fn size(&self) -> [usize; 2];

    /// The next `count` rows, red, green and blue of each pixel.
    fn next(&mut self, count: usize) -> Result<Vec<u8>, String>;
}

/// All of an image that is in memory.
pub(super) struct Whole<'a> {
    image: &'a RgbImage,
    row: usize,
}

impl<'a> Whole<'a> {
    pub(super) fn new(image: &'a RgbImage) -> Self {
        Self { image, row: 0 }
    }
}

impl Rows for Whole<'_> {
    fn size(&self) -> [usize; 2] {
        [self.image.width() as usize, self.image.height() as usize]
    }

    fn next(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let row = 3 * self.size()[0];
        let from = self.row;
        self.row += count;
        Ok(self.image.as_raw()[row * from..row * self.row].to_vec())
    }
}

/// Pillow's resize: a kernel that widens with the factor by which an image shrinks, first along rows
/// and then along columns, bytes in between.
pub(super) fn resize(
    rows: &mut dyn Rows,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<RgbImage, String> {
    let filter = match interpolation {
        Interpolation::Nearest => None,
        Interpolation::Bilinear => Some(FilterType::Bilinear),
        Interpolation::Bicubic => Some(FilterType::CatmullRom),
        Interpolation::Lanczos => Some(FilterType::Lanczos3),
    };
    let algorithm = filter.map_or(ResizeAlg::Nearest, ResizeAlg::Convolution);
    let mut resizer = Resizer::new();
    let [from_width, from_height] = rows.size();
    let mut narrow = Vec::new();
    memory(&mut narrow, 3 * width * from_height)?;
    for band in parts(from_height, from_width.max(width)) {
        let bytes = rows.next(band.len())?;
        let sizes = [[from_width, band.len()], [width, band.len()]];
        narrow.extend(resize_once(&mut resizer, &bytes, sizes, algorithm));
    }
    let mut resized = Vec::new();
    memory(&mut resized, 3 * width * height)?;
    resized.resize(3 * width * height, 0);
    for band in parts(width, from_height.max(height)) {
        let columns = 3 * band.start..3 * band.end;
        let rows = narrow.chunks_exact(3 * width);
        let bytes: Vec<u8> = rows
            .flat_map(|row| &row[columns.clone()])
            .copied()
            .collect();
        let sizes = [[band.len(), from_height], [band.len(), height]];
        let done = resize_once(&mut resizer, &bytes, sizes, algorithm);
        let done = done.chunks_exact(3 * band.len());
        for (row, done) in resized.chunks_exact_mut(3 * width).zip(done) {
            row[columns.clone()].copy_from_slice(done);
        }
    }
    let image = RgbImage::from_raw(width as u32, height as u32, resized);
    Ok(image.expect("as many bytes as pixels have"))
}

/// `0..count` in ranges, for which `length` pixels each are in memory.
fn parts(count: usize, length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let step = (AT_ONCE / length.max(1) / GROUP).max(1) * GROUP;
    (0..count)
        .step_by(step)
        .map(move |at| at..count.min(at + step))
}

/// Room for `bytes` more bytes, or a reason without them.
pub(super) fn memory(buffer: &mut Vec<u8>, bytes: usize) -> Result<(), String> {
    let reserved = buffer.try_reserve_exact(bytes);
    reserved.map_err(|_| format!("an image for which {bytes} bytes of memory are missing"))
}

/// In f32, because the library's resizing of bytes has coefficients of 16 bits where Pillow's have 22;
/// then one byte in eight is off by one.
fn resize_once(
    resizer: &mut Resizer,
    bytes: &[u8],
    [from, to]: [[usize; 2]; 2],
    algorithm: ResizeAlg,
) -> Vec<u8> {
    let pixels = bytes.as_chunks().0.iter();
    let floats = pixels.map(|pixel: &[u8; 3]| F32x3::new(pixel.map(f32::from)));
    let [[width, height], [to_width, to_height]] = [from, to].map(|size| size.map(|n| n as u32));
    let from = TypedImage::from_pixels(width, height, floats.collect())
        .expect("as many pixels as the image has");
    let mut to = TypedImage::new(to_width, to_height);
    resizer
        .resize_typed(&from, &mut to, &ResizeOptions::new().resize_alg(algorithm))
        .expect("no part of the image is cut off");
    let bytes = to.pixels().iter().flat_map(|pixel| pixel.0).map(|value| {
        (value + 0.5) as u8 // halves go up, as in Pillow; the cast saturates
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of which more parts than one are made, and of which the last is no whole group.
    #[test]
    fn parts_are_what_the_whole_is() {
        let [width, height] = [2501, 1203];
        let image = RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x * 37 + y * 11, x * x + 3 * y * y, x / 5 * (y / 4)].map(|n| n as u8))
        });
        let [width, height] = [width as usize, height as usize];
        assert!(parts(height, width).count() > 1 && parts(1100, height).count() > 1);
        for algorithm in [
            ResizeAlg::Nearest,
            ResizeAlg::Convolution(FilterType::CatmullRom),
        ] {
            let mut resizer = Resizer::new();
            let sizes = [[width, height], [1100, height], [1100, 1021]];
            let narrow = resize_once(&mut resizer, &image, [sizes[0], sizes[1]], algorithm);
            let expected = resize_once(&mut resizer, &narrow, [sizes[1], sizes[2]], algorithm);
            let interpolation = match algorithm {
                ResizeAlg::Nearest => Interpolation::Nearest,
                _ => Interpolation::Bicubic,
            };
            let got = resize(&mut Whole::new(&image), 1021, 1100, interpolation).unwrap();
            assert!(got.into_raw() == expected, "{interpolation:?}");
        }
    }
}
