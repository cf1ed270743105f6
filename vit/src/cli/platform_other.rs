//! What output files need of a system that is no Unix.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::Path,
};

use tempfile::Builder;

/// They are as usual where there is no umask.
pub(super) fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut Builder<'a, 'b>,
) -> &'c mut Builder<'a, 'b> {
    builder
}

/// Give `file` the permissions of another.
pub(super) fn give(file: &File, other: &Metadata) -> io::Result<()> {
    file.set_permissions(other.permissions())
}

/// Whether two paths lead to the same file.
pub(super) fn is_same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(a).is_some_and(|a| Some(a) == real(b))
}

/// Open to write.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}
