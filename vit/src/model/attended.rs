//! What attention leaves to the layer behind it, the projection.

use noisyquant::{Codes, QuantLinear};

use super::run::{Lane, Run};
use crate::{
    error::Error,
    ops::{Arithmetic, Heads, Linear, Mixed},
};

/// What attention has mixed, of all rows.
pub(super) enum Attended<'a> {
    /// Numbers.
    Numbers(&'a [f32]),
    /// The codes that the projection would make of them.
    Codes {
        projection: &'a QuantLinear,
        codes: Codes<'a>,
    },
}

impl<'a> Run<'a, '_> {
    /// Attention on `qkv`, which layer number `layer` gave, for layer number `projection`, written to
    /// `memory`: as codes where that takes them, nobody sees it, and attention can make them.
    pub(super) fn attend_for<'m>(
        &mut self,
        (layer, projection): (usize, usize),
        heads: Heads,
        qkv: &[f32],
        memory: &'m mut [f32],
    ) -> Result<Attended<'m>, Error>
    where
        'a: 'm,
    {
        let rows = memory.len() / heads.width;
        let writes = matches!(self.arithmetic, Arithmetic::Int8(_)) && heads.fit_lines();
        let layers = self.lane.layers;
        // A twin quantizer's codes may not fit a byte.
        let takes = match &layers[projection].linear {
            Linear::Quantized(linear) if writes && !self.is_observed() => {
                let room = linear.codes_in(rows, bytemuck::cast_slice_mut(&mut *memory));
                room.is_ok().then_some(linear)
            }
            _ => None,
        };
        let Some(projection) = takes else {
            self.attend(layer, heads, qkv, None, memory)?;
            return Ok(Attended::Numbers(memory));
        };
        let named = Error::layer(&layers[layer].name);
        let room = projection.codes_in(rows, bytemuck::cast_slice_mut(memory));
        let mut codes = room.map_err(&named)?;
        let mixed = Mixed::Codes(codes.parts(rows).map_err(&named)?);
        self.attend_into(layer, heads, qkv, None, mixed)?;
        Ok(Attended::Codes { projection, codes })
    }
}

impl Lane<'_, '_> {
    /// [`branch`](Self::branch) of layer number `index`, the projection, on its rows of `attended`.
    pub(super) fn project(
        &mut self,
        index: usize,
        attended: &Attended<'_>,
        width: usize,
        x: &mut [f32],
        update: &mut [f32],
    ) -> Result<bool, Error> {
        let first = self.first_row();
        let end = first + x.len() / width;
        match attended {
            Attended::Numbers(mixed) => {
                self.branch(index, &mixed[first * width..end * width], x, update)
            }
            Attended::Codes { projection, codes } => {
                let rows = codes.rows_range(first, end).into();
                self.added(index, projection, rows, x)?;
                Ok(false)
            }
        }
    }
}
