//! The bytes of a safetensors file, in memory or read from the file as they are needed.
//!
//! A file is not mapped: one that becomes shorter while it is mapped ends the process (SIGBUS), and some file
//! systems refuse. A tensor that is read goes straight to where it is used.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use safetensors::{SafeTensorError, tensor::Metadata};

use crate::{error::Error, readable};

/// What the length of a header takes at the start of a file.
const LENGTH: usize = size_of::<u64>();

/// The longest header that safetensors reads.
const MAX_HEADER: usize = 100_000_000;

/// A safetensors file that is open.
pub(crate) enum Bytes {
    Memory(Vec<u8>),
    File { file: File, length: usize },
}

impl Bytes {
    /// Open the file at `path`. A pipe is read to its end.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let wrap = |source| Error::open(path, source);
        let mut file = readable::open(path).map_err(wrap)?;
        let found = file.metadata().map_err(wrap)?;
        // Files that are made up as they are read have no length.
        if !found.is_file() || found.len() == 0 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(wrap)?;
            return Ok(Self::Memory(bytes));
        }
        let too_large = |_| wrap(io::ErrorKind::FileTooLarge.into());
        let length = usize::try_from(found.len()).map_err(too_large)?;
        Ok(Self::File { file, length })
    }

    /// What to read from.
    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::Memory(bytes) => View::Memory(bytes),
            Self::File { file, length } => View::File(file, *length),
        }
    }
}

/// Somebody's [`Bytes`], or bytes in memory.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    Memory(&'a [u8]),
    File(&'a File, usize),
}

impl View<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(_, length) => length,
        }
    }

    /// Fill `to` with what stands from byte `from` on.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub(crate) fn read(self, from: usize, to: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let found = bytes.get(from..).and_then(|bytes| bytes.get(..to.len()));
                to.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(mut file, _) => {
                file.seek(SeekFrom::Start(from as u64))?;
                file.read_exact(to)
            }
        }
    }

    /// The header, checked against itself and the length of the file, and where the tensors' bytes start.
    pub(crate) fn header(self) -> Result<(Metadata, usize), Error> {
        let wrap = |source| Error::File {
            length: self.len(),
            source,
        };
        let unreadable = |error: io::Error| wrap(SafeTensorError::IoError(error));
        let mut length = [0; LENGTH];
        if self.len() < LENGTH {
            return Err(wrap(SafeTensorError::HeaderTooSmall));
        }
        self.read(0, &mut length).map_err(unreadable)?;
        let length = match usize::try_from(u64::from_le_bytes(length)) {
            Ok(length @ ..=MAX_HEADER) => length,
            _ => return Err(wrap(SafeTensorError::HeaderTooLarge)),
        };
        if length > self.len() - LENGTH {
            return Err(wrap(SafeTensorError::InvalidHeaderLength));
        }
        let mut text = vec![0; length];
        self.read(LENGTH, &mut text).map_err(unreadable)?;
        let text =
            str::from_utf8(&text).map_err(|error| wrap(SafeTensorError::InvalidHeader(error)))?;
        let header: Metadata = serde_json::from_str(text)
            .map_err(|error| wrap(SafeTensorError::InvalidHeaderDeserialization(error)))?;
        let start = LENGTH + length;
        match header.data_len() == self.len() - start {
            true => Ok((header, start)),
            false => Err(wrap(SafeTensorError::MetadataIncompleteBuffer)),
        }
    }
}

/// Where a tensor's bytes are.
pub(crate) struct Place<'a> {
    pub(crate) view: View<'a>,
    pub(crate) range: Range<usize>,
}

impl Place<'_> {
    /// Fill `to`, which is as long as the tensor.
    pub(crate) fn read(&self, to: &mut [u8]) -> io::Result<()> {
        debug_assert_eq!(to.len(), self.range.len());
        self.view.read(self.range.start, to)
    }
}
