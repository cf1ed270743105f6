//! Epilogues: accumulators to outputs.

use half::{bf16, f16};
use noisyquant_kernels::output::{Coarse, CodeForm, Coding, Destination, Output};
use noisyquant_kernels::ready::{Channels, Ready};
use noisyquant_kernels::row::Epilogue;
use noisyquant_kernels::spec::{self, Activation};
use noisyquant_kernels::view::{Elem, Element, MatMut};

use super::operands::Rng;
use crate::guarded::Guarded;

/// What is written of an output.
pub trait Cell: Copy + Default {
    fn bits(self) -> u32;
}

impl Cell for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Cell for f16 {
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Cell for bf16 {
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Cell for u8 {
    fn bits(self) -> u32 {
        self.into()
    }
}

/// An output in cells, of so many rows and columns that begin so many cells apart.
pub type MakeOutput<C> = for<'a> fn(&'a mut [C], (usize, usize, usize), Coding<'a>) -> Output<'a>;

/// A way to write outputs: where they go, and what the specification makes of an output, in that column,
/// where such a cell was before.
pub struct Way<C> {
    pub output: MakeOutput<C>,
    pub expected: fn(f32, usize, C, Coding<'_>) -> C,
    /// What is there before.
    pub before: C,
}

fn store<T: Element + Cell>() -> Way<T> {
    Way {
        output: |y, (m, n, stride), _| MatMut::new(y, m, n, stride).unwrap().into(),
        expected: |value, _, _, _| T::from_f32(value),
        before: T::from_f32(-7.0),
    }
}

pub const ADD: Way<f32> = Way {
    output: |y, (m, n, stride), _| Output::add(MatMut::new(y, m, n, stride).unwrap()),
    expected: |value, _, before, _| before + value,
    before: -7.25,
};

pub const CODES: Way<u8> = Way {
    output: |y, (m, _, stride), coding| {
        let plain = Coding {
            coarse: None,
            ..coding
        };
        Output::codes(y, m, stride, plain).unwrap()
    },
    expected: |value, n, _, coding| fine_code(value, n, coding).wrapping_sub(coding.form.offset),
    before: 0xa5,
};

pub const TWIN_CODES: Way<u8> = Way {
    output: |y, (m, _, stride), coding| Output::codes(y, m, stride, coding).unwrap(),
    expected: |value, n, _, coding| {
        let Coarse { inv, t, max, shift } = coding.coarse.unwrap();
        let coarse = spec::code(value, inv[n], t[n], max);
        let merged = spec::merged_code(fine_code(value, n, coding), coarse, shift);
        merged.wrapping_sub(coding.form.offset)
    },
    before: 0xa5,
};

fn fine_code(value: f32, n: usize, coding: Coding<'_>) -> u8 {
    spec::code(value, coding.inv[n], coding.t[n], coding.form.max)
}

/// Calls `check` with the way to write outputs of a destination.
pub trait Check {
    fn way<C: Cell>(&self, way: Way<C>);
}

pub fn of_destination(destination: Destination, check: &impl Check) {
    match destination {
        Destination::Store(Elem::F32) => check.way(store::<f32>()),
        Destination::Store(Elem::F16) => check.way(store::<f16>()),
        Destination::Store(Elem::Bf16) => check.way(store::<bf16>()),
        Destination::Add => check.way(ADD),
        Destination::Code => check.way(CODES),
        Destination::TwinCode => check.way(TWIN_CODES),
    }
}

/// What outputs are quantized with: fine or only codes, and coarse ones.
pub struct Quantizers {
    fine: [Guarded<f32>; 2],
    form: CodeForm,
    coarse: [Guarded<f32>; 2],
    coarse_max: u8,
    shift: u32,
}

impl Quantizers {
    /// Those of `n` columns, which spread outputs of the size of `scale` over the codes.
    pub fn new(rng: &mut Rng, n: usize, scale: f32) -> Quantizers {
        let max = spec::max_code(2 + rng.below(7) as u32);
        let offset = [0, 128, 32][rng.below(3) as usize];
        let shift = rng.below(8) as u32;
        let coarse_max = (u8::MAX - max) >> shift;
        Quantizers {
            fine: constants(rng, n, f32::from(max), scale),
            form: CodeForm { max, offset },
            coarse: constants(rng, n, f32::from(coarse_max), scale),
            coarse_max,
            shift,
        }
    }

    pub fn coding(&self) -> Coding<'_> {
        let ([inv, t], [coarse_inv, coarse_t]) = (&self.fine, &self.coarse);
        Coding {
            inv,
            t,
            form: self.form,
            coarse: Some(Coarse {
                inv: coarse_inv,
                t: coarse_t,
                max: self.coarse_max,
                shift: self.shift,
            }),
        }
    }
}

/// Multipliers and offsets; one column has a multiplier of 0.
fn constants(rng: &mut Rng, n: usize, max: f32, scale: f32) -> [Guarded<f32>; 2] {
    let (mut inv, mut t) = (Guarded::<f32>::new(n), Guarded::<f32>::new(n));
    for (inv, t) in inv.iter_mut().zip(t.iter_mut()) {
        *inv = (0.2 + rng.float().abs()) * max / scale;
        *t = rng.float() * max;
    }
    inv[n / 2] = 0.0;
    [inv, t]
}

/// All widths of panels and numbers of columns, at every distance from a cache line, without activation and
/// with one of the others in turn.
pub fn check(row: Ready<Epilogue>) {
    of_destination(row.destination, &row);
}

impl Check for Ready<Epilogue> {
    fn way<C: Cell>(&self, way: Way<C>) {
        let mut rng = Rng(13);
        let mut others = Activation::ALL.into_iter().cycle();
        for nr in [5, 8, 16, 32, 48] {
            for n in 1..=nr {
                for m in [1, 2, 3] {
                    check_sizes(*self, &way, Activation::Identity, (m, n, nr), &mut rng);
                    let other = others.next().unwrap();
                    check_sizes(*self, &way, other, (m, n, nr), &mut rng);
                }
            }
        }
    }
}

fn check_sizes<C: Cell>(
    row: Ready<Epilogue>,
    way: &Way<C>,
    activation: Activation,
    (m, n, nr): (usize, usize, usize),
    rng: &mut Rng,
) {
    let mut c = Guarded::<i32>::new(m * nr);
    let mut comp = Guarded::<i32>::new(nr);
    let mut scale = Guarded::<f32>::new(nr);
    let mut bias = Guarded::<f32>::new(nr);
    let magnitude = rng.below(30);
    for value in c.iter_mut().chain(comp.iter_mut()) {
        *value = (rng.next() as i32 / 2) >> magnitude;
    }
    // Outputs of all sizes, or, where an activation bends, around 1; now and then beyond f32.
    let (least, spread) = match rng.below(4) {
        0 => (-35.0, 40),
        1 => (90.0, 36),
        _ => (magnitude as f32 - 33.0, 6),
    };
    for (scale, bias) in scale.iter_mut().zip(bias.iter_mut()) {
        *scale = f32::exp2(rng.below(spread) as f32 + least) * (1.0 + rng.float().abs());
        *bias = rng.float() * f32::exp2(rng.below(20) as f32 - 15.0);
    }
    let channels = Channels {
        comp: &comp,
        scale: &scale,
        bias: &bias,
    };
    let quantizers = Quantizers::new(rng, n, 8.0);
    let coding = quantizers.coding();
    let expected = |r: usize, col: usize| {
        let value = spec::output(c[r * nr + col], comp[col], scale[col], bias[col]);
        (way.expected)(activation.of(value), col, way.before, coding)
    };
    // Ending at the unmapped page; and at every distance from a cache line, all rows alike, with values in
    // front that must stay.
    let apart = n.next_multiple_of(32);
    let aligned = (0..16).map(|lead| (lead, apart));
    for (lead, y_stride) in std::iter::once((0, n + m % 3)).chain(aligned) {
        let len = lead + (m - 1) * y_stride + n;
        let mut y = match y_stride == apart {
            true => Guarded::<C>::aligned(len),
            false => Guarded::<C>::new(len),
        };
        y.fill(way.before);
        let out = (way.output)(&mut y[lead..], (m, n, y_stride), coding);
        row.finish(&c, nr, channels, out.activated(activation));
        for (i, value) in y.iter().enumerate() {
            let at = i.checked_sub(lead).map(|i| (i / y_stride, i % y_stride));
            let expected = match at {
                Some((r, col)) if col < n => expected(r, col),
                _ => way.before,
            };
            let name = row.name;
            assert_eq!(
                value.bits(),
                expected.bits(),
                "{name} {activation:?} nr={nr} n={n} lead={lead} {at:?}"
            );
        }
    }
}
