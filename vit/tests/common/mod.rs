//! A safetensors file taken apart, so that tests can spoil it and put it together again.

// Each test uses some of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};

use noisyquant_vit::{Model, embedded};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// A stored tensor.
#[derive(Clone)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// A file of tensors and metadata.
#[derive(Clone)]
pub struct File {
    pub tensors: BTreeMap<String, Stored>,
    pub metadata: HashMap<String, String>,
}

impl File {
    /// The embedded model.
    pub fn embedded() -> Self {
        Self::parse(embedded::WEIGHTS)
    }

    /// Any file.
    pub fn parse(bytes: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let store = |view: TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        };
        let tensors = SafeTensors::deserialize(bytes).unwrap().tensors();
        Self {
            tensors: tensors
                .into_iter()
                .map(|(name, view)| (name, store(view)))
                .collect(),
            metadata: header.metadata().clone().unwrap_or_default(),
        }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, stored)| {
            (
                name,
                TensorView::new(stored.dtype, stored.shape.clone(), &stored.data).unwrap(),
            )
        });
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    /// Tensor `name`, to be changed.
    pub fn tensor(&mut self, name: &str) -> &mut Stored {
        self.tensors
            .get_mut(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

impl Stored {
    /// Exchange the rows and columns of a square matrix.
    pub fn transpose(&mut self) {
        let [rows, columns] = self.shape[..] else {
            panic!("expected a matrix")
        };
        assert_eq!(rows, columns, "another shape would not load at all");
        let size = self.data.len() / (rows * columns);
        let numbers = self.data.clone();
        for (at, to) in self.data.chunks_exact_mut(size).enumerate() {
            let from = at % rows * columns + at / rows;
            to.copy_from_slice(&numbers[size * from..size * (from + 1)]);
        }
    }
}

/// The model with a part of its stored configuration replaced.
pub fn reconfigured(model: &Model, from: &str, to: &str) -> Model {
    let mut file = File::parse(&model.to_bytes().unwrap());
    let entry = file.metadata.get_mut("noisyquant_vit").unwrap();
    assert!(entry.contains(from), "{from} is not in {entry}");
    *entry = entry.replace(from, to);
    Model::from_safetensors(&file.bytes()).unwrap()
}
