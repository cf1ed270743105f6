//! The checks of each kind of row against `spec`, bit for bit.

pub mod absmax;
pub mod block;
pub mod epilogue;
pub mod norm;
pub mod operands;
pub mod product;
pub mod prologue;
