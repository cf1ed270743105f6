//! The leaves of `noisyquant`: hand-written integer SIMD kernels, the table that lists them, and the
//! scalar specification that they all equal bit for bit.
//!
//! This package allocates nothing, starts no threads, reads no environment and defines no error
//! types. It is the only place of the project that contains `unsafe`, in two shapes: the *leaf*, an
//! `unsafe fn` written for one instruction set, and the *checked call* in [`table`], which asserts
//! lengths, holds a proof that the CPU has the instructions, and then calls the leaf.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`spec`] | the numerics contract as plain scalar Rust: the definition, not a fallback |
//! | [`layout`] | geometry of codes and packed weights |
//! | [`isa`] | names and detection of instruction sets |
//! | [`view`] | strided matrix views over f32, f16 and bf16 |
//! | [`table`] | one row per kernel; the only way to reach one |

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

pub mod isa;
pub mod layout;
mod leaf;
mod scalar;
pub mod spec;
pub mod table;
pub mod view;
