//! What a command has to say beside its result: warnings on stderr, or a failure.

use std::io::Write;

use super::failure::Failure;
use crate::warning::Warnings;

/// Tells each warning once, on stderr; or fails with it if that was asked for.
pub(super) struct Warner {
    strict: bool,
    told: Warnings,
}

impl Warner {
    /// One that fails at the first warning if it is `strict`.
    pub(super) fn new(strict: bool) -> Self {
        let told = Warnings::default();
        Self { strict, told }
    }

    /// Tell those of `warnings` that were not told yet.
    pub(super) fn tell(&mut self, warnings: &Warnings) -> Result<(), Failure> {
        let new = self.told.extend(warnings);
        if self.strict && !new.is_empty() {
            return Err(format!("--strict: expected no warning, got: {new}").into());
        }
        // Nobody may be listening.
        let lines: String = new
            .iter()
            .map(|warning| format!("warning: {warning}\n"))
            .collect();
        let _ = std::io::stderr().write_all(lines.as_bytes());
        Ok(())
    }

    /// All that was told.
    pub(super) fn told(&self) -> &Warnings {
        &self.told
    }
}
