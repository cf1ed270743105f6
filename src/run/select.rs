//! Choice of instruction set and kernels for a layer.

use alloc::string::String;
use alloc::vec::Vec;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::Form;
use noisyquant_kernels::output::Destination;
use noisyquant_kernels::ready::{self, Ready};
use noisyquant_kernels::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use noisyquant_kernels::table;
use noisyquant_kernels::view::Elem;

use super::environment;
use super::panels::Packing;
use crate::error::Error;

/// The leaves that a layer or a product of activations runs: one micro-kernel and norm, an epilogue per
/// destination, and one of each other kind per element type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    pub(crate) micro: Ready<MicroKernel>,
    norm: Ready<Norm>,
    prologues: [Ready<Prologue>; 3],
    absmaxes: [Ready<Absmax>; 3],
    epilogues: [Ready<Epilogue>; 6],
}

impl Kernels {
    /// The kernels of `isa` for codes up to `max_code` and weights of magnitudes up to `max_weight`: the
    /// micro-kernel of the densest weights that `packing` asks for, of those the most specialised that is
    /// exact for them, and of those the one with the largest tile.
    pub(crate) fn select(
        isa: Isa,
        max_code: u8,
        max_weight: u8,
        packing: Packing,
    ) -> Result<Kernels, Error> {
        let unavailable = || Error::IsaUnavailable {
            isa,
            available: names(Isa::available()),
        };
        let exact = table::micro_kernels()
            .filter(|row| row.isa == isa && row.is_exact_for(max_code, max_weight))
            .filter(|row| packing == Packing::Dense || row.form == Form::Bytes);
        let micro = exact
            .min_by_key(|row| {
                let area = row.tile.mr * row.tile.nr;
                (row.form.bits(), row.max_product, usize::MAX - area)
            })
            .ok_or(Error::NotExact {
                isa,
                max_code,
                max_weight,
            })?;
        let micro = micro.ready().ok_or_else(unavailable)?;
        let prologue = |elem| ready::prologue(isa, elem).ok_or_else(unavailable);
        let absmax = |elem| ready::absmax(isa, elem).ok_or_else(unavailable);
        let epilogue = |to| ready::epilogue(isa, to).ok_or_else(unavailable);
        let [a, b, c] = Elem::ALL;
        let [p, q, r, s, t, u] = Destination::ALL.map(epilogue);
        Ok(Kernels {
            micro,
            norm: ready::norm(isa).ok_or_else(unavailable)?,
            prologues: [prologue(a)?, prologue(b)?, prologue(c)?],
            absmaxes: [absmax(a)?, absmax(b)?, absmax(c)?],
            epilogues: [p?, q?, r?, s?, t?, u?],
        })
    }

    pub(crate) fn norm(&self) -> Ready<Norm> {
        self.norm
    }

    pub(crate) fn prologue(&self, source: Elem) -> Ready<Prologue> {
        self.prologues[source as usize]
    }

    pub(crate) fn absmax(&self, source: Elem) -> Ready<Absmax> {
        self.absmaxes[source as usize]
    }

    pub(crate) fn epilogue(&self, destination: Destination) -> Ready<Epilogue> {
        let mut rows = self.epilogues.iter();
        *rows
            .find(|row| row.destination == destination)
            .expect("one for each destination")
    }
}

/// The kernels for codes up to `max_code` and weights of magnitudes up to `max_weight`, packed so, on the set
/// that [`choose_isa`] says. Where nobody named one, it is the best that has an exact kernel.
pub(crate) fn choose(
    asked: Option<Isa>,
    max_code: u8,
    max_weight: u8,
    packing: Packing,
) -> Result<Kernels, Error> {
    let isa = choose_isa(asked)?;
    let select = |isa| Kernels::select(isa, max_code, max_weight, packing);
    let kernels = select(isa);
    if kernels.is_ok() || asked.is_some() || environment::isa().is_some() {
        return kernels;
    }
    let slower = Isa::available().rev().filter(|slower| *slower < isa);
    let mut slower = slower.map(select);
    slower.find(Result::is_ok).unwrap_or(kernels)
}

/// The instruction set to use: the one asked for, else the one that `NOISYQUANT_ISA` names, else the
/// best of this CPU that has kernels. What is asked for and is missing is an error, never replaced.
pub(crate) fn choose_isa(asked: Option<Isa>) -> Result<Isa, Error> {
    let isa = match asked {
        Some(isa) => isa,
        None => match environment::isa() {
            Some(name) => Isa::from_name(&name).ok_or_else(|| Error::IsaUnknown {
                expected: names(Isa::ALL.into_iter()),
                got: name,
            })?,
            None => Isa::available()
                .rfind(|isa| table::micro_kernels().any(|row| row.isa == *isa) && isa.enable())
                .unwrap_or(Isa::Scalar),
        },
    };
    if !isa.is_available() {
        return Err(Error::IsaUnavailable {
            isa,
            available: names(Isa::available()),
        });
    }
    Ok(isa)
}

fn names(isas: impl Iterator<Item = Isa>) -> String {
    isas.map(Isa::name).collect::<Vec<_>>().join(", ")
}
