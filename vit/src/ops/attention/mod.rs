//! Multi-head attention, its products in f32 or in integers.

mod attend;
mod exponential;
mod float;
mod heads;
mod integer;
#[cfg(test)]
mod tests;

pub(crate) use attend::{Arithmetic, AttentionScratch, AttentionSizes};
pub(crate) use heads::{Bias, Heads, MAX_KEYS, Mixed};
