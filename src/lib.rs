//! Linear layers of vision transformers on 8-bit and narrower integer kernels, for embedding in an engine.
//!
//! A [`QuantLinear`] computes `y = x · Wᵀ + b` in one pass: inputs are quantized, multiplied and finished by
//! kernels that are chosen for the CPU at run time. NoisyQuant's noisy bias (CVPR 2023) is part of the same
//! fused multiply-add and costs nothing. The same layer gives the same bits on every CPU, instruction set
//! and number of threads.
//!
//! **Build.** A layer is made of float weights and a few rows of real inputs ([`QuantLinear::builder`]), or
//! of numbers that another tool found ([`Numbers`]). Building is slow and done once.
//!
//! ```
//! use noisyquant::{Executor, MatMut, MatRef, Noise, QuantLinear, Scratch, half, io};
//! # let (inputs, outputs) = (48, 32);
//! # let numbers = |n: usize| (0..n).map(|i| (i * i % 97) as f32 / 48.0 - 1.0).collect::<Vec<f32>>();
//! # let (weight, bias, rows) = (numbers(outputs * inputs), numbers(outputs), numbers(100 * inputs));
//!
//! let layer = QuantLinear::builder(&weight, outputs, inputs) // row-major, as PyTorch's
//!     .bias(&bias)
//!     .weight_bits(8)
//!     .activation_bits(6)
//!     .noise(Noise::Searched { seed: 0 })
//!     .calibration_rows(&rows)
//!     .build()?;
//! println!("{}", layer.explain(197)); // kernel, blocking and threads, and why
//!
//! // Run. A call allocates nothing. Its scratch is made once, for the most rows of a call, and may serve
//! // many layers; `Scratch::from_slice` makes it of memory that the host owns.
//! let mut scratch = Scratch::with_bytes(layer.scratch_bytes(197, 1));
//! let (x, mut y) = (&rows[..2 * inputs], vec![0f32; 2 * outputs]);
//! layer.forward_into(x, &mut y, &mut scratch, Executor::serial())?;
//!
//! // Strided views of f32, f16 or bf16 are read and written in place.
//! let mut wide = vec![half::bf16::ZERO; 2 * (outputs + 8)];
//! let y = MatMut::new(&mut wide, 2, outputs, outputs + 8)?;
//! layer.forward_view(MatRef::new(x, 2, inputs, inputs)?, y, &mut scratch, Executor::serial())?;
//!
//! // Share. A layer is `Sync`, and a clone shares its weights. Each thread needs a scratch of its own, as
//! // `forward` makes one.
//! std::thread::scope(|scope| {
//!     for x in rows.chunks(25 * inputs) {
//!         scope.spawn(|| layer.forward(x));
//!     }
//! });
//!
//! // Save. A file of named layers is the same for every CPU.
//! let file = io::to_bytes([("blocks.0.mlp.fc1", &layer)])?;
//! let loaded = io::from_bytes(&file, None)?;
//! assert_eq!(loaded["blocks.0.mlp.fc1"].forward(x)?, layer.forward(x)?);
//! # Ok::<(), noisyquant::Error>(())
//! ```
//!
//! **Threads.** Every call says who runs its tasks: an [`Executor`] is the calling thread, rayon's current
//! pool, or the host's own `parallel_for`. Where rayon can start no thread, and in the child of a `fork()`,
//! which has none of its parent's, its pool is the calling thread alone.
//!
//! **Instruction set.** The best of the CPU is used. [`Builder::isa`] and the environment variable
//! `NOISYQUANT_ISA` name another, which is an error where it is not there.
//!
//! # Features
//!
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `std` | yes | detection of the CPU, `NOISYQUANT_ISA`, a host's threads |
//! | `rayon` | yes | rayon's pool as the default executor |
//! | `calibrate` | yes | [`QuantLinear::builder`], quantizers, [`calibrate`](fn@calibrate) for whole models |
//! | `io` | yes | [`io`], files of layers |
//!
//! Without any of them the crate is `no_std` with `alloc`: it makes layers of [`Numbers`] and runs them on
//! the calling thread, on the instruction sets that it was compiled for.

#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "calibrate")]
mod calibrate;
mod check;
mod error;
mod layer;
mod run;
#[cfg(feature = "calibrate")]
pub mod theory;

#[cfg(feature = "calibrate")]
pub use calibrate::{
    auto::{Candidates, Outcome},
    builder::Builder,
    calibrator::{Calibrated, Calibrator, FloatLayer, LayerReport, calibrate},
    noise::Noise,
    objective::{Errors, Objective},
    quantizer::{ActivationRange, Quantizer},
    recipe::{ChannelScale, Recipe, Refine, Shift},
    reservoir::Reservoir,
    weights::{WeightQuantizer, WeightRange},
};
pub use error::Error;
pub use half;
#[cfg(feature = "io")]
pub use layer::io;
pub use layer::{
    codes::{Codes, CodesPart, CodesRef},
    linear::QuantLinear,
    mlp::Mlp,
    norm::Norm,
    numbers::Numbers,
    operands::{Input, Output},
};
pub use noisyquant_kernels::isa::Isa;
pub use noisyquant_kernels::spec::Activation;
pub use noisyquant_kernels::view::{Elem, Element, MatMut, MatRef, ViewError};
pub use run::{
    dynamic::{DynamicMatmul, DynamicOperand, DynamicRange},
    dynamic_product::DynamicProduct,
    executor::{Executor, ParallelFor},
    memory::Scratch,
    panels::Packing,
    plan::Plan,
};

/// The commands and figures for people who look at the project first; here so that its examples are tested.
#[cfg(all(doctest, feature = "calibrate", feature = "io"))]
#[doc = include_str!("../README.md")]
struct Readme;
