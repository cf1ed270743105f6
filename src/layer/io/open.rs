//! Layers out of a file, each read when it is asked for.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::iter;
use std::sync::Arc;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::padded_k;
use noisyquant_kernels::spec;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::bits;
use super::header::{BYTES, Entry, Header, KEY, PACKED, Row, Version, file};
use crate::check;
use crate::error::Error;
use crate::layer::affine::Affine;
use crate::layer::linear::QuantLinear;
use crate::layer::numbers::{Numbers, Params};
use crate::run::executor::Executor;

/// What the length of a header takes at the start of a file.
const LENGTH: u64 = 8;

/// The longest header that safetensors reads.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of packed rows that are read at a time, or one row.
const TOGETHER: usize = 1 << 16;

/// The layers of a file that [`to_bytes`](super::to_bytes) made, packed for `isa`, or else for the set that
/// `NOISYQUANT_ISA` names, or else for the best of this CPU. Returns the same outputs, bit for bit, as the
/// layers that were saved. Runs on the [default executor](Executor::default).
///
/// # Errors
///
/// [`Error`] for anything that is not such a file: damaged, of another version, with tensors of other
/// shapes or values that no layer has; or for an instruction set that is not there.
pub fn from_bytes(bytes: &[u8], isa: Option<Isa>) -> Result<BTreeMap<String, QuantLinear>, Error> {
    Reader::new(Cursor::new(bytes))?.layers(isa)
}

/// A file of layers that are read one by one, so that of a large model no more is in memory than what was
/// packed and the layer at hand.
///
/// ```
/// # use std::io::Cursor;
/// # use noisyquant::{Executor, Numbers, QuantLinear, io};
/// # let numbers = Numbers::new(vec![1; 4], vec![0.5; 2], 0.1, 128.0);
/// # let layer = QuantLinear::from_numbers(numbers, None)?;
/// # let file = Cursor::new(io::to_bytes([("blocks.0.mlp.fc1", &layer)])?);
/// let mut reader = io::Reader::new(file)?; // a `std::fs::File`, or any other `Read + Seek`
/// let numbers = reader.numbers("blocks.0.mlp.fc1")?;
/// let one = QuantLinear::from_numbers_on(numbers, None, Executor::default())?;
/// let all = reader.layers(None)?;
/// # assert_eq!(one.numbers(), all["blocks.0.mlp.fc1"].numbers());
/// # Ok::<(), noisyquant::Error>(())
/// ```
pub struct Reader<R> {
    source: R,
    header: Header,
    tensors: Metadata,
    /// Where the bytes of tensors start in `source`.
    start: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header of a file that [`to_bytes`](super::to_bytes) made and that is all of `source`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it cannot be read, is no such file, or is one of another version.
    pub fn new(mut source: R) -> Result<Self, Error> {
        let (tensors, start) = tensors(&mut source)?;
        let json = tensors.metadata().as_ref().and_then(|map| map.get(KEY));
        let json = json.ok_or_else(|| file("metadata named noisyquant", &"none"))?;
        let Version { version } = serde_json::from_str(json).map_err(|e| file("a version", &e))?;
        if !(BYTES..=PACKED).contains(&version) {
            let expected = format!("version {BYTES} or {PACKED}");
            return Err(file(&expected, &format!("version {version}")));
        }
        let header = serde_json::from_str(json).map_err(|e| file("a header", &e))?;
        Ok(Reader {
            source,
            header,
            tensors,
            start,
        })
    }

    /// The names of the layers, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.layers.keys().map(String::as_str)
    }

    /// Reads the numbers of layer `name`, of which a layer is made by
    /// [`QuantLinear::from_numbers_on`].
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no such layer, or its tensors have other shapes or cannot be read. Values that
    /// no layer has are refused when a layer is made of them.
    pub fn numbers(&mut self, name: &str) -> Result<Numbers, Error> {
        let entry = self.header.layers.get(name).copied();
        let entry = entry.ok_or_else(|| file(&format!("layer {name:?}"), &"none of this name"))?;
        let channel_scale = self.floats(name, "channel_scale", None)?;
        let weight_scales = self.floats(name, "weight_scale", None)?;
        let (n, k) = (weight_scales.len(), channel_scale.len());
        let activation = self.floats(name, "activation", Some(2))?;
        Ok(Numbers {
            codes: self.codes(name, &entry, n, k)?,
            params: Params {
                weight_bits: entry.weight_bits,
                weight_scales: weight_scales.into(),
                affine: Affine {
                    scale: activation[0],
                    zero_point: activation[1],
                    bits: entry.activation_bits,
                    twin_shift: entry.twin_shift,
                },
                channel_scale: channel_scale.into(),
                noise: self.floats(name, "noise", Some(k))?,
                bias: self.floats(name, "bias", Some(n))?,
            },
        })
    }

    /// Reads all layers by name and packs each before the next is read, on the
    /// [default executor](Executor::default); otherwise as [`from_bytes`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn layers(&mut self, isa: Option<Isa>) -> Result<BTreeMap<String, QuantLinear>, Error> {
        let names: Vec<String> = self.names().map(String::from).collect();
        let layers = names.into_iter().map(|name| {
            let numbers = self.numbers(&name)?;
            let layer = QuantLinear::from_numbers_on(numbers, isa, Executor::default())?;
            Ok((name, layer))
        });
        layers.collect()
    }

    /// The weight codes, `[n, k]`.
    fn codes(&mut self, name: &str, entry: &Entry, n: usize, k: usize) -> Result<Arc<[i8]>, Error> {
        let bits = entry.weight_bits;
        check::bits("weight_bits", bits)?;
        check::dimension("in_features", k, spec::MAX_K)?;
        check::dimension("out_features", n, isize::MAX as usize / padded_k(k))?;
        let name = format!("{name}.weight");
        let row = Row::of(bits, self.header.version);
        let info = self.info(&name)?;
        let (dtype, shape) = (row.dtype(), [n, row.bytes(k)]);
        if info.dtype != dtype || info.shape != shape {
            let form = format!("{dtype:?} {shape:?}, rows of {k} codes of {bits} bits");
            return Err(other(&format!("{name}: {form}"), &info));
        }
        let mut codes: Arc<[i8]> = iter::repeat_n(0, n * k).collect();
        let to = Arc::get_mut(&mut codes).expect("nobody else has it yet");
        match row {
            Row::Bytes => self.read(&info, bytemuck::cast_slice_mut(to))?,
            Row::Packed(bits) => {
                self.seek(&info)?;
                unpack(&mut self.source, &name, bits, k, to)?;
            }
        }
        Ok(codes)
    }

    /// An f32 vector, of the given length or any.
    fn floats(&mut self, name: &str, part: &str, len: Option<usize>) -> Result<Vec<f32>, Error> {
        let name = format!("{name}.{part}");
        let info = self.info(&name)?;
        let found = match (info.dtype, &*info.shape) {
            (Dtype::F32, [found]) if len.is_none_or(|len| len == *found) => *found,
            _ => {
                let len = len.map_or("any".into(), |len| len.to_string());
                return Err(other(&format!("{name}: F32 [{len}]"), &info));
            }
        };
        let mut values = vec![0f32; found];
        self.read(&info, bytemuck::cast_slice_mut(&mut values))?;
        for value in &mut values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        Ok(values)
    }

    fn info(&self, name: &str) -> Result<TensorInfo, Error> {
        let info = self.tensors.info(name).cloned();
        info.ok_or_else(|| file(name, &"no such tensor"))
    }

    /// Fills `to`, which is as long as the tensor.
    fn read(&mut self, info: &TensorInfo, to: &mut [u8]) -> Result<(), Error> {
        self.seek(info)?;
        read(&mut self.source, to)
    }

    /// Goes to where the tensor begins.
    fn seek(&mut self, info: &TensorInfo) -> Result<(), Error> {
        let begin = SeekFrom::Start(self.start + info.data_offsets.0 as u64);
        self.source.seek(begin).map(drop).map_err(unreadable)
    }
}

/// Reads rows of `k` codes of so many `bits`, some at a time, so that they need not leave the cache.
fn unpack(
    source: &mut impl Read,
    name: &str,
    bits: u32,
    k: usize,
    to: &mut [i8],
) -> Result<(), Error> {
    let row = bits::row_bytes(k, bits);
    let together = (TOGETHER / row).max(1);
    let mut rows = vec![0; row * together.min(to.len() / k)];
    for (block, to) in to.chunks_mut(together * k).enumerate() {
        let rows = &mut rows[..to.len() / k * row];
        read(source, rows)?;
        let mut rows = rows.chunks_exact(row).zip(to.chunks_exact_mut(k));
        if let Some(at) = rows.position(|(row, to)| !bits::unpack(row, bits, to)) {
            let expected = format!("{name}: zeros after the last code of each row");
            let got = format!("other bits in row {}", block * together + at);
            return Err(file(&expected, &got));
        }
    }
    Ok(())
}

/// The tensors of a safetensors file, and where their bytes start.
fn tensors(source: &mut (impl Read + Seek)) -> Result<(Metadata, u64), Error> {
    let refused = |e: &dyn std::fmt::Display| file("a safetensors file", e);
    let whole = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
    source.rewind().map_err(unreadable)?;
    let mut length = [0; LENGTH as usize];
    if whole < LENGTH {
        return Err(refused(&format!("{whole} bytes")));
    }
    read(source, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(whole - LENGTH) {
        return Err(refused(&format!("a header of {length} bytes in {whole}")));
    }
    let mut text = vec![0; length as usize];
    read(source, &mut text)?;
    let tensors: Metadata = serde_json::from_slice(&text).map_err(|e| refused(&e))?;
    let start = LENGTH + length;
    let (expected, got) = (tensors.data_len() as u64, whole - start);
    match expected == got {
        true => Ok((tensors, start)),
        false => Err(file(&format!("{expected} bytes of tensors"), &got)),
    }
}

/// Fills `to` with what comes next.
fn read(source: &mut impl Read, to: &mut [u8]) -> Result<(), Error> {
    source.read_exact(to).map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> Error {
    file("a file that can be read", &error)
}

/// The error of a tensor of another type or shape.
fn other(expected: &str, info: &TensorInfo) -> Error {
    file(expected, &format!("{:?} {:?}", info.dtype, info.shape))
}
