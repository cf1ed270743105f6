//! One forward pass: the layers run one after the other, on all rows or on each thread's part of them.

use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, Instant},
};

use noisyquant::{Activation, Executor, Input, MatMut, MatRef, Mlp, Norm, QuantLinear};
use rayon::prelude::*;

use super::{layer::Layer, operation::Operation};
use crate::{
    error::Error,
    ops::{
        self, Arithmetic, AttentionScratch, AttentionSizes, Bias, Heads, Linear, Lines, Mixed,
        scratch,
    },
};

/// Where a forward pass writes. A slice without elements is not written, and a pass that is not
/// asked for logits does not run the head.
pub struct Output<'a> {
    /// `[n, features]`: what the head sees of the class token, or of the mean token of Swin and of ViTs that
    /// pool patches, after the last norm.
    pub features: &'a mut [f32],
    /// `[n, classes]`.
    pub logits: &'a mut [f32],
}

impl<'a> Output<'a> {
    /// Only features, `[n, features]`.
    pub fn features(features: &'a mut [f32]) -> Self {
        let logits = &mut [];
        Self { features, logits }
    }

    /// Only logits, `[n, classes]`.
    pub fn logits(logits: &'a mut [f32]) -> Self {
        let features = &mut [];
        Self { features, logits }
    }
}

/// A linear layer that has just run.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// Its index in [`Model::layers`](crate::Model::layers).
    pub layer: usize,
    /// Its input, whole rows.
    pub input: &'a [f32],
    /// Its output, as many rows.
    pub output: &'a [f32],
}

/// Hears how long each part of a pass took.
pub(crate) type Timer<'a> = &'a mut (dyn FnMut(Operation, Duration) + Send);

/// Sees every linear layer that has run.
pub(crate) type Observer<'a> = &'a mut (dyn FnMut(Observed<'_>) + Send);

/// Rows that a thread should at least have to itself: a few register tiles.
const PART_ROWS: usize = 16;

/// Numbers in the buffers of a part below which handing it to another thread costs more than it saves.
const PART_NUMBERS: usize = 1 << 15;

/// How much working memory the layers take that run on all rows, those that run on parts of them, and
/// attention.
pub(crate) struct RunSizes {
    threads: usize,
    whole: usize,
    /// Threads, and bytes, of each part; there is one for each thread.
    part_threads: usize,
    part: usize,
    attention: AttentionSizes,
}

/// Working memory of the layers.
pub(crate) struct RunScratch<'a> {
    whole: LayerScratch<'a>,
    parts: Vec<LayerScratch<'a>>,
    attention: AttentionScratch<'a>,
}

/// Scratch of the layers on some rows, and who runs them.
struct LayerScratch<'a> {
    lines: &'a mut [u8],
    executor: Executor<'static>,
}

impl RunSizes {
    /// For passes on up to `threads` threads of images of `rows` rows; `bytes` tells what layers need
    /// for a number of threads.
    pub(crate) fn new(
        bytes: impl Fn(usize) -> usize,
        attention: AttentionSizes,
        rows: usize,
        threads: usize,
    ) -> Self {
        let part_threads = threads.div_ceil(parts(rows, threads));
        Self {
            threads,
            whole: bytes(threads),
            part_threads,
            part: bytes(part_threads),
            attention,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        Lines::bytes(self.whole) + self.threads * Lines::bytes(self.part) + self.attention.bytes()
    }

    /// Cut out of `memory`.
    pub(crate) fn cut<'a>(&'a self, memory: &mut Lines<'a>) -> RunScratch<'a> {
        // Float layers and attention run on rayon's current pool in any case: this makes sure of it.
        let pool = Executor::rayon();
        // More threads than there is scratch for are not used.
        let executor = |threads| match threads {
            1 => Executor::serial(),
            _ => pool,
        };
        RunScratch {
            whole: LayerScratch {
                lines: memory.cut(self.whole),
                executor: executor(self.threads),
            },
            parts: (0..self.threads)
                .map(|_| LayerScratch {
                    lines: memory.cut(self.part),
                    executor: executor(self.part_threads),
                })
                .collect(),
            attention: self.attention.cut(memory),
        }
    }
}

/// Rows of a buffer, `width` numbers each.
pub(crate) struct Rows<'a> {
    numbers: &'a mut [f32],
    width: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(numbers: &'a mut [f32], width: usize) -> Self {
        Self { numbers, width }
    }

    /// The first `count` rows of a buffer.
    pub(crate) fn first(count: usize, numbers: &'a mut [f32], width: usize) -> Self {
        Self::new(&mut numbers[..count * width], width)
    }

    /// Cut the first `count` rows off.
    fn take(&mut self, count: usize) -> &'a mut [f32] {
        let (first, rest) = mem::take(&mut self.numbers).split_at_mut(count * self.width);
        self.numbers = rest;
        first
    }
}

/// Parts of so many rows for so many threads.
fn parts(rows: usize, threads: usize) -> usize {
    (rows / PART_ROWS).clamp(1, threads.max(1))
}

/// A forward pass: layers that run one after the other, on all rows or on parts of them at a time.
pub(crate) struct Run<'a, 'h> {
    pub(super) lane: Lane<'a, 'h>,
    parts: Vec<LayerScratch<'a>>,
    pub(super) arithmetic: Arithmetic,
    attention: AttentionScratch<'a>,
}

/// The layers of an MLP, by their numbers.
#[derive(Clone, Copy)]
pub(crate) struct MlpLayers {
    pub(crate) fc1: usize,
    pub(crate) activation: Activation,
    pub(crate) fc2: usize,
}

/// MLPs as one call each, by the numbers of their first layers.
pub(crate) type Mlps = BTreeMap<usize, Mlp>;

impl MlpLayers {
    /// It as one, where both layers are quantized.
    pub(super) fn quantized(&self, layers: &[Layer]) -> Option<Mlp> {
        let layer = |index: usize| match &layers[index].linear {
            Linear::Quantized(layer) => Some(layer.clone()),
            Linear::Float(_) => None,
        };
        Mlp::new(layer(self.fc1)?, self.activation, layer(self.fc2)?).ok()
    }
}

/// Some rows on their way through the layers, and what running those takes.
pub(crate) struct Lane<'a, 'h> {
    pub(super) layers: &'a [Layer],
    mlps: &'a Mlps,
    /// Which row of all is the first of these.
    first_row: usize,
    memory: LayerScratch<'a>,
    observe: Option<Observer<'h>>,
    /// Where times go, and when the last part ended.
    timer: Option<(Timer<'h>, Instant)>,
}

impl<'a, 'h> Run<'a, 'h> {
    /// A pass through `layers`, of which `mlps` run as one, and attention in this `arithmetic`, each layer
    /// seen by `observe` and timed from now on by `timer`, if any.
    pub(crate) fn new(
        layers: &'a [Layer],
        mlps: &'a Mlps,
        arithmetic: Arithmetic,
        scratch: RunScratch<'a>,
        observe: Option<Observer<'h>>,
        timer: Option<Timer<'h>>,
    ) -> Self {
        Self {
            lane: Lane {
                layers,
                mlps,
                first_row: 0,
                memory: scratch.whole,
                observe,
                timer: timer.map(|timer| (timer, Instant::now())),
            },
            parts: scratch.parts,
            arithmetic,
            attention: scratch.attention,
        }
    }

    /// Whether the rows of each layer are shown to somebody.
    pub(crate) fn is_observed(&self) -> bool {
        self.lane.observe.is_some()
    }

    /// What has happened since the last part was this. Does nothing in a pass that is not timed.
    pub(crate) fn lap(&mut self, operation: Operation) {
        self.lane.lap(operation);
    }

    /// Run layer number `layer` on all rows, on all threads.
    pub(crate) fn linear(
        &mut self,
        layer: usize,
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), Error> {
        self.lane.linear(layer, input, output)
    }

    /// Attention on `qkv`, which layer number `layer` gave.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        heads: Heads,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: &mut [f32],
    ) -> Result<(), Error> {
        let mixed = Mixed::numbers(mixed, heads.width);
        self.attend_into(layer, heads, qkv, bias, mixed)
    }

    /// The same, written as `mixed` says.
    pub(super) fn attend_into(
        &mut self,
        layer: usize,
        heads: Heads,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: Mixed<'_>,
    ) -> Result<(), Error> {
        let done = heads.attend(self.arithmetic, qkv, bias, mixed, &mut self.attention);
        done.map_err(Error::layer(&self.lane.layers[layer].name))?;
        self.lap(Operation::Attention);
        Ok(())
    }

    /// Do `step` with a part of the rows of all `buffers` on each thread of rayon's current pool: steps
    /// that need no other rows follow each other without waiting for other threads, and find their rows
    /// in their own cache. An observer sees all rows at once, on one thread but for the layers.
    pub(crate) fn by_rows<const N: usize>(
        &mut self,
        buffers: [Rows<'_>; N],
        step: &(impl Fn(&mut Lane<'_, '_>, [&mut [f32]; N]) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        let rows = buffers[0].numbers.len() / buffers[0].width;
        let numbers: usize = buffers.iter().map(|buffer| buffer.numbers.len()).sum();
        let threads = self.parts.len().min(rayon::current_num_threads());
        let parts = parts(rows, threads.min(numbers / PART_NUMBERS));
        if parts == 1 || self.lane.observe.is_some() {
            return step(&mut self.lane, buffers.map(|buffer| buffer.numbers));
        }
        let mut timer = self.lane.timer.take();
        let first_row = |part: usize| rows * part / parts;
        let scratches = self.parts[..parts].iter_mut().enumerate();
        let lanes = scratches.map(|(number, part)| Lane {
            layers: self.lane.layers,
            mlps: self.lane.mlps,
            first_row: first_row(number),
            memory: LayerScratch {
                lines: &mut *part.lines,
                executor: part.executor,
            },
            observe: None,
            // Only the first part is timed, which the calling thread takes.
            timer: timer.take(),
        });
        let mut lanes: Vec<Lane<'_, '_>> = lanes.collect();
        let mut rest = buffers;
        let cut = |part: usize| {
            let count = first_row(part + 1) - first_row(part);
            rest.each_mut().map(|rows| rows.take(count))
        };
        let buffers: Vec<[&mut [f32]; N]> = (0..parts).map(cut).collect();
        let tasks = lanes.par_iter_mut().zip(buffers).with_max_len(1);
        let done = tasks.try_for_each(|(lane, buffers)| step(lane, buffers));
        self.lane.timer = lanes.swap_remove(0).timer;
        self.lap(Operation::Other);
        done
    }
}

impl Lane<'_, '_> {
    /// Which row of all is the first that the lane has.
    pub(crate) fn first_row(&self) -> usize {
        self.first_row
    }

    /// See [`Run::lap`].
    pub(crate) fn lap(&mut self, operation: Operation) {
        if let Some((timer, last)) = &mut self.timer {
            let now = Instant::now();
            timer(operation, now - *last);
            *last = now;
        }
    }

    /// Run layer number `index`.
    pub(crate) fn linear(
        &mut self,
        index: usize,
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), Error> {
        let layer = &self.layers[index];
        let LayerScratch { lines, executor } = &mut self.memory;
        let done = (layer.linear).forward(input, output, &mut scratch(lines), *executor);
        done.map_err(Error::layer(&layer.name))?;
        self.lap(Operation::linear(&layer.name));
        if let Some(observe) = &mut self.observe {
            observe(Observed {
                layer: index,
                input,
                output,
            });
        }
        Ok(())
    }

    /// Run layer number `index`, the last of a branch, and add its output to `x`; or leave it in `update`, to
    /// be added on the way into the next norm, and return true.
    pub(crate) fn branch(
        &mut self,
        index: usize,
        input: &[f32],
        x: &mut [f32],
        update: &mut [f32],
    ) -> Result<bool, Error> {
        let layer = &self.layers[index];
        let (Linear::Quantized(linear), None) = (&layer.linear, &self.observe) else {
            self.linear(index, input, update)?;
            return Ok(true);
        };
        let input = rows(input, linear.in_features()).into();
        self.added(index, linear, input, x)?;
        Ok(false)
    }

    /// Add to `x` what layer number `index`, which is `linear`, makes of `input`.
    pub(super) fn added(
        &mut self,
        index: usize,
        linear: &QuantLinear,
        input: Input<'_>,
        x: &mut [f32],
    ) -> Result<(), Error> {
        let name = &self.layers[index].name;
        let LayerScratch { lines, executor } = &mut self.memory;
        let output = noisyquant::Output::Added(rows_mut(x, linear.out_features()));
        let none = Activation::Identity;
        let done = linear.forward_with(input, none, output, &mut scratch(lines), *executor);
        done.map_err(Error::layer(name))?;
        self.lap(Operation::linear(name));
        Ok(())
    }

    /// Run layer number `index` on the norm of `x`, to which `rest`, what a branch has left, is added before.
    /// The norm is in the pass of the layer, or goes by way of `normal` if that is in f32 or seen.
    pub(crate) fn normed_linear(
        &mut self,
        index: usize,
        norm: &Norm,
        rest: Option<&[f32]>,
        x: &mut [f32],
        normal: &mut [f32],
        output: &mut [f32],
    ) -> Result<(), Error> {
        let layer = &self.layers[index];
        let (Linear::Quantized(linear), None, None) = (&layer.linear, &self.observe, rest) else {
            // Added on the way into the norm, while a row is at hand.
            ops::add_normalise(norm, x, rest, normal);
            self.lap(Operation::Norm);
            return self.linear(index, normal, output);
        };
        let LayerScratch { lines, executor } = &mut self.memory;
        let x = rows(x, linear.in_features());
        let output = rows_mut(output, linear.out_features()).into();
        let (input, none) = (Input::Normed { x, norm }, Activation::Identity);
        let done = linear.forward_with(input, none, output, &mut scratch(lines), *executor);
        done.map_err(Error::layer(&layer.name))?;
        self.lap(Operation::linear(&layer.name));
        Ok(())
    }

    /// [`branch`](Self::branch) of an MLP of the norm of `x`, to which `update` is added before if it is
    /// `left`: as one where both layers are quantized; else by way of `normal` and `hidden`.
    #[expect(clippy::too_many_arguments, reason = "three of them are memory")]
    pub(crate) fn mlp(
        &mut self,
        mlp: MlpLayers,
        norm: &Norm,
        left: bool,
        x: &mut [f32],
        normal: &mut [f32],
        hidden: &mut [f32],
        update: &mut [f32],
    ) -> Result<bool, Error> {
        let rest = left.then_some(&*update);
        let (Some(one), None) = (self.mlps.get(&mlp.fc1), &self.observe) else {
            self.normed_linear(mlp.fc1, norm, rest, x, normal, hidden)?;
            ops::activate(mlp.activation, hidden);
            self.lap(Operation::Gelu);
            return self.branch(mlp.fc2, hidden, x, update);
        };
        if let Some(rest) = rest {
            ops::add(x, rest);
            self.lap(Operation::Norm);
        }
        let LayerScratch { lines, executor } = &mut self.memory;
        let tokens = rows_mut(x, one.in_features());
        let done = one.forward_residual(norm, tokens, &mut scratch(lines), *executor);
        done.map_err(Error::layer(&self.layers[mlp.fc1].name))?;
        self.lap(Operation::Mlp);
        Ok(false)
    }
}

/// Whole rows as a layer reads them.
fn rows(numbers: &[f32], width: usize) -> MatRef<'_> {
    MatRef::new(numbers, numbers.len() / width, width, width).expect("whole rows")
}

/// Whole rows to be written.
fn rows_mut(numbers: &mut [f32], width: usize) -> MatMut<'_> {
    MatMut::new(numbers, numbers.len() / width, width, width).expect("whole rows")
}
