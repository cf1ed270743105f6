//! Opening what can be read to its end, and nothing that would be waited for.

use std::{
    fs::{self, File, FileType},
    io,
    path::Path,
};

/// Open a file, or a pipe that this process was given (`/dev/stdin`, `/dev/fd/63`).
///
/// # Errors
///
/// The system's; or one that names what there is instead: a folder, a device, a socket, or a named pipe, to
/// which nobody may ever write.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?.file_type();
    match found.is_file() || is_given(path) {
        true => File::open(path),
        false => Err(io::Error::other(format!(
            "{} instead of a file",
            name(found)
        ))),
    }
}

/// Whether this process holds what `path` names open already.
fn is_given(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd", "/proc/self/fd"]
        .iter()
        .any(|given| path.starts_with(given))
}

fn name(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a named pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
    }
    match found.is_dir() {
        true => "a folder",
        false => "something else",
    }
}
