//! Memory that long work is going to need, asked for beforehand: an allocation that fails in the middle of it
//! ends the program. And how much there was.

use std::{fs, path::Path};

use super::failure::Failure;
use crate::{
    checkpoint::Files,
    model::{Model, Workspace},
};

/// A failure if the process may not have `bytes` more of memory for `what`. They are not touched, and given
/// back.
pub(super) fn require(bytes: usize, what: &str) -> Result<(), Failure> {
    let reserved = Vec::<u8>::new().try_reserve_exact(bytes);
    let megabytes = bytes.div_ceil(1_000_000);
    reserved.map_err(|_| format!("memory: expected {megabytes} MB for {what}, got less").into())
}

/// What the model at `path` takes. What is wrong with the file is told when it is opened, and a pipe can be
/// opened but once.
pub(super) fn require_model(path: &Path) -> Result<(), Failure> {
    let bytes = match path.is_file() || path.is_dir() {
        true => Files::open(path).map_or(0, |files| files.bytes()),
        false => 0,
    };
    require(usize::try_from(bytes).unwrap_or(usize::MAX), "the model")
}

/// What `images` images at a time take beside the models that they run through.
pub(super) fn require_workspace(models: &[&Model], images: usize) -> Result<(), Failure> {
    require(workspace(models, images), "the images that run at once")
}

/// Bytes of a workspace for `images` images, and of these as the model takes them: each, and all together.
pub(super) fn workspace(models: &[&Model], images: usize) -> usize {
    let pixels = models.first().map_or(0, |model| model.config().pixels());
    let inputs = 2 * size_of::<f32>() * images * pixels;
    inputs + Workspace::bytes_for(models, images, rayon::current_num_threads())
}

/// The most bytes that the process has had in memory so far; none where the system does not say, as but Linux
/// does.
pub(super) fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
