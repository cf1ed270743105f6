//! Results on stdout.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
};

use serde::Serialize;

use super::failure::Failure;
use crate::warning::Warnings;

/// A result as JSON, with what was assumed on the way to it.
#[derive(Serialize)]
struct Warned<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    warnings: &'a Warnings,
}

/// Print `value` and `warnings` as one JSON object, or else `text`.
pub(super) fn result(
    json: bool,
    value: &impl Serialize,
    text: &impl Display,
    warnings: &Warnings,
) -> Result<(), Failure> {
    match json {
        true => json_document(&Warned { value, warnings }),
        false => whole(&text.to_string()),
    }
}

/// Print `value` as JSON.
pub(super) fn json_document(value: &impl Serialize) -> Result<(), Failure> {
    whole(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Print `rows` as JSON, one line each.
pub(super) fn json_lines(rows: &[impl Serialize]) -> Result<(), Failure> {
    let lines: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
    whole(&(lines?.join("\n") + "\n"))
}

/// Print `text`, all of it.
pub(super) fn whole(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        // A reader like `head` that has seen enough is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written
            .map_err(|error| format!("standard output: expected to write, got: {error}").into()),
    }
}
