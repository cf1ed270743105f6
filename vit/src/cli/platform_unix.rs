//! What output files need of a Unix system.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};
use tempfile::Builder;

/// What the user's umask leaves, where temporary files are for their owner alone.
pub(super) fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut Builder<'a, 'b>,
) -> &'c mut Builder<'a, 'b> {
    builder.permissions(Permissions::from_mode(0o666))
}

/// Give `file` the permissions of another, and its owner and group where the user may.
pub(super) fn give(file: &File, other: &Metadata) -> io::Result<()> {
    // Owners first, for a change of them takes some permissions away.
    let _ = fchown(file, Some(other.uid()), Some(other.gid()));
    file.set_permissions(other.permissions())
}

/// Whether two paths lead to the same file, which is not opened: a pipe would be waited for.
pub(super) fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| {
        fs::metadata(path)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    id(a).is_some_and(|a| Some(a) == id(b))
}

/// Open to write. A pipe that nobody reads is an error at once, where it would be waited for.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("a pipe that nobody reads"),
        _ => error,
    })
}
