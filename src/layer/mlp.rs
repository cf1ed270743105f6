//! The two layers of an MLP in one call.

use noisyquant_kernels::spec::Activation;
use noisyquant_kernels::view::MatMut;

use super::linear::QuantLinear;
use super::norm::Norm;
use super::operands::{Input, Output};
use crate::check;
use crate::error::Error;
use crate::run::chain::{Chain, Ends};
use crate::run::executor::Executor;
use crate::run::memory::Scratch;

/// The MLP of a transformer's block, `fc2(activation(fc1(x)))`, in one call. A block of rows goes through
/// both layers before the next one starts, and `fc1` writes codes of `fc2`: what is between them is never
/// there as a whole, nor in f32. (Where `fc2` has a twin quantizer whose codes do not fit a byte, a block of
/// numbers is.) The outputs have the same bits as by one layer after the other.
///
/// ```
/// use noisyquant::{Activation, Executor, MatMut, Mlp, Norm, Scratch};
/// # use noisyquant::{Numbers, QuantLinear};
/// # let layer = |n: usize, k: usize| QuantLinear::from_numbers(
/// #     Numbers::new((0..n * k).map(|i| (i % 7) as i8 - 3).collect(), vec![0.1; n], 0.1, 128.0), None);
/// # let (fc1, fc2) = (layer(16, 4)?, layer(4, 16)?);
///
/// let mlp = Mlp::new(fc1, Activation::Gelu, fc2)?;
/// let mut scratch = Scratch::with_bytes(mlp.scratch_bytes(197, 1));
///
/// // The norm of tokens goes in, and what comes out is added to the tokens.
/// # let mut tokens: Vec<f32> = (0..197 * 4).map(|i| (i % 5) as f32).collect();
/// let norm = Norm::layer(&[1.0; 4], &[0.0; 4], 1e-6)?;
/// let tokens = MatMut::new(&mut tokens, 197, 4, 4)?;
/// mlp.forward_residual(&norm, tokens, &mut scratch, Executor::serial())?;
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: QuantLinear,
    activation: Activation,
    fc2: QuantLinear,
}

impl Mlp {
    /// The MLP of two layers.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `fc2` does not have as many inputs as `fc1` has outputs.
    pub fn new(fc1: QuantLinear, activation: Activation, fc2: QuantLinear) -> Result<Mlp, Error> {
        let (hidden, k) = (fc1.out_features(), fc2.in_features());
        check::shape(
            "second layer of an MLP",
            (fc2.out_features(), hidden),
            (fc2.out_features(), k),
        )?;
        Ok(Mlp {
            fc1,
            activation,
            fc2,
        })
    }

    /// Runs it on `x`, `[rows, in_features]`, and writes or adds `[rows, out_features]`. Allocates nothing,
    /// but for what rayon does where a thread outside of its pool calls.
    ///
    /// # Errors
    ///
    /// [`Error`] if a shape does not fit, codes are for another layer, outputs should be added to other
    /// elements than f32, or `scratch` is too small: [`scratch_bytes`](Self::scratch_bytes) tells its size.
    pub fn forward(
        &self,
        x: Input<'_>,
        mut y: Output<'_, '_>,
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let x = x.of(self.fc1.pass())?;
        let rows = x.rows();
        let output = y.of(rows, self.out_features())?;
        if rows > 0 {
            let ends = Ends::Apart(x, output);
            self.chain().run(ends, scratch, executor)?;
        }
        y.made(rows);
        Ok(())
    }

    /// Adds the MLP of their norm to `tokens`, f32 `[rows, in_features]`: `tokens += mlp(norm(tokens))`, the
    /// second half of a transformer's block. The bits are those of one step after the other. Otherwise as
    /// [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// [`Error`] if the norm is not of as many features, the MLP does not have as many inputs and outputs,
    /// `tokens` are not f32, or `scratch` is too small.
    pub fn forward_residual(
        &self,
        norm: &Norm,
        tokens: MatMut<'_>,
        scratch: &mut Scratch<'_>,
        executor: Executor<'_>,
    ) -> Result<(), Error> {
        let (rows, width) = (tokens.rows(), tokens.cols());
        norm.check(tokens.as_ref())?;
        check::shape("input", (rows, self.in_features()), (rows, width))?;
        check::shape("output", (rows, self.out_features()), (rows, width))?;
        if rows == 0 {
            return Ok(());
        }
        let ends = Ends::Residual(tokens, norm.numbers());
        self.chain().run(ends, scratch, executor)
    }

    /// Bytes of scratch for calls of up to `max_rows` rows on an executor of so many threads. A call on more
    /// threads than its scratch is made for uses fewer.
    pub fn scratch_bytes(&self, max_rows: usize, threads: usize) -> usize {
        self.chain().bytes(max_rows, threads)
    }

    /// Inputs of a row.
    pub fn in_features(&self) -> usize {
        self.fc1.in_features()
    }

    /// Outputs of a row.
    pub fn out_features(&self) -> usize {
        self.fc2.out_features()
    }

    /// What is taken of each number between the layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The layers.
    pub fn layers(&self) -> (&QuantLinear, &QuantLinear) {
        (&self.fc1, &self.fc2)
    }

    fn chain(&self) -> Chain<'_> {
        Chain {
            first: self.fc1.pass(),
            activation: self.activation,
            second: self.fc2.pass(),
        }
    }
}
