//! What was assumed or passed over while a checkpoint or a folder was read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that was assumed because nothing states it, or that was passed over: `WHAT: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warning(String);

/// Warnings in the order in which they arose, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warnings(Vec<Warning>);

impl Warning {
    /// The setting, file or tensor that this is about.
    pub fn what(&self) -> &str {
        self.0.split_once(": ").map_or(&self.0, |(what, _)| what)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Warnings {
    /// The warnings.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.0.iter()
    }

    /// Whether nothing was assumed or passed over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Record that `what` is as `text` says, unless that is recorded already. Returns whether it is new.
    pub(crate) fn add(&mut self, what: &str, text: impl fmt::Display) -> bool {
        // One line, whatever is in a file's name.
        let line = format!("{what}: {text}").replace(['\n', '\r'], " ");
        self.insert(Warning(line))
    }

    /// Record that `what` is assumed to be `value`, which `flag` would say.
    pub(crate) fn assume(&mut self, what: &str, value: impl fmt::Display, flag: &str) {
        let text = format!("expected the checkpoint to state it, got nothing; assumed {value}");
        self.add(what, format!("{text} ({flag} says otherwise)"));
    }

    /// Record those of `others` that are not recorded already, and return them.
    pub(crate) fn extend(&mut self, others: &Self) -> Self {
        let new = others
            .iter()
            .filter(|warning| self.insert((*warning).clone()));
        Self(new.cloned().collect())
    }

    /// Forget what is about `what`, which is known now.
    pub(crate) fn forget(&mut self, what: &str) {
        self.0.retain(|warning| warning.what() != what);
    }

    fn insert(&mut self, warning: Warning) -> bool {
        let new = !self.0.contains(&warning);
        if new {
            self.0.push(warning);
        }
        new
    }
}

impl<'a> IntoIterator for &'a Warnings {
    type Item = &'a Warning;
    type IntoIter = std::slice::Iter<'a, Warning>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// All in one line.
impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, warning) in self.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_keep_their_order_and_are_there_once() {
        let mut warnings = Warnings::default();
        assert!(warnings.is_empty());
        assert!(warnings.add("b", "two"));
        assert!(warnings.add("a", "one"));
        assert!(!warnings.add("b", "two"));
        assert_eq!(warnings.to_string(), "b: two; a: one");
        let mut others = Warnings::default();
        others.add("a", "one");
        others.add("c", "three\nlines");
        assert_eq!(warnings.extend(&others).to_string(), "c: three lines");
        warnings.forget("a");
        assert_eq!(warnings.to_string(), "b: two; c: three lines");
        let json = serde_json::to_string(&warnings).unwrap();
        assert_eq!(json, r#"["b: two","c: three lines"]"#);
        assert_eq!(serde_json::from_str::<Warnings>(&json).unwrap(), warnings);
    }
}
