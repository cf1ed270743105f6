//! What chooses the numbers of a layer.

pub(crate) mod alternate;
pub(crate) mod auto;
pub(crate) mod builder;
pub(crate) mod calibrator;
pub(crate) mod compensate;
pub(crate) mod matrix;
pub(crate) mod noise;
pub(crate) mod objective;
pub(crate) mod problem;
pub(crate) mod quantizer;
pub(crate) mod realize;
pub(crate) mod recipe;
pub(crate) mod refine;
pub(crate) mod reservoir;
pub(crate) mod search;
pub(crate) mod settle;
pub(crate) mod weights;
