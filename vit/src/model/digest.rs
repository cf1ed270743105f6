//! What tells the tensors of two models apart.

use xxhash_rust::xxh3::Xxh3;

use super::{named::NamedTensor, transformer::Model};
use crate::ops::Linear;

/// Numbers that are hashed at a time.
const AT_ONCE: usize = 1024;

impl Model {
    /// A digest of the f32 tensors of this model with their names and shapes, in hexadecimal. Two models with
    /// other tensors have another, unless somebody means to deceive (XXH3, 128 bits).
    pub fn digest(&self) -> String {
        let mut hash = Xxh3::new();
        for tensor in self.tensors() {
            add(&mut hash, tensor);
        }
        for layer in self.layers() {
            if let Linear::Float(float) = &layer.linear {
                let (name, outputs) = (&layer.name, float.bias().len());
                let shape = vec![outputs, float.in_features()];
                add(&mut hash, (format!("{name}.weight"), shape, float.weight()));
                add(
                    &mut hash,
                    (format!("{name}.bias"), vec![outputs], float.bias()),
                );
            }
        }
        format!("{:032x}", hash.digest128())
    }
}

fn add(hash: &mut Xxh3, (name, shape, values): NamedTensor<'_>) {
    hash.update(name.as_bytes());
    for size in shape {
        hash.update(&(size as u64).to_le_bytes());
    }
    for values in values.chunks(AT_ONCE) {
        let mut bytes = [0; 4 * AT_ONCE];
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        hash.update(&bytes[..4 * values.len()]);
    }
}
