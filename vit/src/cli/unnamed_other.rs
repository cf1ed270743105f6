//! Files without a name, which only Linux can give one later.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

/// None, as there are none.
pub(super) fn create(_folder: &Path) -> Option<File> {
    None
}

/// An error, as there are none.
pub(super) fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
