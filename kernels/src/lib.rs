//! The leaves of `noisyquant`: hand-written integer SIMD kernels, the table that lists them, and the
//! scalar specification that they all equal bit for bit.
//!
//! This package allocates nothing, starts no threads and reads no environment. It is the only place of
//! the project that contains `unsafe`, in two shapes: the *leaf*, an `unsafe fn` written for one
//! instruction set, and the *checked call* in [`ready`], which asserts lengths, holds a proof that the
//! CPU has the instructions, and then calls the leaf.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`isa`] | names of instruction sets |
//! | [`layout`] | geometry of codes and packed weights |
//! | [`spec`] | the numerics contract as plain scalar Rust: the definition, not a fallback |
//! | [`view`] | strided matrix views over f32, f16 and bf16 |
//! | [`row`] | what the table says of a kernel |
//! | [`table`] | one row per kernel |
//! | [`cpu`] | which instruction sets the CPU at hand has, and the size of its cache |
//! | [`ready`] | rows that the CPU at hand can run: the only way to call a kernel |
//!
//! A module imports from those above it alone. Between [`view`] and [`row`] stand the argument structs of
//! leaves, and between [`row`] and [`table`] the leaves of each architecture.
//!
//! # Features
//!
//! - `std`, on by default: instruction sets are detected at run time. Without it the crate is `no_std`, and a
//!   set is available if the crate is compiled for CPUs that have it.
//! - `probe`: `Ready::<MicroKernel>::probe`, with which benches measure the peak of a kernel's instructions.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod isa;
pub mod layout;
pub mod spec;
pub mod view;

mod leaf;
pub mod row;

mod scalar;

#[cfg(target_arch = "x86_64")]
#[path = "x86/mod.rs"]
mod arch;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
#[path = "aarch64/mod.rs"]
mod arch;
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little")
)))]
#[path = "portable.rs"]
mod arch;

pub mod cpu;
#[cfg(feature = "probe")]
mod probe;
pub mod ready;
pub mod table;
