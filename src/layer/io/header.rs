//! What a file says of its layers beside their tensors.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::bits;
use crate::error::Error;

/// The metadata entry.
pub(super) const KEY: &str = "noisyquant";

/// The version of files that have a byte for each weight.
pub(super) const BYTES: u32 = 1;

/// The version of files whose weights of fewer than 8 bits take no more than these. A reader refuses any
/// later one.
pub(super) const PACKED: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) layers: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) weight_bits: u32,
    pub(super) activation_bits: u32,
    pub(super) twin_shift: Option<u32>,
}

/// Read before the rest, whose form depends on it.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: u32,
}

/// How a row of weight codes lies in a file.
#[derive(Clone, Copy)]
pub(super) enum Row {
    /// A byte each.
    Bytes,
    /// So many bits each: [`bits`].
    Packed(u32),
}

impl Row {
    /// Of weights of so many bits, in a file of this version.
    pub(super) fn of(weight_bits: u32, version: u32) -> Row {
        match version {
            PACKED if weight_bits < 8 => Row::Packed(weight_bits),
            _ => Row::Bytes,
        }
    }

    /// The type of the tensor.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Row::Bytes => Dtype::I8,
            Row::Packed(_) => Dtype::U8,
        }
    }

    /// What a row of `count` codes takes.
    pub(super) fn bytes(self, count: usize) -> usize {
        match self {
            Row::Bytes => count,
            Row::Packed(bits) => bits::row_bytes(count, bits),
        }
    }
}

pub(super) fn file(expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::File {
        expected: expected.to_string(),
        got: got.to_string(),
    }
}
