//! Checks of what callers pass in, shared by everything that takes operands.

use alloc::format;

use noisyquant_kernels::spec;
use noisyquant_kernels::view::Elem;

use crate::error::Error;

pub(crate) fn dimension(what: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if (1..=limit).contains(&got) {
        return Ok(());
    }
    let expected = format!("1..={limit}");
    Err(Error::Dimension {
        what,
        expected,
        got,
    })
}

pub(crate) fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if got <= limit {
        return Ok(());
    }
    let expected = format!("0..={limit}");
    Err(Error::Dimension {
        what,
        expected,
        got,
    })
}

pub(crate) fn bits(what: &'static str, got: u32) -> Result<(), Error> {
    if (spec::MIN_BITS..=spec::MAX_BITS).contains(&got) {
        return Ok(());
    }
    let expected = format!("{}..={}", spec::MIN_BITS, spec::MAX_BITS);
    let got = got as usize;
    Err(Error::Dimension {
        what,
        expected,
        got,
    })
}

pub(crate) fn length(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    let error = Error::Length {
        what,
        expected,
        got,
    };
    if expected == got { Ok(()) } else { Err(error) }
}

pub(crate) fn rows(what: &'static str, cols: usize, got: usize) -> Result<(), Error> {
    let error = Error::Rows { what, cols, got };
    if got.is_multiple_of(cols) {
        Ok(())
    } else {
        Err(error)
    }
}

pub(crate) fn shape(
    what: &'static str,
    expected: (usize, usize),
    got: (usize, usize),
) -> Result<(), Error> {
    let error = Error::Shape {
        what,
        expected,
        got,
    };
    if expected == got { Ok(()) } else { Err(error) }
}

pub(crate) fn finite(what: &'static str, values: &[f32]) -> Result<(), Error> {
    all(what, "a finite value", values, f32::is_finite)
}

pub(crate) fn f32(what: &'static str, got: Elem) -> Result<(), Error> {
    match got {
        Elem::F32 => Ok(()),
        _ => Err(Error::Element { what, got }),
    }
}

/// Every value satisfies `ok`, described by `expected`.
pub(crate) fn all(
    what: &'static str,
    expected: &'static str,
    values: &[f32],
    ok: impl Fn(f32) -> bool,
) -> Result<(), Error> {
    match values.iter().position(|v| !ok(*v)) {
        None => Ok(()),
        Some(index) => Err(Error::Value {
            what,
            expected,
            got: values[index],
            index,
        }),
    }
}
