//! A file that says which folder holds which class.

use std::{collections::HashMap, io::Read, path::Path};

use serde_json::Value;

use super::failure::Failure;
use crate::readable;

/// Classes by name.
pub(super) type ClassMap = HashMap<String, usize>;

/// Read a class map. `label` finds the class of a label.
///
/// JSON is an object from folders to class numbers or labels, an object from class numbers to folders (or
/// lists that begin with them), or a list of folders in the order of the classes. Otherwise it is text with a
/// line for each folder that ends with the class number after a space, tab or comma; or that begins with the
/// folder, in the order of the classes.
pub(super) fn read(
    path: &Path,
    classes: usize,
    label: impl Fn(&str) -> Option<usize>,
) -> Result<ClassMap, Failure> {
    let wrong = |expected: &str, got: &str| {
        let path = path.display();
        Failure::from(format!("{path}: expected {expected}, got {got}"))
    };
    let mut text = String::new();
    let read = readable::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| wrong("a class map", &format!("an error: {error}")))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let map = match text.starts_with(['{', '[']) {
        true => {
            let json: Result<Value, _> = serde_json::from_str(text);
            let json = json.map_err(|error| wrong("JSON", &error.to_string()))?;
            from_json(&json, label)
                .map_err(|got| wrong("folders and numbers or labels of classes", &got))?
        }
        false => from_text(text),
    };
    match map.iter().find(|(_, class)| **class >= classes) {
        Some((name, class)) => Err(wrong(
            &format!("class numbers below {classes}"),
            &format!("{class} for `{name}`"),
        )),
        None => Ok(map),
    }
}

fn from_json(json: &Value, label: impl Fn(&str) -> Option<usize>) -> Result<ClassMap, String> {
    let class = |key: &str, value: &Value| match (value, key.parse()) {
        (Value::Number(number), _) => {
            let class = number
                .as_u64()
                .and_then(|class| usize::try_from(class).ok());
            Some((key.to_string(), class?))
        }
        (Value::String(folder), Ok(class)) => Some((folder.clone(), class)),
        (Value::Array(names), Ok(class)) => Some((names.first()?.as_str()?.to_string(), class)),
        (Value::String(name), Err(_)) => Some((key.to_string(), label(name)?)),
        _ => None,
    };
    match json {
        Value::Object(entries) => {
            let entries = entries.iter();
            let pair = |(key, value): (&String, &Value)| {
                class(key, value).ok_or_else(|| format!("`{key}`: {value}"))
            };
            entries.map(pair).collect()
        }
        Value::Array(names) => {
            let pair = |(class, name): (usize, &Value)| {
                let name = name.as_str().ok_or_else(|| name.to_string())?;
                Ok((name.to_string(), class))
            };
            names.iter().enumerate().map(pair).collect()
        }
        other => Err(other.to_string()),
    }
}

fn from_text(text: &str) -> ClassMap {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pair = |line: &str| {
        let (name, class) = line.rsplit_once(['\t', ',', ' '])?;
        let name = name.trim_end_matches(['\t', ',', ' ']);
        Some((name.to_string(), class.parse().ok()?))
    };
    let pairs: Option<ClassMap> = lines().map(pair).collect();
    pairs.unwrap_or_else(|| {
        let mut map = ClassMap::new();
        for (class, line) in lines().enumerate() {
            let first = line.split(['\t', ',', ' ']).next().unwrap_or(line);
            map.entry(first.into()).or_insert(class);
        }
        // The name of a folder may have a space.
        map.extend(
            lines()
                .enumerate()
                .map(|(class, line)| (line.into(), class)),
        );
        map
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_maps_of_all_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let label = |name: &str| ["hen", "crane"].iter().position(|label| *label == name);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path, 2, label)
        };
        for text in [
            r#"{"a": 1, "b c": 0}"#,
            r#"{"a": "crane", "b c": "hen"}"#,
            r#"{"1": "a", "0": "b c"}"#,
            r#"{"1": ["a", "crane"], "0": ["b c"]}"#,
            "\u{feff}[\"b c\", \"a\"]",
            "b c\na\n",
            "a 1\nb c 0",
            "a\t1\r\nb c\t0\r\n",
            "a, 1\nb c, 0",
        ] {
            let map = read(text).unwrap();
            assert_eq!((map["a"], map["b c"]), (1, 0), "{text}");
        }
        assert_eq!(read("n2 hen\nn1 crane, bird").unwrap()["n1"], 1);
        for (text, words) in [
            (r#"{"a": 2}"#, "below 2, got 2 for `a`"),
            (r#"{"a": "owl"}"#, "owl"),
            ("[1]", "got 1"),
            ("{", "JSON"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
