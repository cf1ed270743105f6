//! A safetensors file taken apart, so that tests can spoil it and put it together again.

use std::collections::{BTreeMap, HashMap};

use noisyquant_vit::embedded;
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
        let bytes = embedded::WEIGHTS;
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
            metadata: header.metadata().clone().unwrap(),
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
        self.tensors.get_mut(name).unwrap()
    }
}
