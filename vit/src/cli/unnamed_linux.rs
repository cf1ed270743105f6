//! Files without a name, of which the system leaves nothing when the program ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

/// A new file in `folder`, with the permissions that the user's umask leaves; none where the file system has
/// no such files, or they could not be given a name.
pub(super) fn create(folder: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o666)
        .custom_flags(OFlags::TMPFILE.bits().cast_signed())
        .open(folder)
        .ok()?;
    entry(&file).exists().then_some(file)
}

/// Give `file` a name.
pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(linkat(
        CWD,
        entry(file),
        CWD,
        path,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// What the system calls an open file.
fn entry(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
