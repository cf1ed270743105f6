//! One forward pass: the layers run one after the other, each seen by an observer.

use std::{
    fmt,
    time::{Duration, Instant},
};

use noisyquant::Scratch;

use super::Layer;
use crate::{
    Error,
    attention::{AttentionScratch, Bias, Heads},
};

/// Where a forward pass writes. A slice without elements is not written, and a pass that is not
/// asked for logits does not run the head.
pub struct Output<'a> {
    /// `[n, features]`: the class token, or Swin's mean token, after the last norm.
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
pub struct Observed<'a> {
    /// Its index in [`Model::layers`](crate::Model::layers).
    pub layer: usize,
    /// Its input, whole rows.
    pub input: &'a [f32],
    /// Its output, as many rows.
    pub output: &'a [f32],
}

/// A part of a forward pass, for who wants to know where its time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// The linear layers before attention, `qkv`.
    Qkv,
    /// The linear layers after attention.
    Projection,
    /// The first linear layers of the MLPs.
    Fc1,
    /// The second linear layers of the MLPs.
    Fc2,
    /// All other linear layers: patch embedding, patch merging, head.
    OtherLinear,
    /// Scores, softmax and mixing.
    Attention,
    /// LayerNorm, and adding a branch to the tokens, which is done on the way into the next norm.
    Norm,
    /// GELU.
    Gelu,
    /// Cutting images into patches and maps into windows, and everything else.
    Other,
}

impl Operation {
    /// What a linear layer of this name is.
    fn linear(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "qkv")) => Self::Qkv,
            Some((before, "proj")) if before.ends_with("attn") => Self::Projection,
            Some((_, "fc1")) => Self::Fc1,
            Some((_, "fc2")) => Self::Fc2,
            _ => Self::OtherLinear,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qkv => "linear: qkv",
            Self::Projection => "linear: attention's projection",
            Self::Fc1 => "linear: fc1",
            Self::Fc2 => "linear: fc2",
            Self::OtherLinear => "linear: others",
            Self::Attention => "attention",
            Self::Norm => "LayerNorm and residuals",
            Self::Gelu => "GELU",
            Self::Other => "everything else",
        })
    }
}

/// Hears how long each part of a pass took.
pub(crate) type Timer<'a> = &'a mut dyn FnMut(Operation, Duration);

/// The layers that are still to run, and what running them takes.
pub(crate) struct Run<'a> {
    layers: std::iter::Enumerate<std::slice::Iter<'a, Layer>>,
    scratch: &'a mut Scratch,
    attention: &'a mut AttentionScratch,
    observe: &'a mut dyn FnMut(Observed<'_>),
    /// Where times go, and when the last part ended.
    timer: Option<(Timer<'a>, Instant)>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        layers: &'a [Layer],
        scratch: &'a mut Scratch,
        attention: &'a mut AttentionScratch,
        observe: &'a mut dyn FnMut(Observed<'_>),
    ) -> Self {
        Self {
            layers: layers.iter().enumerate(),
            scratch,
            attention,
            observe,
            timer: None,
        }
    }

    /// The same, timed from now on.
    pub(crate) fn timed(self, timer: Timer<'a>) -> Self {
        let timer = Some((timer, Instant::now()));
        Self { timer, ..self }
    }

    /// What has happened since the last part was this. Does nothing in a pass that is not timed.
    pub(crate) fn lap(&mut self, operation: Operation) {
        if let Some((timer, last)) = &mut self.timer {
            let now = Instant::now();
            timer(operation, now - *last);
            *last = now;
        }
    }

    /// Run the next layer.
    pub(crate) fn linear(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        let (index, layer) = self
            .layers
            .next()
            .expect("a model has the layers that it runs");
        let done = layer.linear.forward(input, output, self.scratch);
        done.map_err(|source| Error::Layer {
            layer: layer.name.clone(),
            source,
        })?;
        self.lap(Operation::linear(&layer.name));
        (self.observe)(Observed {
            layer: index,
            input,
            output,
        });
        Ok(())
    }

    pub(crate) fn attend(
        &mut self,
        heads: Heads,
        qkv: &[f32],
        bias: Option<Bias<'_>>,
        mixed: &mut [f32],
    ) {
        heads.attend(qkv, bias, mixed, self.attention);
        self.lap(Operation::Attention);
    }
}
