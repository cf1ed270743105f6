//! What the environment asks for.

use alloc::string::String;
use std::env::{self, VarError};

/// The instruction set that `NOISYQUANT_ISA` names, if it is set; a name that is not Unicode is given
/// as it can be shown.
pub(super) fn isa() -> Option<String> {
    match env::var("NOISYQUANT_ISA") {
        Ok(name) => Some(name).filter(|name| !name.is_empty()),
        Err(VarError::NotUnicode(name)) => Some(name.to_string_lossy().into_owned()),
        Err(VarError::NotPresent) => None,
    }
}
