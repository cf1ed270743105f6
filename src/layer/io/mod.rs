//! Quantized layers as safetensors: one file holds a set of named layers and is portable between
//! instruction sets, for packing happens when it is loaded.
//!
//! Per layer `NAME`, with `[n, k]` its outputs and inputs:
//!
//! | tensor | type | |
//! | --- | --- | --- |
//! | `NAME.weight` | i8 `[n, k]`, or u8 `[n, bytes]` | weight codes: of 8 bits, or of fewer |
//! | `NAME.weight_scale` | f32 `[n]` | `s_w` |
//! | `NAME.bias` | f32 `[n]` | `B` |
//! | `NAME.channel_scale` | f32 `[k]` | `r` |
//! | `NAME.noise` | f32 `[k]` | shift and noise, in units of the scaled input |
//! | `NAME.activation` | f32 `[2]` | `s_x` and `z` |
//!
//! Weight codes of `b < 8` bits take `b` bits each, in two's complement: code `i` of a row is the bits
//! `i · b..(i + 1) · b` of the row, the least significant first, and bit `p` of a row is bit `p mod 8` of its
//! byte `p / 8`. Of 6 bits, four codes are three bytes; of 4 bits, a code is a nibble, the low one first. A
//! row takes `bytes = ⌈k · b / 8⌉`, so that each begins with a byte and can be read without the others. Bits
//! that are left of its last byte are zero.
//!
//! The metadata has one entry, `noisyquant`: JSON with the version of the format and, per layer, what
//! is not a tensor. Everything else is computed from these by the same equations that built the layer,
//! so that it returns the same bits. Version 1 has i8 `[n, k]` for codes of any bits, and is what is written
//! where all weights have 8 bits; older readers read it. Version 2 is what this page says.

mod bits;
mod header;
mod open;
mod save;

pub use open::{Reader, from_bytes};
pub use save::to_bytes;
