//! Images in folders.

use std::path::{Path, PathBuf};

use image::ImageFormat;
use indicatif::ProgressBar;
use rayon::prelude::*;

use super::failure::Failure;
use crate::{config::Config, input::photo};

/// The images in `folder` and the folders in it, sorted by path. What has no image's extension is
/// passed over; none at all is a failure.
pub(super) fn images(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    if found.is_empty() {
        let folder = folder.display();
        return Err(format!(
            "{folder}: expected a folder with images (jpg, png, webp, bmp, gif), got none"
        )
        .into());
    }
    Ok(found)
}

/// An image of a class.
pub(super) struct Labelled {
    pub(super) path: PathBuf,
    pub(super) class: usize,
}

impl AsRef<Path> for Labelled {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// The folders in `folder`, which are the classes in sorted order, and the images in each.
pub(super) fn classes(folder: &Path) -> Result<(Vec<String>, Vec<Labelled>), Failure> {
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for entry in entries(folder)?.into_iter().filter(|entry| entry.is_dir()) {
        let mut found = Vec::new();
        collect(&entry, &mut found)?;
        let class = names.len();
        all.extend(found.into_iter().map(|path| Labelled { path, class }));
        names.push(name(&entry));
    }
    if all.is_empty() {
        let folder = folder.display();
        return Err(format!(
            "{folder}: expected a folder for each class with images in it, got none"
        )
        .into());
    }
    Ok((names, all))
}

/// The last part of a path, for people.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Read images as the model's input `[n, channels, height, width]`, on all threads. The failure is that
/// of the first that cannot be read.
pub(super) fn load(
    paths: &[impl AsRef<Path> + Sync],
    config: &Config,
) -> Result<Vec<f32>, Failure> {
    let load = |path: &_| {
        photo::load(
            AsRef::as_ref(path),
            &config.preprocess,
            config.channels,
            &photo::Options::default(),
        )
    };
    let loaded: Vec<Result<Vec<f32>, _>> = paths.par_iter().map(load).collect();
    let loaded: Result<Vec<_>, _> = loaded.into_iter().collect();
    Ok(loaded?.concat())
}

/// Load `paths` batch by batch and do `work` on the paths and input of each; `bar` counts images.
pub(super) fn for_each_batch<P: AsRef<Path> + Sync>(
    paths: &[P],
    batch: usize,
    config: &Config,
    bar: &ProgressBar,
    mut work: impl FnMut(&[P], &[f32]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for paths in paths.chunks(batch) {
        work(paths, &load(paths, config)?)?;
        bar.inc(paths.len() as u64);
    }
    Ok(())
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect(&path, found)?;
        } else if ImageFormat::from_path(&path).is_ok_and(|format| format.reading_enabled()) {
            found.push(path);
        }
    }
    Ok(())
}

/// What is in a folder, sorted, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |error: std::io::Error| {
        Failure::from(format!(
            "{}: expected a folder that can be read, got: {error}",
            folder.display()
        ))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
