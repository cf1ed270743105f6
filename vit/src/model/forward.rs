//! The forward pass.

use std::time::Duration;

use super::{
    memory::Workspace,
    operation::Operation,
    run::{Observed, Observer, Output, Run, Timer},
    transformer::{Body, Model},
};
use crate::{config::Config, error::Error};

/// Images run together until they have so many rows: enough for all threads, and few enough for their
/// intermediate results to stay in the caches. Eight images of a ViT-S/14 take 23.4 ms each at once on two
/// threads, 21 one after the other, and 20.5 with an image on each thread.
const FEW_ROWS: usize = 256;

impl Model {
    /// Run normalised images `[n, channels, height, width]`, a few at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if the lengths do not fit together or exceed the workspace,
    /// [`Error::Workspace`] if that was made for a model of other sizes, [`Error::Layer`] if a
    /// quantized layer refuses its input.
    pub fn forward(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace<'_>,
    ) -> Result<(), Error> {
        self.check_sizes(images, output, workspace)?;
        let Config { classes, .. } = self.config;
        let together = FEW_ROWS.div_ceil(self.rows_per_image()).max(1);
        let part = |numbers: usize, each: usize, at: usize| {
            let end = numbers.min((at + 1) * together * each);
            (at * together * each).min(end)..end
        };
        for (at, images) in images.chunks(together * self.config.pixels()).enumerate() {
            let features = part(output.features.len(), self.config.features(), at);
            let logits = part(output.logits.len(), classes, at);
            let output = &mut Output {
                features: &mut output.features[features],
                logits: &mut output.logits[logits],
            };
            self.pass(images, output, workspace, None, None)?;
        }
        Ok(())
    }

    /// [`Model::forward`], all images at once, that shows `observe` the input and output rows of each
    /// linear layer: of all tokens, also in the last block of a ViT, where [`Model::forward`] computes only
    /// those that are needed after it.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`].
    pub fn forward_observed(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace<'_>,
        observe: &mut (dyn FnMut(Observed<'_>) + Send),
    ) -> Result<(), Error> {
        self.pass(images, output, workspace, Some(observe), None)
    }

    /// [`Model::forward`], all images at once, that tells `timer` how long each part took.
    ///
    /// # Errors
    ///
    /// As [`Model::forward`].
    pub fn forward_timed(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace<'_>,
        timer: &mut (dyn FnMut(Operation, Duration) + Send),
    ) -> Result<(), Error> {
        self.pass(images, output, workspace, None, Some(timer))
    }

    fn pass<'h>(
        &self,
        images: &[f32],
        output: &mut Output<'_>,
        workspace: &mut Workspace<'_>,
        observe: Option<Observer<'h>>,
        timer: Option<Timer<'h>>,
    ) -> Result<(), Error> {
        let count = self.check_sizes(images, output, workspace)?;
        let (mut buffers, scratch) = workspace.cut();
        let buffers = &mut buffers;
        let arithmetic = self.arithmetic().map_err(|source| Error::Layer {
            layer: "attention".into(),
            source,
        })?;
        let mut run = Run::new(
            &self.layers,
            &self.mlps,
            arithmetic,
            scratch,
            observe,
            timer,
        );
        match &*self.body {
            Body::Vit(vit) => {
                let logits = !output.logits.is_empty();
                vit.forward(&self.config, images, count, logits, buffers, &mut run)?;
            }
            Body::Swin(swin) => swin.forward(&self.config, images, count, buffers, &mut run)?,
        }
        let features = &buffers.features[..count * self.config.features()];
        if !output.features.is_empty() {
            output.features.copy_from_slice(features);
        }
        if output.logits.is_empty() {
            return Ok(());
        }
        match &*self.body {
            Body::Vit(vit) => vit.head(&self.config, count, buffers, output.logits, &mut run),
            Body::Swin(swin) => swin.head(&self.config, count, buffers, output.logits, &mut run),
        }
    }

    /// The number of images, if the slices hold whole images and fit each other and the workspace.
    fn check_sizes(
        &self,
        images: &[f32],
        output: &Output<'_>,
        workspace: &Workspace<'_>,
    ) -> Result<usize, Error> {
        let pixels = self.config.pixels();
        let require = |holds: bool, what, expected: &dyn Fn() -> String, got| match holds {
            true => Ok(()),
            false => Err(Error::Size {
                what,
                expected: expected(),
                got,
            }),
        };
        if !workspace.config.same_sizes(&self.config) {
            let (expected, got) = (self.config.to_string(), workspace.config.to_string());
            return Err(Error::Workspace { expected, got });
        }
        let count = images.len() / pixels;
        let whole = images.len().is_multiple_of(pixels);
        let multiple = || format!("a multiple of {pixels}");
        require(whole, "numbers in the images", &multiple, images.len())?;
        let most = || format!("at most the workspace's {}", workspace.max_images);
        let fits = count <= workspace.max_images;
        require(fits, "number of images", &most, count)?;
        for (what, length, each) in [
            (
                "numbers in the features",
                output.features.len(),
                self.config.features(),
            ),
            (
                "numbers in the logits",
                output.logits.len(),
                self.config.classes,
            ),
        ] {
            let expected = || format!("{count} × {each}, or none");
            require(
                length == 0 || length == count * each,
                what,
                &expected,
                length,
            )?;
        }
        Ok(count)
    }
}
