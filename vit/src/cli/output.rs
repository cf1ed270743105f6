//! Output files that are there whole or not at all.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once},
};

use tempfile::{Builder, NamedTempFile};

use super::{failure::Failure, platform, signals, unnamed};

/// A file that appears under its name when it is complete. Until then its bytes are in a temporary
/// file in the same folder, which goes away on any failure and when the program is asked to end.
pub(super) struct OutputFile {
    target: PathBuf,
    place: Place,
}

enum Place {
    /// A file without a name, of which nothing is left however the program ends.
    Unnamed(File),
    /// To be renamed to the target, where files cannot be without a name.
    Temporary(NamedTempFile),
    /// The target itself, in a folder that takes no other files.
    Existing(File),
    /// A device or pipe, which has no content to protect and must not be replaced by a file.
    Device(File),
}

/// The temporary file to remove if the program is asked to end.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);
static HANDLER: Once = Once::new();

/// Exit status of a program that Ctrl-C ended, as shells give it.
const INTERRUPTED: i32 = 130;

/// Most links that are followed to a file that is not there yet.
const MOST_LINKS: usize = 40;

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    // A poisoned lock still holds the path.
    UNFINISHED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn end() {
    // The lock is kept, so that nothing is renamed while the program ends.
    let path = unfinished();
    if let Some(path) = path.as_ref() {
        let _ = fs::remove_file(path);
    }
    std::process::exit(INTERRUPTED);
}

impl OutputFile {
    /// Make sure that a file can be written at `target`, which is none of `inputs` by any path, before any
    /// long work is done for it.
    pub(super) fn create(target: &Path, inputs: &[PathBuf]) -> Result<Self, Failure> {
        let is_target = |input: &&PathBuf| platform::is_same_file(target, input);
        if let Some(input) = inputs.iter().find(is_target) {
            let (target, input) = (target.display(), input.display());
            return Err(format!(
                "{target}: expected an output that is no input, got the file that is read as {input}"
            )
            .into());
        }
        let failure = |error: io::Error| cannot_write(target, error);
        HANDLER.call_once(|| signals::on_end(end));
        let target = &followed(target).map_err(failure)?;
        let place = match fs::metadata(target) {
            Ok(metadata) if metadata.is_dir() => {
                let target = target.display();
                return Err(format!("{target}: expected a file to write, got a folder").into());
            }
            Ok(metadata) if !metadata.is_file() => Place::Device(device(target).map_err(failure)?),
            Ok(_) => match temporary(target) {
                Ok(place) => place,
                Err(error) => match OpenOptions::new().read(true).write(true).open(target) {
                    Ok(file) => Place::Existing(file),
                    Err(_) => return Err(failure(error)),
                },
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                temporary(target).map_err(failure)?
            }
            Err(error) => return Err(failure(error)),
        };
        let target = target.clone();
        Ok(Self { target, place })
    }

    /// Write `bytes` and give the file its name. Where it can have neither that name nor the place of the
    /// file that has it, it is left elsewhere, and the failure says where.
    pub(super) fn finish(self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { target, place } = self;
        let elsewhere = |error| keep_elsewhere(&target, bytes, error);
        match place {
            Place::Device(mut device) => device
                .write_all(bytes)
                .map_err(|error| cannot_write(&target, error)),
            Place::Existing(file) => overwrite(file, bytes).or_else(elsewhere),
            Place::Unnamed(mut file) => {
                match fill(&mut file, bytes).and_then(|()| like(&target, &file)) {
                    Ok(()) => {
                        let mut registered = unfinished();
                        let name = hidden(&target, |path| unnamed::link(&file, path));
                        match name {
                            Ok(named) => rename(named, &target, bytes, &mut registered),
                            Err(error) => in_place(&target, bytes, error).or_else(elsewhere),
                        }
                    }
                    Err(error) => elsewhere(error),
                }
            }
            Place::Temporary(mut named) => {
                let file = named.as_file_mut();
                match fill(file, bytes).and_then(|()| like(&target, file)) {
                    Ok(()) => rename(named, &target, bytes, &mut unfinished()),
                    Err(error) => elsewhere(error),
                }
            }
        }
    }
}

/// Where `target` leads: what a link points to is replaced, not the link, and made if it is not there.
fn followed(target: &Path) -> io::Result<PathBuf> {
    let mut path = target.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = folder(&path).join(next),
            // No link, or nothing there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A device, or a pipe that somebody reads.
fn device(target: &Path) -> io::Result<File> {
    let probe = platform::open_without_waiting(target)?;
    let device = OpenOptions::new().write(true).open(target)?;
    drop(probe);
    Ok(device)
}

/// A new file in the folder of `target`.
fn temporary(target: &Path) -> io::Result<Place> {
    if let Some(file) = unnamed::create(folder(target)) {
        return Ok(Place::Unnamed(file));
    }
    let mut registered = unfinished();
    let named = platform::with_usual_permissions(&mut Builder::new())
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .tempfile_in(folder(target))?;
    *registered = Some(named.path().into());
    Ok(Place::Temporary(named))
}

const PREFIX: &str = ".noisyquant-";
const SUFFIX: &str = ".part";

/// What `make` makes of a name that is not taken, in the folder of `target`.
fn hidden<T>(
    target: &Path,
    make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<NamedTempFile<T>> {
    Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .make_in(folder(target), make)
}

/// Write `bytes`, and read them again: what is to replace another file is there.
fn fill(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    file.rewind()?;
    let mut buffer = vec![0; 1 << 16];
    for written in bytes.chunks(buffer.len()) {
        let read = &mut buffer[..written.len()];
        file.read_exact(read)?;
        if read != written {
            return Err(io::Error::other("other bytes when it was read again"));
        }
    }
    Ok(())
}

/// Give `file` owner and permissions of what is at `target`, if anything is.
fn like(target: &Path, file: &File) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(metadata) => platform::give(file, &metadata),
        Err(_) => Ok(()),
    }
}

/// Give a complete file its name; or else what has the name its bytes, as with a file that is mounted alone.
fn rename<T>(
    named: NamedTempFile<T>,
    target: &Path,
    bytes: &[u8],
    registered: &mut Option<PathBuf>,
) -> Result<(), Failure> {
    *registered = None;
    let Err(refused) = named.persist(target) else {
        return Ok(());
    };
    in_place(target, bytes, refused.error).or_else(|error| {
        let beside = target.with_added_extension("new");
        match refused.file.persist_noclobber(&beside) {
            Ok(_) => Err(is_elsewhere(target, &error, &beside)),
            Err(refused) => {
                drop(refused);
                keep_elsewhere(target, bytes, error)
            }
        }
    })
}

/// Write into the file that is at `target` already. `error` is why it cannot be replaced.
fn in_place(target: &Path, bytes: &[u8], error: io::Error) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_file() => overwrite(
            OpenOptions::new().read(true).write(true).open(target)?,
            bytes,
        ),
        _ => Err(error),
    }
}

fn overwrite(mut file: File, bytes: &[u8]) -> io::Result<()> {
    fill(&mut file, bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Leave a result that took long where temporary files are, for it cannot be at `target`.
fn keep_elsewhere(target: &Path, bytes: &[u8], error: io::Error) -> Result<(), Failure> {
    let kept = || {
        let mut file = Builder::new()
            .prefix("noisyquant-")
            .tempfile_in(env::temp_dir())?;
        fill(file.as_file_mut(), bytes)?;
        Ok::<_, io::Error>(file.keep()?.1)
    };
    Err(match kept() {
        Ok(path) => is_elsewhere(target, &error, &path),
        Err(_) => cannot_write(target, error),
    })
}

fn is_elsewhere(target: &Path, error: &io::Error, path: &Path) -> Failure {
    let (target, path) = (target.display(), path.display());
    format!("{target}: expected to write the file, got: {error}; the result is in {path}").into()
}

fn cannot_write(target: &Path, error: io::Error) -> Failure {
    format!(
        "{}: expected to write the file, got: {error}",
        target.display()
    )
    .into()
}
