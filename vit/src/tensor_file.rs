//! Tensors taken out of a safetensors file one by one, each checked against the shape that is
//! expected.

use std::collections::{BTreeSet, HashMap};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::Error;

/// A parsed file that remembers which of its tensors nobody has taken yet.
pub(crate) struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    left: BTreeSet<String>,
}

impl<'a> TensorFile<'a> {
    /// Parse the header; the numbers stay in `bytes` until they are taken.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let wrap = |source| Error::File {
            length: bytes.len(),
            source,
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrap)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(wrap)?;
        let left = tensors.names().into_iter().map(String::from).collect();
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self {
            tensors,
            metadata,
            left,
        })
    }

    /// The metadata entry `key`, if there is one.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether there is a tensor whose name starts with `prefix`.
    pub(crate) fn contains_prefix(&self, prefix: &str) -> bool {
        self.tensors
            .names()
            .iter()
            .any(|name| name.starts_with(prefix))
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
            .tensors
            .tensor(name)
            .map_err(|_| missing(name, pattern.into()))?;
        let shape = <[usize; RANK]>::try_from(view.shape());
        match shape {
            Ok(shape) if !shape.contains(&0) => Ok(shape),
            _ => Err(mis_shaped(name, pattern.into(), &view)),
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

    /// Check that every tensor was taken.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.left.into_iter().next() {
            Some(name) => Err(Error::UnexpectedTensor { name }),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorView<'a>, Error> {
        let expected = || format!("{shape:?}");
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| missing(name, expected()))?;
        if view.shape() != shape {
            return Err(mis_shaped(name, expected(), &view));
        }
        self.left.remove(name);
        Ok(view)
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
