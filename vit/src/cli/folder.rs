//! Images out of folders, as a model takes them.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use rayon::prelude::*;

use super::{failure::Failure, walk::Walk, warner::Warner};
use crate::{
    config::Config,
    input::photo::{self, PhotoError},
    warning::Warnings,
};

pub(super) use super::walk::name;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How images are read")]
pub(super) struct ImageFlags {
    /// Take photos as stored, as Pillow's `Image.open` does; otherwise they are turned as their Exif
    /// orientation says, as transformers' `load_image` does
    #[arg(long)]
    ignore_orientation: bool,
    /// Most pixels of an image file
    #[arg(long, value_name = "COUNT", default_value_t = photo::Options::default().max_pixels)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,
    /// Go on without images that cannot be used, and warn of each
    #[arg(long)]
    skip_bad_images: bool,
}

impl ImageFlags {
    fn options(&self) -> photo::Options {
        photo::Options {
            turn: !self.ignore_orientation,
            max_pixels: self.max_pixels,
        }
    }
}

/// Reads images as flags say, and warns.
pub(super) struct Reader<'a> {
    pub(super) flags: &'a ImageFlags,
    pub(super) config: &'a Config,
    pub(super) warner: &'a mut Warner,
}

impl Reader<'_> {
    /// The images in `folder` and the folders in it, sorted by path, after a look at the header of each.
    /// None at all is a failure.
    pub(super) fn images(&mut self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let walk = Walk::of(folder)?;
        let mut warnings = Warnings::default();
        walk.warn(folder, &mut warnings);
        self.warner.tell(&warnings)?;
        if walk.images.is_empty() {
            let folder = folder.display();
            return Err(format!(
                "{folder}: expected a folder with images (jpg, png, webp, bmp, gif), got none"
            )
            .into());
        }
        self.check(walk.images)
    }

    /// Those of `images` whose header promises that they can be used; others are a failure, unless they are
    /// to be skipped.
    pub(super) fn check<P: AsRef<Path> + Send + Sync>(
        &mut self,
        images: Vec<P>,
    ) -> Result<Vec<P>, Failure> {
        let Config {
            preprocess,
            channels,
            ..
        } = self.config;
        let options = self.flags.options();
        let check = |path: &P| photo::check(path.as_ref(), preprocess, *channels, &options);
        let checked: Vec<_> = images.par_iter().map(check).collect();
        let good = checked.iter().map(Result::is_ok).collect::<Vec<_>>();
        self.judge(checked.into_iter().filter_map(Result::err).collect())?;
        let kept = images.into_iter().zip(good).filter(|(_, good)| *good);
        let kept: Vec<P> = kept.map(|(image, _)| image).collect();
        match kept.is_empty() {
            true => Err("images: expected at least one that can be used, got none".into()),
            false => Ok(kept),
        }
    }

    /// Read images as the model's input `[n, channels, height, width]`, on all threads, and say which they
    /// are. One that cannot be read is a failure, unless it is to be skipped.
    pub(super) fn load<'p, P: AsRef<Path> + Sync>(
        &mut self,
        images: &'p [P],
    ) -> Result<(Vec<&'p P>, Vec<f32>), Failure> {
        let Config {
            preprocess,
            channels,
            ..
        } = self.config;
        let options = self.flags.options();
        let load = |path: &P| photo::load(path.as_ref(), preprocess, *channels, &options);
        let loaded: Vec<Result<Vec<f32>, _>> = images.par_iter().map(load).collect();
        let (mut good, mut input, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for (image, loaded) in images.iter().zip(loaded) {
            match loaded {
                Ok(numbers) => {
                    good.push(image);
                    input.extend(numbers);
                }
                Err(error) => bad.push(error),
            }
        }
        self.judge(bad)?;
        Ok((good, input))
    }

    /// Load `images` batch by batch and do `work` on those of each and their input; `bar` counts images.
    /// Returns how many there were.
    pub(super) fn for_each_batch<P: AsRef<Path> + Sync>(
        &mut self,
        images: &[P],
        batch: usize,
        bar: &ProgressBar,
        mut work: impl FnMut(&[&P], &[f32]) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for images in images.chunks(batch) {
            let (good, input) = self.load(images)?;
            if !good.is_empty() {
                work(&good, &input)?;
            }
            count += good.len();
            bar.inc(images.len() as u64);
        }
        match count {
            0 => Err("images: expected at least one that can be used, got none".into()),
            count => Ok(count),
        }
    }

    /// Fail because of these images, or warn of them.
    fn judge(&mut self, bad: Vec<PhotoError>) -> Result<(), Failure> {
        if self.flags.skip_bad_images {
            let mut warnings = Warnings::default();
            for error in &bad {
                warnings.add("skipped", error);
            }
            return self.warner.tell(&warnings);
        }
        let errors: Vec<String> = bad.iter().map(PhotoError::to_string).collect();
        match errors.len() {
            0 => Ok(()),
            _ => Err(errors.join("; ").into()),
        }
    }
}
