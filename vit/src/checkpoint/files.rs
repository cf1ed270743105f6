//! Checkpoints on disk: one safetensors file, a folder, or shards named by an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{bytes::Bytes, tensors::Tensors};
use crate::error::Error;

const INDEX: &str = "model.safetensors.index.json";
const MODEL: &str = "model.safetensors";

/// The files of a checkpoint: open shards, and the JSON files beside them.
pub(crate) struct Files {
    shards: Vec<(PathBuf, Bytes)>,
    folder: PathBuf,
}

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    /// Open what `path` names: a safetensors file, an index of shards, or a folder that holds one of
    /// these.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = match path.is_dir() {
            true => in_folder(path)?,
            false => path.to_path_buf(),
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let shards = match path.extension() {
            Some(extension) if extension == "json" => shards_of(&path, &folder)?,
            _ => vec![path],
        };
        let shards = shards.into_iter().map(|path| {
            let bytes = Bytes::open(&path)?;
            Ok((path, bytes))
        });
        Ok(Self {
            shards: shards.collect::<Result<_, Error>>()?,
            folder,
        })
    }

    /// The tensors of all shards.
    pub(crate) fn tensors(&self) -> Result<Tensors<'_>, Error> {
        let mut tensors = Tensors::default();
        for (path, bytes) in &self.shards {
            tensors.add(bytes.view()).map_err(|error| error.at(path))?;
        }
        Ok(tensors)
    }

    /// Bytes of all shards.
    pub(crate) fn bytes(&self) -> u64 {
        let lengths = self
            .shards
            .iter()
            .map(|(_, bytes)| bytes.view().len() as u64);
        lengths.sum()
    }

    /// The JSON file `name` beside the shards, if there is one.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.folder.join(name);
        match path.is_file() {
            true => read_json(&path).map(Some),
            false => Ok(None),
        }
    }
}

/// The file to open in a folder.
fn in_folder(folder: &Path) -> Result<PathBuf, Error> {
    for name in [INDEX, MODEL] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = folder
        .read_dir()
        .map_err(|source| Error::open(folder, source))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        })
        .collect();
    match (files.pop(), files.len()) {
        (Some(path), 0) => Ok(path),
        (last, rest) => Err(Error::Setting {
            what: format!("folder {}", folder.display()),
            expected: format!("{INDEX}, {MODEL} or a single safetensors file"),
            got: match rest + usize::from(last.is_some()) {
                0 => "none of them".into(),
                count => format!("{count} safetensors files"),
            },
        }),
    }
}

/// The shards that an index names, each once.
fn shards_of(index: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let Index { weight_map } = read_json(index)?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    let shards = names.into_iter().map(|name| {
        match Path::new(&name)
            .file_name()
            .is_some_and(|file| *file == *name)
        {
            true => Ok(folder.join(name)),
            false => Err(Error::Setting {
                what: format!("{}: shard", index.display()),
                expected: "the name of a file in the same folder".into(),
                got: format!("`{name}`"),
            }),
        }
    });
    shards.collect()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::open(path, source))?;
    serde_json::from_str(&text).map_err(|source| {
        let what = path.display().to_string();
        Error::Json { what, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::embedded;

    #[test]
    fn a_file_that_becomes_shorter_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MODEL);
        std::fs::write(&path, embedded::WEIGHTS).unwrap();
        let files = Files::open(folder.path()).unwrap();
        let mut tensors = files.tensors().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(embedded::WEIGHTS.len() as u64 / 2).unwrap();
        // What is there still is read, and the rest is not made up.
        let names: Vec<String> = tensors.names().map(String::from).collect();
        let mut lost = 0;
        for name in names.iter().filter(|name| name.contains("norm1.bias")) {
            let shape: [usize; 1] = tensors.shape(name, "[width]").unwrap();
            match tensors.take_f32(name, &shape) {
                Ok(values) => assert_eq!(values.len(), shape[0]),
                Err(error) => {
                    assert!(matches!(error, Error::Read { .. }), "{error}");
                    assert!(error.to_string().contains(name.as_str()), "{error}");
                    lost += 1;
                }
            }
        }
        assert!(lost > 0, "{names:?}");
        assert!(tensors.files()[0].whole().is_err());
    }
}
