//! The norm before a layer.

use alloc::vec;
use alloc::vec::Vec;

use noisyquant_kernels::ready::{self, NormNumbers, Ready};
use noisyquant_kernels::row;
use noisyquant_kernels::spec::{MAX_K, NormKind};
use noisyquant_kernels::view::{MatMut, MatRef};

use crate::check;
use crate::error::Error;
use crate::run::select;

/// LayerNorm (Ba et al., 2016) or RMSNorm (Zhang and Sennrich, 2019) of rows of f32 (docs/math.md, eq. 40):
/// the same bits on every CPU. A layer that it stands before takes it into its own pass: see
/// [`Input::Normed`](crate::Input::Normed).
///
/// ```
/// use noisyquant::{MatMut, MatRef, Norm};
///
/// let norm = Norm::layer(&[1.0, 2.0], &[0.0, 10.0], 0.0)?;
/// let (x, mut y) = ([3f32, 5.0, -1.0, -1.5], [0f32; 4]);
/// norm.forward(MatRef::new(&x, 2, 2, 2)?, MatMut::new(&mut y, 2, 2, 2)?)?;
/// assert_eq!(y, [-1.0, 12.0, 1.0, 8.0]);
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Norm {
    kernel: Ready<row::Norm>,
    kind: NormKind,
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    /// LayerNorm over as many features as there are weights and biases: `(x − mean) / √(variance + eps) ·
    /// weight + bias`.
    ///
    /// # Errors
    ///
    /// [`Error`] if there are no weights, or not as many biases, or if `eps` is negative or not finite.
    pub fn layer(weight: &[f32], bias: &[f32], eps: f32) -> Result<Norm, Error> {
        Norm::new(NormKind::Layer, weight.to_vec(), bias.to_vec(), eps)
    }

    /// RMSNorm over as many features as there are weights: `x / √(mean of x² + eps) · weight`.
    ///
    /// # Errors
    ///
    /// [`Error`] if there are no weights, or if `eps` is negative or not finite.
    pub fn rms(weight: &[f32], eps: f32) -> Result<Norm, Error> {
        Norm::new(NormKind::Rms, weight.to_vec(), vec![0.0; weight.len()], eps)
    }

    fn new(kind: NormKind, weight: Vec<f32>, bias: Vec<f32>, eps: f32) -> Result<Norm, Error> {
        check::dimension("features of a norm", weight.len(), MAX_K)?;
        check::length("biases of a norm", weight.len(), bias.len())?;
        check::all("eps", "a finite value, 0 or more", &[eps], |eps| {
            eps.is_finite() && eps >= 0.0
        })?;
        let isa = select::choose_isa(None)?;
        let kernel = ready::norm(isa).expect("a norm of each set that can be chosen");
        Ok(Norm {
            kernel,
            kind,
            weight,
            bias,
            eps,
        })
    }

    /// Writes the norm of each row of `x`, `[rows, width]`, into the same row of `y`. That of a row with a
    /// number that is not finite is NaN.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if a shape does not fit; [`Error::Element`] if `x` or `y` is not of f32.
    pub fn forward(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<(), Error> {
        self.check(x)?;
        check::shape("output", (x.rows(), x.cols()), (y.rows(), y.cols()))?;
        check::f32("output of a norm", y.elem())?;
        self.kernel.normalize(x, self.numbers(), y);
        Ok(())
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// What each feature is multiplied with.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// What is added to each feature; all zero of an RMSNorm.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Whether `x` is rows that it can be taken of.
    pub(crate) fn check(&self, x: MatRef<'_>) -> Result<(), Error> {
        check::shape(
            "input of a norm",
            (x.rows(), self.width()),
            (x.rows(), x.cols()),
        )?;
        check::f32("input of a norm", x.elem())
    }

    pub(crate) fn numbers(&self) -> NormNumbers<'_> {
        NormNumbers {
            kind: self.kind,
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        }
    }
}
