//! JSON files as Python's libraries read them, and their entries by name.

use std::{fmt::Debug, path::Path};

use serde_json::{Map, Value};

use super::foreign::recognise;
use crate::error::Error;

/// The entries of a JSON object. Those that are `null` count as absent.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    /// The file, and the entry in it that holds these, such as `config.json` and `model_args.`.
    file: String,
    within: String,
    map: Map<String, Value>,
}

impl Entries {
    /// Read the object in a JSON file. A byte order mark is passed over, and NaN and infinities, which
    /// Python writes, are read as texts, so that only who needs such an entry refuses it.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::open(path, source))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let wrong = |source| match recognise(text.as_bytes()) {
            Some(format) => {
                let (expected, got) = ("JSON", format.into());
                Error::Format { expected, got }.at(path)
            }
            None => Error::Json {
                what: path.display().to_string(),
                source,
            },
        };
        let map = serde_json::from_str(&quote_non_finite(text)).map_err(wrong)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            file: name.to_string_lossy().into_owned(),
            within: String::new(),
            map,
        })
    }

    /// Names of the entries that are there.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = self.map.iter().filter(|(_, value)| !value.is_null());
        entries.map(|(key, _)| key.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The entries of the object `key`; none if it is absent.
    pub(crate) fn object(&self, key: &str) -> Result<Self, Error> {
        let map = self.of(key, "an object", |value| value.as_object().cloned())?;
        Ok(Self {
            file: self.file.clone(),
            within: format!("{}{key}.", self.within),
            map: map.unwrap_or_default(),
        })
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        self.of(key, "a text", |value| value.as_str().map(String::from))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.of(key, "true or false", Value::as_bool)
    }

    /// A whole number of at least 0, which may be written `3.0`.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, Error> {
        self.of(key, "a whole number", count)
    }

    /// One whole number, or several.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>, Error> {
        self.of(key, "a whole number or several", |value| match value {
            Value::Array(values) => values.iter().map(count).collect(),
            value => count(value).map(|count| vec![count]),
        })
    }

    /// One whole number, or several that are all the same.
    pub(crate) fn square(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(sides) = self.counts(key)? else {
            return Ok(None);
        };
        match sides.first() {
            Some(first) if sides.iter().all(|side| side == first) => Ok(Some(*first)),
            _ => Err(self.wrong(key, "a square", format!("{sides:?}"))),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.of(key, "a number", Value::as_f64)
    }

    /// One number, or several.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        let number = |value: &Value| value.as_f64().map(|number| number as f32);
        self.of(key, "a number or several", |value| match value {
            Value::Array(values) => values.iter().map(number).collect(),
            value => number(value).map(|number| vec![number]),
        })
    }

    /// What entry `key` is, or an error that says what was expected.
    fn of<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(key, expected, short(value))),
        }
    }

    /// Refuse an entry, if it is there, that is not what the tensors are.
    pub(crate) fn agree<T: PartialEq + Debug>(
        &self,
        key: &str,
        stated: Option<T>,
        found: T,
    ) -> Result<(), Error> {
        match stated {
            Some(stated) if stated != found => {
                let expected = format!("{found:?}, as in the tensors");
                Err(self.wrong(key, &expected, format!("{stated:?}")))
            }
            _ => Ok(()),
        }
    }

    /// The file and the entry `key` in it.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{} `{}{key}`", self.file, self.within)
    }

    /// The error of an entry that is not as `expected`.
    pub(crate) fn wrong(&self, key: &str, expected: &str, got: String) -> Error {
        Error::Setting {
            what: self.name(key),
            expected: expected.into(),
            got,
        }
    }

    /// The error of an entry that is there and not as `expected`.
    pub(crate) fn refuse(&self, key: &str, expected: &str) -> Error {
        self.wrong(key, expected, self.get(key).map_or("none".into(), short))
    }
}

/// A value on one line, cut off where it is long.
fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::String(text) => format!("`{text}`"),
        value => value.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

fn count(value: &Value) -> Option<usize> {
    /// Beyond it, neighbouring floats are more than one apart.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let whole = |number: f64| number.fract() == 0.0 && (0.0..=MOST).contains(&number);
    match value.as_u64() {
        Some(count) => usize::try_from(count).ok(),
        None => value
            .as_f64()
            .filter(|number| whole(*number))
            .map(|number| number as usize),
    }
}

/// JSON with the words NaN, Infinity and -Infinity, where they are no part of a text, in quotes.
fn quote_non_finite(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        quoted.push_str(&rest[..at]);
        rest = &rest[at..];
        let word = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        let end = match word {
            Some(word) => {
                quoted.push_str(&format!("\"{word}\""));
                rest = &rest[word.len()..];
                continue;
            }
            None if rest.starts_with('"') => end_of_text(rest),
            None => 1,
        };
        quoted.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    quoted + rest
}

/// Bytes of the JSON text, quotes included, that `rest` begins with.
fn end_of_text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            byte => escaped = byte == b'\\' && !escaped,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_are_quoted_where_they_are_numbers() {
        for (text, expected) in [
            (r#"{"a": NaN}"#, r#"{"a": "NaN"}"#),
            (
                r#"[-Infinity, Infinity, -1]"#,
                r#"["-Infinity", "Infinity", -1]"#,
            ),
            (
                r#"{"NaN": "Infinity \" NaN \\"}"#,
                r#"{"NaN": "Infinity \" NaN \\"}"#,
            ),
            (r#"{"open: NaN"#, r#"{"open: NaN"#),
            ("é\"Né\" NaN", "é\"Né\" \"NaN\""),
        ] {
            assert_eq!(quote_non_finite(text), expected);
        }
    }

    #[test]
    fn counts_may_be_written_as_floats() {
        let read = |text: &str| count(&serde_json::from_str(text).unwrap());
        assert_eq!(read("3.0"), Some(3));
        assert_eq!(read("0"), Some(0));
        for wrong in ["3.5", "-1", "1e300", "\"3\"", "true", "-0.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
