//! Layers and tensors out of a checkpoint, by this crate's names.

use std::collections::{BTreeMap, BTreeSet};

use noisyquant::{Norm, QuantLinear};

use super::layer::Layer;
use crate::{
    checkpoint::{Leftover, Names, Tensors},
    config::Config,
    error::Error,
    ops::{FloatLinear, Linear},
    warning::Warnings,
};

/// A checkpoint that is being read.
pub(crate) struct Source<'a> {
    tensors: Tensors<'a>,
    names: Names,
    /// Layers that are not read from tensors.
    quantized: BTreeMap<String, QuantLinear>,
    layers: Vec<Layer>,
    /// Kinds of biases that the checkpoint has, as [`kind`] gives them.
    biases: BTreeSet<String>,
    /// Layers that have no bias, by the ends of their names; for others it is a matter of warning.
    without_bias: Vec<&'static str>,
    warnings: Warnings,
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        tensors: Tensors<'a>,
        names: Names,
        quantized: BTreeMap<String, QuantLinear>,
    ) -> Self {
        let biases = tensors.names().filter(|name| name.ends_with(".bias"));
        Self {
            biases: biases.map(kind).collect(),
            tensors,
            names,
            quantized,
            layers: Vec::new(),
            without_bias: Vec::new(),
            warnings: Warnings::default(),
        }
    }

    /// The same, of a checkpoint that says that the layers whose names end so have no bias.
    pub(crate) fn without_bias(self, layers: Vec<&'static str>) -> Self {
        Self {
            without_bias: layers,
            ..self
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

    pub(crate) fn norm(&mut self, name: &str, width: usize, eps: f32) -> Result<Norm, Error> {
        let stored = self.names.tensor(name);
        let weight = self
            .tensors
            .take_f32(&format!("{stored}.weight"), &[width])?;
        let bias = self.bias(name, &stored, width)?;
        Norm::layer(&weight, &bias, eps).map_err(Error::layer(name))
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

    /// All layers, after everything was taken, and what was guessed or passed over.
    pub(crate) fn finish(mut self, config: &Config) -> Result<(Vec<Layer>, Warnings), Error> {
        let of = |name: &&str| self.names.leftover(name) == Leftover::OtherTask;
        let others: Vec<&str> = self.tensors.names().filter(of).collect();
        if let Some(first) = others.first() {
            let text = format!(
                "{} of another task, such as `{first}`, passed over",
                others.len()
            );
            self.warnings.add("tensors", text);
        }
        self.tensors
            .discard(|name| self.names.leftover(name) != Leftover::Unknown);
        self.tensors.finish(config.family())?;
        Ok((self.layers, self.warnings))
    }

    /// The bias of layer or norm `name`, which the checkpoint calls `stored`: zeros if no layer of its kind
    /// has one.
    fn bias(&mut self, name: &str, stored: &str, outputs: usize) -> Result<Vec<f32>, Error> {
        let stored = format!("{stored}.bias");
        let kind = kind(&stored);
        if self.names.is_own() || self.biases.contains(&kind) {
            return self.tensors.take_f32(&stored, &[outputs]);
        }
        if !self.without_bias.iter().any(|layer| name.ends_with(layer)) {
            let text = "expected tensors of this name, got none; guessed zeros";
            self.warnings.add(&kind, text);
        }
        Ok(vec![0.0; outputs])
    }

    /// Biases of queries, keys and values that are stored apart from their weights, if they are.
    fn qv_bias(&mut self, name: &str, outputs: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(parts) = self.names.qv_biases(name) else {
            return Ok(None);
        };
        if !parts.iter().any(|part| self.tensors.contains(part)) {
            return Ok(None);
        }
        let mut bias = Vec::with_capacity(outputs);
        for (at, part) in parts.iter().enumerate() {
            match at == 1 && !self.tensors.contains(part) {
                true => bias.resize(2 * outputs / 3, 0.0),
                false => bias.extend(self.tensors.take_f32(part, &[outputs / 3])?),
            }
        }
        Ok(Some(bias))
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
        let apart = self.qv_bias(name, outputs)?;
        let (mut weight, mut bias) = (Vec::new(), apart.unwrap_or_default());
        let apart = !bias.is_empty();
        for part in parts {
            let values = self.tensors.take_f32(&format!("{part}.weight"), &shape)?;
            // The only part needs no copy.
            match weight.is_empty() {
                true => weight = values,
                false => weight.extend(values),
            }
            if has_bias && !apart {
                bias.extend(self.bias(name, &part, shape[0])?);
            }
        }
        bias.resize(outputs, 0.0);
        Ok((weight, bias))
    }
}

/// A name with every number in it as a star: the same for each block and stage.
fn kind(name: &str) -> String {
    let parts = name.split('.').map(|part| match part.parse::<usize>() {
        Ok(_) => "*",
        Err(_) => part,
    });
    parts.collect::<Vec<_>>().join(".")
}
