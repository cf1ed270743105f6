//! Layers and tensors out of a checkpoint, by this crate's names.

use std::collections::BTreeMap;

use noisyquant::QuantLinear;

use super::layer::Layer;
use crate::{
    checkpoint::{Names, Tensors},
    config::Config,
    error::Error,
    ops::{FloatLinear, LayerNorm, Linear},
};

/// A checkpoint that is being read.
pub(crate) struct Source<'a> {
    tensors: Tensors<'a>,
    names: Names,
    /// Layers that are not read from tensors.
    quantized: BTreeMap<String, QuantLinear>,
    layers: Vec<Layer>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        tensors: Tensors<'a>,
        names: Names,
        quantized: BTreeMap<String, QuantLinear>,
    ) -> Self {
        Self {
            tensors,
            names,
            quantized,
            layers: Vec::new(),
        }
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The shape of tensor `name`; `pattern` describes it in an error.
    pub(crate) fn shape<const RANK: usize>(
        &self,
        name: &str,
        pattern: &str,
    ) -> Result<[usize; RANK], Error> {
        self.tensors.shape(&self.names.tensor(name), pattern)
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        self.tensors.take_f32(&self.names.tensor(name), shape)
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize, eps: f32) -> Result<LayerNorm, Error> {
        let name = self.names.tensor(name);
        let mut part = |part| self.tensors.take_f32(&format!("{name}.{part}"), &[width]);
        Ok(LayerNorm {
            weight: part("weight")?,
            bias: part("bias")?,
            eps,
        })
    }

    /// Read a layer of weights `[out, ...]`; all dimensions but the first are its input features.
    /// Returns its index in what [`Source::finish`] gives. Layers are read in the order in which they
    /// run, as that is how users see them.
    pub(crate) fn linear(&mut self, name: &str, shape: &[usize]) -> Result<usize, Error> {
        self.push(name, shape, |source| source.float(name, shape, true))
    }

    /// [`Source::linear`] for a layer without a bias.
    pub(crate) fn linear_without_bias(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<usize, Error> {
        self.push(name, shape, |source| {
            // What this crate writes has one, of zeros.
            let has_bias = source.names.is_own();
            source.float(name, shape, has_bias)
        })
    }

    /// [`Source::linear`] with each output multiplied by an element of tensor `scale`, if there is one.
    pub(crate) fn linear_scaled(
        &mut self,
        name: &str,
        shape: &[usize],
        scale: Option<String>,
    ) -> Result<usize, Error> {
        self.push(name, shape, |source| {
            let (mut weight, mut bias) = source.float(name, shape, true)?;
            if let Some(scale) = scale {
                let scale = source.tensor(&scale, &shape[..1])?;
                let rows = weight.chunks_exact_mut(shape[1..].iter().product());
                for ((row, bias), scale) in rows.zip(&mut bias).zip(scale) {
                    row.iter_mut().for_each(|weight| *weight *= scale);
                    *bias *= scale;
                }
            }
            Ok((weight, bias))
        })
    }

    /// All layers, after everything was taken.
    pub(crate) fn finish(mut self, config: &Config) -> Result<Vec<Layer>, Error> {
        self.tensors.discard(|name| self.names.is_unused(name));
        self.tensors.finish(config.family())?;
        Ok(self.layers)
    }

    fn push(
        &mut self,
        name: &str,
        shape: &[usize],
        float: impl FnOnce(&mut Self) -> Result<(Vec<f32>, Vec<f32>), Error>,
    ) -> Result<usize, Error> {
        let (outputs, inputs) = (shape[0], shape[1..].iter().product());
        let linear = match self.quantized.remove(name) {
            Some(layer) => {
                let got = [layer.out_features(), layer.in_features()];
                if got != [outputs, inputs] {
                    return Err(Error::Shape {
                        name: format!("{name}.weight"),
                        expected: format!("[{outputs}, {inputs}]"),
                        got: got.to_vec(),
                    });
                }
                let tensor = |other: &str| other.strip_prefix(name)?.strip_prefix('.').map(drop);
                self.tensors.discard(|other| tensor(other).is_some());
                Linear::Quantized(layer)
            }
            None => {
                let (weight, bias) = float(self)?;
                Linear::Float(FloatLinear::new(weight, bias, inputs))
            }
        };
        self.layers.push(Layer {
            name: name.into(),
            linear,
        });
        Ok(self.layers.len() - 1)
    }

    /// Weight and bias, out of several layers of the checkpoint if it stores this one in parts.
    fn float(
        &mut self,
        name: &str,
        shape: &[usize],
        has_bias: bool,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let parts = self.names.layers(name);
        let mut shape = match self.names.is_own() {
            true => vec![shape[0], shape[1..].iter().product()],
            false => shape.to_vec(),
        };
        let outputs = shape[0];
        shape[0] /= parts.len();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for part in parts {
            let values = self.tensors.take_f32(&format!("{part}.weight"), &shape)?;
            // The only part needs no copy.
            match weight.is_empty() {
                true => weight = values,
                false => weight.extend(values),
            }
            if has_bias {
                bias.extend(
                    self.tensors
                        .take_f32(&format!("{part}.bias"), &shape[..1])?,
                );
            }
        }
        bias.resize(outputs, 0.0);
        Ok((weight, bias))
    }
}
