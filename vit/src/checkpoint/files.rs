//! Checkpoints on disk: one safetensors file, a folder, or shards named by an index.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{bytes::Bytes, json::Entries, tensors::Tensors};
use crate::{error::Error, warning::Warnings};

const INDEX: &str = "model.safetensors.index.json";
const MODEL: &str = "model.safetensors";
/// Most file names in an error.
const NAMED: usize = 3;

/// The files of a checkpoint: open shards, and the JSON files beside them.
pub(crate) struct Files {
    shards: Vec<(PathBuf, Bytes)>,
    folder: PathBuf,
    warnings: Warnings,
}

impl Files {
    /// Open what `path` names: a safetensors file, an index of shards, or a folder that holds one of
    /// these.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut warnings = Warnings::default();
        let path = match path.is_dir() {
            true => in_folder(path, &mut warnings)?,
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
            warnings,
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

    /// The shards, and the other files beside them that are read.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let beside = [INDEX, "config.json", "preprocessor_config.json"];
        let beside = beside.map(|name| self.folder.join(name));
        let shards = self.shards.iter().map(|(path, _)| path.clone());
        shards
            .chain(beside.into_iter().filter(|path| path.is_file()))
            .collect()
    }

    /// Bytes of all shards.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|(_, bytes)| bytes.view().len() as u64)
            .sum()
    }

    /// What was passed over to find these files.
    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The JSON file `name` beside the shards, if there is one.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Entries>, Error> {
        let path = self.folder.join(name);
        match path.is_file() {
            true => Entries::read(&path).map(Some),
            false => Ok(None),
        }
    }
}

/// The file to open in a folder; as transformers does, a whole model before shards.
fn in_folder(folder: &Path, warnings: &mut Warnings) -> Result<PathBuf, Error> {
    let (model, index) = (folder.join(MODEL), folder.join(INDEX));
    if model.is_file() {
        let same = || shards_of(&index, folder).is_ok_and(|shards| shards == [model.clone()]);
        if index.is_file() && !same() {
            let text = format!("expected this or {MODEL}, got both; passed over");
            warnings.add(&index.display().to_string(), text);
        }
        return Ok(model);
    }
    if index.is_file() {
        return Ok(index);
    }
    let entries = folder.read_dir();
    let entries = entries.map_err(|source| Error::open(folder, source))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    let has = |path: &Path, extensions: &[&str]| {
        let extension = path.extension().unwrap_or_default();
        extensions.iter().any(|known| extension == *known)
    };
    let mut files = paths.iter().filter(|path| has(path, &["safetensors"]));
    match (files.next(), files.count()) {
        (Some(path), 0) => Ok(path.clone()),
        (first, rest) => Err(Error::Setting {
            what: format!("folder {}", folder.display()),
            expected: format!("{MODEL}, {INDEX} or a single safetensors file"),
            got: match first {
                Some(_) => format!("{} safetensors files", 1 + rest),
                None => {
                    let others = [
                        "bin", "pth", "pt", "ckpt", "onnx", "gguf", "h5", "msgpack", "npz",
                    ];
                    let others = paths.iter().filter(|path| has(path, &others));
                    let names = others
                        .filter_map(|path| path.file_name()?.to_str())
                        .take(NAMED);
                    let names: Vec<&str> = names.collect();
                    match names.is_empty() {
                        true => "none of them".into(),
                        false => format!("none of them, but {}", names.join(", ")),
                    }
                }
            },
        }),
    }
}

/// The shards that an index names, each once.
fn shards_of(index: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let of_tensors = Entries::read(index)?.object("weight_map")?;
    let mut names = BTreeSet::new();
    for tensor in of_tensors.keys() {
        names.extend(of_tensors.text(tensor)?);
    }
    if names.is_empty() {
        return Err(Error::Setting {
            what: index.display().to_string(),
            expected: "`weight_map`, names of shards by tensor".into(),
            got: "none".into(),
        });
    }
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
    }
}
