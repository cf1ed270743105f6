//! Opening models for commands.

use std::path::Path;

use super::{failure::Failure, overrides::OverrideFlags, warner::Warner};
use crate::{model::Model, store::OpenOptions};

/// The model at `path`, after telling what was assumed of it.
pub(super) fn open(
    path: &Path,
    options: &OpenOptions,
    warner: &mut Warner,
) -> Result<Model, Failure> {
    let model = Model::open(path, options)?;
    warner.tell(model.warnings())?;
    Ok(model)
}

/// The float model at `path`.
pub(super) fn float(
    path: &Path,
    overrides: &OverrideFlags,
    warner: &mut Warner,
) -> Result<Model, Failure> {
    let model = open(path, &overrides.options(), warner)?;
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
    match model.config().labels.get(class) {
        Some(label) => label.clone(),
        None => format!("class {class}"),
    }
}
