//! Tensors of a model by their names, to be stored.

use noisyquant::Norm;

/// Name, shape and numbers.
pub(crate) type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

/// Both tensors of a norm.
pub(super) fn norm_tensors<'a>(name: &str, norm: &'a Norm) -> [NamedTensor<'a>; 2] {
    [("weight", norm.weight()), ("bias", norm.bias())]
        .map(|(part, values)| (format!("{name}.{part}"), vec![values.len()], values))
}
