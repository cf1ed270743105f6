//! How commands fail.

/// Whatever stops a command: shown as one line.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
