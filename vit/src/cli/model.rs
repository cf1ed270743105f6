//! Opening models for commands.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{failure::Failure, memory, overrides::OverrideFlags, warner::Warner};
use crate::{
    checkpoint::Files, config::Preprocess, model::Model, store::OpenOptions, warning::Warnings,
};

/// The model at `path`, after telling what was guessed of it.
pub(super) fn open(
    path: &Path,
    options: &OpenOptions,
    warner: &mut Warner,
) -> Result<Model, Failure> {
    open_timed(path, options, warner, &mut Duration::default())
}

/// [`open`], and how long the quantized layers took to be packed.
pub(super) fn open_timed(
    path: &Path,
    options: &OpenOptions,
    warner: &mut Warner,
    packing: &mut Duration,
) -> Result<Model, Failure> {
    memory::require_model(path)?;
    let model = Model::open_timed(path, options, packing)?;
    warner.tell(model.warnings())?;
    Ok(model)
}

/// The float model at `path`.
pub(super) fn float(
    path: &Path,
    overrides: &OverrideFlags,
    warner: &mut Warner,
) -> Result<Model, Failure> {
    float_with(path, &overrides.options(), warner)
}

fn float_with(path: &Path, options: &OpenOptions, warner: &mut Warner) -> Result<Model, Failure> {
    let model = open(path, options, warner)?;
    match model.is_quantized() {
        false => Ok(model),
        true => Err(format!(
            "{}: expected a float checkpoint, got a quantized model",
            path.display()
        )
        .into()),
    }
}

/// The quantized model at `path`, whose warnings the caller has told or will tell.
pub(super) fn quantized(path: &Path, options: &OpenOptions) -> Result<Model, Failure> {
    memory::require_model(path)?;
    let model = Model::open(path, options)?;
    match model.is_quantized() {
        true => Ok(model),
        false => Err(format!(
            "{}: expected a quantized model, got a float checkpoint",
            path.display()
        )
        .into()),
    }
}

/// A float model and the quantized model that was made of it. Inputs for both are made as the quantized file
/// says, or flags.
pub(super) fn pair(
    checkpoint: &Path,
    quantized_path: &Path,
    flags: &OverrideFlags,
    warner: &mut Warner,
) -> Result<(Model, Model), Failure> {
    let quantized = quantized(quantized_path, &flags.of_inputs())?;
    warner.tell(quantized.warnings())?;
    // What the quantized file says need not be guessed of the checkpoint.
    let Preprocess {
        mean,
        std,
        resize,
        interpolation,
        ..
    } = &quantized.config().preprocess;
    let mut options = flags.options();
    let overrides = &mut options.overrides;
    overrides.mean = Some(mean.clone());
    overrides.std = Some(std.clone());
    overrides.resize = Some(*resize);
    overrides.interpolation = Some(*interpolation);
    let float = match float_with(checkpoint, &options, warner) {
        Ok(float) => float,
        // It may be another model, for which they are wrong. The comparison says so.
        Err(_) => float(checkpoint, flags, warner)?,
    };
    if quantized.origin().is_none() {
        let mut warnings = Warnings::default();
        let text = "expected it to say which checkpoint it was made of, got nothing; assumed";
        let what = quantized_path.display().to_string();
        warnings.add(&what, format!("{text} {}", checkpoint.display()));
        warner.tell(&warnings)?;
    }
    Ok((float, quantized))
}

/// The files of a checkpoint; none of a pipe, which can be opened but once.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    match path.is_file() || path.is_dir() {
        true => Ok(Files::open(path)?.paths()),
        false => Ok(Vec::new()),
    }
}

/// A failure if an output of the model for this image is not finite.
pub(super) fn require_finite<'a>(
    image: &Path,
    outputs: impl IntoIterator<Item = &'a f32>,
) -> Result<(), Failure> {
    match outputs.into_iter().find(|output| !output.is_finite()) {
        Some(got) => {
            let image = image.display();
            Err(format!("image {image}: expected finite outputs of the model, got {got}").into())
        }
        None => Ok(()),
    }
}

/// A failure if the model cannot say what is in an image.
pub(super) fn require_head(model: &Model, path: &Path) -> Result<(), Failure> {
    match model.config().classes {
        0 => Err(format!(
            "{}: expected a model with a head, got one of features only",
            path.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// What class `class` is called.
pub(super) fn label(model: &Model, class: usize) -> String {
    match model.config().label(class) {
        Some(label) => label.into(),
        None => format!("class {class}"),
    }
}
