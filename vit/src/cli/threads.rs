//! The threads that all commands share.

use noisyquant::{Error, Executor};

use super::{failure::Failure, warner::Warner};
use crate::warning::Warnings;

/// What the warning is about.
pub(super) const WHAT: &str = "threads";

/// Start rayon's threads; where the system refuses them, warn, and run everything on the calling one.
pub(super) fn start(warner: &mut Warner) -> Result<(), Failure> {
    let Err(Error::Threads { got }) = Executor::try_rayon() else {
        return Ok(());
    };
    let mut warnings = Warnings::default();
    let text = format!("expected a pool of them, got: {got}; everything runs on one");
    warnings.add(WHAT, text);
    // The calling thread becomes the pool that all loops are carried out by.
    Executor::rayon();
    warner.tell(&warnings)
}
