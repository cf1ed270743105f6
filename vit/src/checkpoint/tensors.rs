//! Tensors taken out of safetensors files one by one, each checked against the shape that is
//! expected.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::foreign::recognise;
use crate::error::Error;

/// Parsed files that know which of their tensors nobody has taken yet.
#[derive(Default)]
pub(crate) struct Tensors<'a> {
    left: BTreeMap<String, TensorView<'a>>,
    metadata: HashMap<String, String>,
    files: Vec<&'a [u8]>,
}

impl<'a> Tensors<'a> {
    /// The tensors of one file.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut tensors = Self::default();
        tensors.add(bytes)?;
        Ok(tensors)
    }

    /// Parse the header of another file; the numbers stay in `bytes` until they are taken.
    pub(crate) fn add(&mut self, bytes: &'a [u8]) -> Result<(), Error> {
        let wrap = |source| match recognise(bytes) {
            Some(format) => Error::Format {
                expected: "a safetensors file",
                got: format.into(),
            },
            None => Error::File {
                length: bytes.len(),
                source,
            },
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrap)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(wrap)?;
        self.metadata
            .extend(header.metadata().clone().unwrap_or_default());
        for (name, view) in tensors.tensors() {
            if self.left.contains_key(&name) {
                return Err(Error::Setting {
                    what: format!("tensor `{name}`"),
                    expected: "it in one shard".into(),
                    got: "it in several".into(),
                });
            }
            self.left.insert(name, view);
        }
        self.files.push(bytes);
        Ok(())
    }

    /// The metadata entry `key`, if there is one.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The bytes of each file.
    pub(crate) fn files(&self) -> &[&'a [u8]] {
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
        let view = self
            .left
            .get(name)
            .ok_or_else(|| missing(name, pattern.into()))?;
        let shape = <[usize; RANK]>::try_from(view.shape());
        match shape {
            Ok(shape) if !shape.contains(&0) => Ok(shape),
            _ => Err(mis_shaped(name, pattern.into(), view)),
        }
    }

    /// Take tensor `name` of exactly this shape as f32; it may be stored as F16, BF16 or F32.
    pub(crate) fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let view = self.take(name, shape)?;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F16 => pairs(data)
                .map(|pair| f16::from_le_bytes(pair).to_f32())
                .collect(),
            Dtype::BF16 => pairs(data)
                .map(|pair| bf16::from_le_bytes(pair).to_f32())
                .collect(),
            Dtype::F32 => data
                .as_chunks()
                .0
                .iter()
                .map(|&four| f32::from_le_bytes(four))
                .collect(),
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
        let view = self.take(name, shape)?;
        match view.dtype() {
            Dtype::U8 => Ok(view.data().to_vec()),
            other => Err(number_type(name, "U8", other)),
        }
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

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorView<'a>, Error> {
        let expected = || format!("{shape:?}");
        let view = self
            .left
            .remove(name)
            .ok_or_else(|| missing(name, expected()))?;
        match view.shape() == shape {
            true => Ok(view),
            false => Err(mis_shaped(name, expected(), &view)),
        }
    }
}

fn pairs(data: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    data.as_chunks().0.iter().copied()
}

fn missing(name: &str, expected: String) -> Error {
    Error::MissingTensor {
        name: name.into(),
        expected,
    }
}

fn mis_shaped(name: &str, expected: String, view: &TensorView<'_>) -> Error {
    Error::Shape {
        name: name.into(),
        expected,
        got: view.shape().to_vec(),
    }
}

fn number_type(name: &str, expected: &'static str, got: Dtype) -> Error {
    Error::NumberType {
        name: name.into(),
        expected,
        got: format!("{got:?}"),
    }
}
