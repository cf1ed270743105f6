//! Results on stdout.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
};

use serde::Serialize;

use super::failure::Failure;

/// Print `value` as JSON, or else `text`.
pub(super) fn result(
    json: bool,
    value: &impl Serialize,
    text: &impl Display,
) -> Result<(), Failure> {
    match json {
        true => whole(&(serde_json::to_string_pretty(value)? + "\n")),
        false => whole(&text.to_string()),
    }
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
