//! What quantization and its noise do to the embedded model: accuracy, latency and overhead, all
//! measured on the spot.

mod accuracy;
mod latency;
mod options;
mod overhead;
mod results;
mod run;
mod subject;
mod text;

pub use accuracy::{AccuracyRow, Score};
pub use latency::{Latency, LatencyRow};
pub use options::{Options, RangeChoice, Scheme};
pub use overhead::OverheadRow;
pub use results::Report;
pub use run::run;
