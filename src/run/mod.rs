//! What one call needs and does: kernels, memory, blocking, and who runs the tasks.

pub(crate) mod block;
pub(crate) mod chain;
pub(crate) mod dynamic;
pub(crate) mod dynamic_product;
#[cfg(feature = "std")]
mod environment;
#[cfg(not(feature = "std"))]
#[path = "environment_none.rs"]
mod environment;
pub(crate) mod executor;
#[cfg(not(feature = "std"))]
mod executor_alone;
#[cfg(not(feature = "rayon"))]
mod executor_default;
#[cfg(feature = "rayon")]
mod executor_rayon;
#[cfg(feature = "std")]
mod executor_threads;
pub(crate) mod memory;
pub(crate) mod panels;
pub(crate) mod pass;
pub(crate) mod plan;
#[cfg(feature = "rayon")]
pub(crate) mod pool;
pub(crate) mod select;
pub(crate) mod tasks;
