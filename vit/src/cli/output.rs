//! Output files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once},
};

use tempfile::NamedTempFile;

use super::{failure::Failure, permissions::with_usual_permissions};

/// A file that appears under its name when it is complete. Until then its bytes are in a temporary
/// file in the same folder, which goes away on any failure and on Ctrl-C.
pub(super) struct OutputFile {
    target: PathBuf,
    place: Place,
}

enum Place {
    /// To be renamed to the target.
    Temporary(NamedTempFile),
    /// A device or pipe, which has no content to protect and must not be replaced by a file.
    Device(File),
}

/// The temporary file to remove if the program is interrupted.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);
static HANDLER: Once = Once::new();

/// Exit status of a program that Ctrl-C ended, as shells give it.
const INTERRUPTED: i32 = 130;

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    // A poisoned lock still holds the path.
    UNFINISHED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl OutputFile {
    /// Make sure that a file can be written at `target`, before any long work is done for it.
    pub(super) fn create(target: &Path) -> Result<Self, Failure> {
        let failure = |error: std::io::Error| cannot_write(target, error);
        let existing = fs::metadata(target).ok();
        if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(format!(
                "{}: expected a file to write, got a folder",
                target.display()
            )
            .into());
        }
        if existing
            .as_ref()
            .is_some_and(|metadata| !metadata.is_file())
        {
            let device = OpenOptions::new()
                .write(true)
                .open(target)
                .map_err(failure)?;
            let (target, place) = (target.into(), Place::Device(device));
            return Ok(Self { target, place });
        }
        // What a link points to is replaced, not the link.
        let target = match existing {
            Some(_) => fs::canonicalize(target).map_err(failure)?,
            None => target.to_path_buf(),
        };
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        HANDLER.call_once(|| {
            // Without a handler an interrupted run may leave its temporary file; it still works.
            let _ = ctrlc::set_handler(|| {
                // The lock is kept, so that nothing is renamed while the program ends.
                let path = unfinished();
                if let Some(path) = path.as_ref() {
                    let _ = fs::remove_file(path);
                }
                std::process::exit(INTERRUPTED);
            });
        });
        let mut registered = unfinished();
        let temporary = with_usual_permissions(&mut tempfile::Builder::new())
            .prefix(".noisyquant-")
            .suffix(".part")
            .tempfile_in(folder)
            .map_err(failure)?;
        *registered = Some(temporary.path().into());
        let place = Place::Temporary(temporary);
        Ok(Self { target, place })
    }

    /// Write `bytes` and give the file its name.
    pub(super) fn finish(self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { target, place } = self;
        let failure = |error: std::io::Error| cannot_write(&target, error);
        match place {
            Place::Device(mut device) => device.write_all(bytes).map_err(failure),
            Place::Temporary(mut temporary) => {
                let file = temporary.as_file_mut();
                file.write_all(bytes).map_err(failure)?;
                file.sync_all().map_err(failure)?;
                let mut registered = unfinished();
                temporary
                    .persist(&target)
                    .map_err(|error| failure(error.error))?;
                *registered = None;
                Ok(())
            }
        }
    }
}

fn cannot_write(target: &Path, error: std::io::Error) -> Failure {
    format!(
        "{}: expected to write the file, got: {error}",
        target.display()
    )
    .into()
}
