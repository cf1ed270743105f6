//! Tensors taken out of safetensors files one by one, each checked against the shape that is
//! expected.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::Dtype;

use super::bytes::{Place, View};
use crate::error::Error;

/// Parsed files that know which of their tensors nobody has taken yet.
#[derive(Default)]
pub(crate) struct Tensors<'a> {
    left: BTreeMap<String, Stored<'a>>,
    metadata: HashMap<String, String>,
    files: Vec<View<'a>>,
}

/// A tensor that nobody has taken yet.
struct Stored<'a> {
    number: Dtype,
    shape: Vec<usize>,
    place: Place<'a>,
}

impl<'a> Tensors<'a> {
    /// The tensors of one file in memory.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut tensors = Self::default();
        tensors.add(View::Memory(bytes))?;
        Ok(tensors)
    }

    /// Parse the header of another file; the numbers stay in it until they are taken.
    pub(crate) fn add(&mut self, view: View<'a>) -> Result<(), Error> {
        let (header, start) = view.header()?;
        self.metadata
            .extend(header.metadata().clone().unwrap_or_default());
        for (name, info) in header.tensors() {
            if self.left.contains_key(&name) {
                return Err(Error::Setting {
                    what: format!("tensor `{name}`"),
                    expected: "it in one shard".into(),
                    got: "it in several".into(),
                });
            }
            let (from, to) = info.data_offsets;
            let stored = Stored {
                number: info.dtype,
                shape: info.shape.clone(),
                place: Place {
                    view,
                    range: start + from..start + to,
                },
            };
            self.left.insert(name, stored);
        }
        self.files.push(view);
        Ok(())
    }

    /// The metadata entry `key`, if there is one.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Each file.
    pub(crate) fn files(&self) -> &[View<'a>] {
        &self.files
    }

    /// Names of the tensors that are left.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.left.keys().map(String::as_str)
    }

    /// Whether this tensor is left.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// The shape of tensor `name`, which must have `RANK` dimensions, none of them zero.
    ///
    /// `pattern` describes the shape in an error.
    pub(crate) fn shape<const RANK: usize>(
        &self,
        name: &str,
        pattern: &str,
    ) -> Result<[usize; RANK], Error> {
        let stored = self
            .left
            .get(name)
            .ok_or_else(|| missing(name, pattern.into()))?;
        match <[usize; RANK]>::try_from(&*stored.shape) {
            Ok(shape) if !shape.contains(&0) => Ok(shape),
            _ => Err(mis_shaped(name, pattern.into(), stored)),
        }
    }

    /// Take tensor `name` of exactly this shape as f32; it may be stored as F16, BF16 or F32.
    pub(crate) fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let stored = self.take(name, shape)?;
        let read = |to: &mut [u8]| stored.read(name, to);
        let count = stored.shape.iter().product();
        let values: Vec<f32> = match stored.number {
            Dtype::F16 => halves(count, read)?
                .into_iter()
                .map(|bits| f16::from_bits(bits).to_f32())
                .collect(),
            Dtype::BF16 => halves(count, read)?
                .into_iter()
                .map(|bits| bf16::from_bits(bits).to_f32())
                .collect(),
            Dtype::F32 => {
                let mut values = vec![0.0f32; count];
                read(bytemuck::cast_slice_mut(&mut values))?;
                for value in &mut values {
                    *value = f32::from_bits(u32::from_le(value.to_bits()));
                }
                values
            }
            other => return Err(number_type(name, "F16, BF16 or F32", other)),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::NonFinite {
                name: name.into(),
                index,
                got: values[index],
            }),
            None => Ok(values),
        }
    }

    /// Take tensor `name` of exactly this shape; it must be stored as U8.
    pub(crate) fn take_u8(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u8>, Error> {
        let stored = self.take(name, shape)?;
        if stored.number != Dtype::U8 {
            return Err(number_type(name, "U8", stored.number));
        }
        let mut values = vec![0; stored.shape.iter().product()];
        stored.read(name, &mut values)?;
        Ok(values)
    }

    /// Forget the tensors whose names satisfy `unused`.
    pub(crate) fn discard(&mut self, unused: impl Fn(&str) -> bool) {
        self.left.retain(|name, _| !unused(name));
    }

    /// Check that every tensor was taken.
    pub(crate) fn finish(self, architecture: &str) -> Result<(), Error> {
        match self.left.into_keys().next() {
            Some(name) => Err(Error::UnexpectedTensor {
                name,
                architecture: architecture.into(),
            }),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Stored<'a>, Error> {
        let expected = || format!("{shape:?}");
        let stored = self
            .left
            .remove(name)
            .ok_or_else(|| missing(name, expected()))?;
        match stored.shape == shape {
            true => Ok(stored),
            false => Err(mis_shaped(name, expected(), &stored)),
        }
    }
}

impl Stored<'_> {
    /// Fill `to` with the tensor's bytes.
    fn read(&self, name: &str, to: &mut [u8]) -> Result<(), Error> {
        self.place.read(to).map_err(|source| Error::Read {
            what: format!("tensor `{name}`"),
            source,
        })
    }
}

/// `count` numbers of 16 bits.
fn halves(count: usize, read: impl Fn(&mut [u8]) -> Result<(), Error>) -> Result<Vec<u16>, Error> {
    let mut bits = vec![0u16; count];
    read(bytemuck::cast_slice_mut(&mut bits))?;
    bits.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
    Ok(bits)
}

fn missing(name: &str, expected: String) -> Error {
    Error::MissingTensor {
        name: name.into(),
        expected,
    }
}

fn mis_shaped(name: &str, expected: String, stored: &Stored<'_>) -> Error {
    Error::Shape {
        name: name.into(),
        expected,
        got: stored.shape.clone(),
    }
}

fn number_type(name: &str, expected: &'static str, got: Dtype) -> Error {
    Error::NumberType {
        name: name.into(),
        expected,
        got: format!("{got:?}"),
    }
}
