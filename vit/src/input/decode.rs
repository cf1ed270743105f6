//! From an image file to its pixels, row by row where its format allows it.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    path::Path,
};

use image::{
    ColorType, ImageDecoder, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegDecoder,
    metadata::Orientation,
};

use super::{
    jpeg,
    resize::{Rows, memory},
};
use crate::{checkpoint::recognise, readable};

/// Most bytes of a pixel in memory: four numbers of 16 bits.
const MAX_PIXEL: u64 = 8;

/// How many bytes of a file tell its format.
const HEAD: u64 = 64;

/// The header of an image file, and what decodes the rest.
pub(super) struct Opened {
    source: Source,
    /// Width and height as they are stored.
    stored: [usize; 2],
    turn: Turn,
}

enum Source {
    /// A PNG by rows.
    Rows(Box<png::Reader<BufReader<File>>>),
    /// All at once.
    Whole(Box<dyn ImageDecoder>),
}

impl Opened {
    /// Read the header of the file at `path`, whose format is told by its content. The pixels are turned as
    /// Exif says if `turn` is set. Decoders may take as much memory as `max_pixels` pixels do.
    pub(super) fn new(path: &Path, turn: bool, max_pixels: u64) -> Result<Self, String> {
        let mut file = readable::open(path).map_err(text)?;
        let mut head = Vec::new();
        (&mut file)
            .take(HEAD)
            .read_to_end(&mut head)
            .map_err(text)?;
        file.rewind().map_err(text)?;
        let format = image::guess_format(&head)
            .map_err(|_| recognise(&head).unwrap_or("no image of a format that is known"))?;
        let most = max_pixels.saturating_mul(MAX_PIXEL);
        if format == ImageFormat::Png {
            let reader = png_reader(file.try_clone().map_err(text)?, most)?;
            let info = reader.info();
            let exif = info.exif_metadata.as_deref();
            let turned = turn && exif.and_then(Orientation::from_exif_chunk).is_some();
            if !turned && !info.interlaced {
                let stored = [info.width, info.height].map(|size| size as usize);
                let source = Source::Rows(Box::new(reader));
                let turn = Turn::of(Orientation::NoTransforms);
                return Ok(Self {
                    source,
                    stored,
                    turn,
                });
            }
            file.rewind().map_err(text)?;
        }
        let mut decoder: Box<dyn ImageDecoder> = match format {
            ImageFormat::Jpeg => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(text)?;
                jpeg::check_end(&bytes)?;
                Box::new(JpegDecoder::new(Cursor::new(bytes)).map_err(text)?)
            }
            _ => {
                let mut reader = ImageReader::with_format(BufReader::new(file), format);
                let mut limits = Limits::default();
                limits.max_alloc = Some(most);
                reader.limits(limits);
                Box::new(reader.into_decoder().map_err(text)?)
            }
        };
        // What is no orientation turns nothing.
        let orientation = match turn {
            true => decoder.orientation().ok(),
            false => None,
        };
        let (width, height) = decoder.dimensions();
        Ok(Self {
            source: Source::Whole(decoder),
            stored: [width, height].map(|size| size as usize),
            turn: Turn::of(orientation.unwrap_or(Orientation::NoTransforms)),
        })
    }

    /// Width and height of the image when it is turned.
    pub(super) fn size(&self) -> [usize; 2] {
        let [width, height] = self.stored;
        match self.turn.transposed {
            true => [height, width],
            false => [width, height],
        }
    }

    /// The pixels.
    pub(super) fn rows(self) -> Result<Box<dyn Rows>, String> {
        let size = self.size();
        Ok(match self.source {
            Source::Rows(reader) => Box::new(PngRows { reader, size }),
            Source::Whole(decoder) => Box::new(Pixels::new(decoder, size, self.turn)?),
        })
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// How stored pixels are found: (x, y) of the image is (x, y) of what is stored, or (y, x) if it is
/// transposed; counted from the other end where it is mirrored.
#[derive(Clone, Copy)]
struct Turn {
    transposed: bool,
    mirrored: [bool; 2],
}

impl Turn {
    fn of(orientation: Orientation) -> Self {
        let (transposed, mirrored) = match orientation {
            Orientation::NoTransforms => (false, [false, false]),
            Orientation::FlipHorizontal => (false, [true, false]),
            Orientation::Rotate180 => (false, [true, true]),
            Orientation::FlipVertical => (false, [false, true]),
            Orientation::Rotate90FlipH => (true, [false, false]),
            Orientation::Rotate90 => (true, [false, true]),
            Orientation::Rotate270FlipH => (true, [true, true]),
            Orientation::Rotate270 => (true, [true, false]),
        };
        Self {
            transposed,
            mirrored,
        }
    }
}

/// An image in memory, in the numbers of its file.
struct Pixels {
    bytes: Vec<u8>,
    color: ColorType,
    /// Width and height when turned.
    size: [usize; 2],
    turn: Turn,
    row: usize,
}

impl Pixels {
    fn new(decoder: Box<dyn ImageDecoder>, size: [usize; 2], turn: Turn) -> Result<Self, String> {
        let color = decoder.color_type();
        let mut bytes = Vec::new();
        let count = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
        memory(&mut bytes, count)?;
        bytes.resize(count, 0);
        decoder.read_image_boxed(&mut bytes).map_err(text)?;
        Ok(Self {
            bytes,
            color,
            size,
            turn,
            row: 0,
        })
    }
}

impl Rows for Pixels {
    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn next(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let [width, height] = self.size;
        let Turn {
            transposed,
            mirrored,
        } = self.turn;
        let channels = usize::from(self.color.channel_count());
        let pixel = usize::from(self.color.bytes_per_pixel());
        let wide = pixel > channels;
        let stored = match transposed {
            true => [height, width],
            false => [width, height],
        };
        let rows = self.row..self.row + count;
        self.row = rows.end;
        if !transposed && mirrored == [false; 2] {
            let row = width * pixel;
            return Ok(rgb(
                channels,
                wide,
                &self.bytes[row * rows.start..row * rows.end],
            ));
        }
        let mut turned = Vec::with_capacity(width * count * pixel);
        for y in rows {
            for x in 0..width {
                let mut at = if transposed { [y, x] } else { [x, y] };
                for axis in [0, 1] {
                    if mirrored[axis] {
                        at[axis] = stored[axis] - 1 - at[axis];
                    }
                }
                let start = (at[1] * stored[0] + at[0]) * pixel;
                turned.extend_from_slice(&self.bytes[start..start + pixel]);
            }
        }
        Ok(rgb(channels, wide, &turned))
    }
}

fn png_reader(file: File, most: u64) -> Result<png::Reader<BufReader<File>>, String> {
    let bytes = usize::try_from(most).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(file), png::Limits { bytes });
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.read_info().map_err(text)
}

/// A PNG that is decoded as its rows are asked for.
struct PngRows {
    reader: Box<png::Reader<BufReader<File>>>,
    size: [usize; 2],
}

impl Rows for PngRows {
    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn next(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let (color, depth) = self.reader.output_color_type();
        let wide = depth == png::BitDepth::Sixteen;
        let mut bytes = Vec::new();
        for _ in 0..count {
            let row = self.reader.next_row().map_err(text)?;
            let start = bytes.len();
            bytes.extend_from_slice(row.ok_or("a PNG with too few rows")?.data());
            if wide {
                for number in bytes[start..].as_chunks_mut().0 {
                    *number = u16::from_be_bytes(*number).to_ne_bytes();
                }
            }
        }
        let samples = color.samples();
        Ok(rgb(samples, wide, &bytes))
    }
}

/// Red, green and blue of pixels of 1 to 4 numbers: of grey its value thrice, without alpha; of 16 bits the
/// nearest of 8.
fn rgb(channels: usize, wide: bool, bytes: &[u8]) -> Vec<u8> {
    let colours = if channels < 3 { [0; 3] } else { [0, 1, 2] };
    match (channels, wide) {
        (3, false) => bytes.to_vec(),
        (_, false) => {
            let pixels = bytes.chunks_exact(channels);
            pixels
                .flat_map(|pixel| colours.map(|at| pixel[at]))
                .collect()
        }
        (_, true) => {
            let pixels = bytes.as_chunks().0.chunks_exact(channels);
            let byte =
                |number: [u8; 2]| ((u32::from(u16::from_ne_bytes(number)) + 128) / 257) as u8;
            pixels
                .flat_map(|pixel| colours.map(|at| byte(pixel[at])))
                .collect()
        }
    }
}
