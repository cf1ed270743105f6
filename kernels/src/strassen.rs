//! Strassen's algorithm in Winograd's form, exact in integers: seven products of quarters of the operands
//! where there are eight, for codes and weights whose sums still fit a byte (docs/math.md, eq. 41–43).
//!
//! ```text
//!           A, codes                 B, weights                C, outputs
//!           first   second           panel     next panel      panel     next panel
//!   upper   A11     A12      first   B11       B12      upper  C11       C12
//!   lower   A21     A22      second  B21       B22      lower  C21       C22
//! ```
//!
//! Rows of codes are halved, and so are inputs; channels are taken a pair of panels at a time, in which the
//! four quarters of weights lie one after the other as they are. Sums of codes are made for a block. Sums of
//! weights are made of a pair while its first rows are multiplied, in the shadow of the dot products: made
//! when a layer is built, they took as much memory again as the weights, and to read it from memory took as
//! long as the eighth product. A tile of each of the four outputs comes of three runs of products, each of
//! which stays in registers from its first product to its last:
//!
//! ```text
//!   A11·B11 ─▶ x    + A12·B21 ─▶ C11
//!   x + S2·T2 ─▶ y  + S3·T3 ─▶ z   + A22·T4 ─▶ C21
//!   S1·T1           + z ─▶ C22     + S4·B22 + y ─▶ C12
//! ```
//!
//! Only x, y and z go through memory. Strassen's own form has sums of no more than two codes, but stores and
//! loads eight tiles for the three here: on Zen 4 (AVX-512-VNNI) it was slower than eight products at K =
//! 384.

use core::mem::size_of;
use core::slice;

use crate::layout::{ALIGN, Tile, codes_stride, padded_k};
use crate::leaf::{Accumulators, BlockArgs, FinishArgs, Next};

/// The largest code: sums of four of them fit a byte.
pub(crate) const MAX_CODE: u8 = 63;

/// The largest magnitude of a weight: sums of four of them fit a byte.
pub(crate) const MAX_WEIGHT: u8 = 31;

/// The largest product of the two.
pub(crate) const MAX_PRODUCT: u32 = MAX_CODE as u32 * MAX_WEIGHT as u32;

/// Rows from which on a block is worth the sums of its codes.
const WORTH: usize = 24;

/// Sums of codes, and sums of weights.
const SUMS: usize = 4;

/// Bytes of accumulators of each output, where the epilogue is a step of its own: one of a single tile reads
/// the constants of channels for 12 rows at the most.
const STEP_BYTES: usize = 3 << 10;

/// Corrections of a channel of a pair of panels.
const CORRECTIONS: usize = 2;

/// What a kernel stores a difference of two codes with: this is added, so that it is no less than 0. It is
/// [`MAX_CODE`] for a kernel that reads codes as unsigned bytes, and 0 for one that reads signed ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bias(pub(crate) u8);

/// The operands of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    /// Rows of codes or of sums of them.
    pub(crate) a: *const u8,
    /// Bytes from one row to the next.
    pub(crate) a_stride: usize,
    /// Half a panel of weights or of sums of them, aligned to 64 bytes.
    pub(crate) b: *const i8,
    /// A part of the next pair of panels, of which each row fetches its share.
    #[allow(dead_code, reason = "not every architecture fetches it")]
    pub(crate) next: Next,
    /// What the first rows make meanwhile.
    make: Option<Difference>,
}

impl Factors {
    /// What the rows from `row` on make.
    #[inline(always)]
    pub(crate) fn make(&self, row: usize) -> Option<Difference> {
        self.make.filter(|_| row == 0)
    }
}

/// A difference of weights that later products need: `less` taken from `from`, all half panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) from: *const i8,
    pub(crate) less: *const i8,
    pub(crate) to: *mut i8,
}

/// What a leaf is given that computes a tile of each of the four outputs.
#[derive(Debug)]
pub(crate) struct TilesArgs<'a> {
    /// Those of all rows, in the order in which they are needed. They are borrowed: to copy seven for each
    /// tile took 2 % of the time at K = 384.
    pub(crate) factors: &'a [Factors; 7],
    /// Inputs of each: a multiple of 64.
    pub(crate) k: usize,
    /// Three tiles of accumulators as [`Registers::store`] leaves them, aligned to 64 bytes.
    pub(crate) between: [*mut i32; 3],
    /// The first row of codes.
    pub(crate) row: usize,
    /// The first row of outputs, as the sinks count.
    pub(crate) to: usize,
}

/// A leaf that computes a tile of each of the four outputs, of a certain height, and gives them to sinks.
pub(crate) type TilesFn<K> = unsafe fn(&TilesArgs<'_>, &[K; 4]);

/// The accumulators of a tile, in registers.
///
/// All are unsafe for the same reasons: the CPU has the instructions, and what pointers point to is there.
pub(crate) trait Registers<K>: Sized {
    fn zero() -> Self;

    /// What [`store`](Self::store) has left at `c`.
    unsafe fn load(c: *const i32) -> Self;

    /// Leaves them at `c`.
    unsafe fn store(&self, c: *mut i32);

    /// Adds the product of the codes from `row` on, and makes what is to be made.
    unsafe fn multiply(&mut self, factors: &Factors, row: usize, k: usize);

    /// Gives them to `sink`, the first row as its row `to`. What `store` has left at `plus` is added to what
    /// is given.
    unsafe fn give(&self, plus: Option<*const i32>, to: usize, sink: &K);
}

/// The leaf that is made of these registers. `#[inline(always)]`, so that it takes on their instruction set.
///
/// # Safety
///
/// The CPU has what the registers need; `args` points to what its fields say, and `outputs` take the rows.
#[inline(always)]
pub(crate) unsafe fn tiles<T: Registers<K>, K>(args: &TilesArgs<'_>, outputs: &[K; 4]) {
    let &TilesArgs {
        factors,
        k,
        between: [x, y, z],
        row,
        to,
    } = args;
    let [c11, c12, c21, c22] = outputs;
    // SAFETY: the caller promises it.
    unsafe {
        let mut sums = T::zero();
        sums.multiply(&factors[0], row, k);
        sums.store(x);
        sums.multiply(&factors[1], row, k);
        sums.give(None, to, c11);

        let mut sums = T::load(x);
        sums.multiply(&factors[2], row, k);
        sums.store(y);
        sums.multiply(&factors[3], row, k);
        sums.store(z);
        sums.multiply(&factors[4], row, k);
        sums.give(None, to, c21);

        let mut sums = T::zero();
        sums.multiply(&factors[5], row, k);
        sums.give(Some(z), to, c22);
        sums.multiply(&factors[6], row, k);
        sums.give(Some(y), to, c12);
    }
}

/// Whether the inputs can be halved.
fn halves(k: usize) -> bool {
    padded_k(k).is_multiple_of(2 * ALIGN)
}

/// Whether a block of `rows` rows of `k` inputs is multiplied so.
pub(crate) fn applies(rows: usize, k: usize) -> bool {
    rows >= WORTH && halves(k)
}

/// Corrections of a pair of panels of `k` inputs.
pub(crate) fn corrections(tile: Tile, k: usize) -> usize {
    if halves(k) { CORRECTIONS * tile.nr } else { 0 }
}

/// Makes the corrections of the two panels of `pair`: what the biases of S2 and S3 add to both lower outputs,
/// and then what those of S2 and S4 add to C12.
pub(crate) fn correct(pair: &[i8], tile: Tile, Bias(bias): Bias, corrections: &mut [i32]) {
    let half = pair.len() / 4;
    let (lower, c12) = corrections.split_at_mut(tile.nr);
    for (channel, (lower, c12)) in lower.iter_mut().zip(c12).enumerate() {
        let sum = |quarter: usize| -> i32 {
            let groups = pair[quarter * half..][..half].chunks_exact(tile.nr * tile.kr);
            let all = groups.flat_map(|group| &group[channel * tile.kr..][..tile.kr]);
            all.map(|weight| i32::from(*weight)).sum()
        };
        let (b11, b12, b22) = (sum(0), sum(2), sum(3));
        let t3 = b22 - b12;
        let t2 = t3 + b11;
        *lower = i32::from(bias) * (t2 + t3);
        *c12 = i32::from(bias) * (t2 + 2 * b22);
    }
}

/// Working memory of [`block`]: sums of codes, sums of weights, three tiles, a step of each output, and
/// `comp` of three.
struct Room {
    /// Rows of a half.
    half: usize,
    /// Bytes from one row of sums of codes to the next.
    stride: usize,
    /// Bytes of one of the sums of codes.
    sum: usize,
    /// Bytes of half a panel.
    half_panel: usize,
    /// Values of a tile of accumulators.
    tile: usize,
    /// Tiles of a step.
    step: usize,
}

impl Room {
    fn of(tile: Tile, rows: usize, k: usize) -> Room {
        let half = rows / 2;
        let stride = codes_stride(padded_k(k) / 2);
        let accumulators = tile.mr * tile.nr;
        Room {
            half,
            stride,
            sum: half.saturating_mul(stride),
            half_panel: tile.panel().panel_bytes(k) / 2,
            tile: accumulators.next_multiple_of(ALIGN / size_of::<i32>()),
            step: (STEP_BYTES / (accumulators * size_of::<i32>())).max(1),
        }
    }
}

/// Values of working memory that [`block`] needs.
pub(crate) fn room(tile: Tile, rows: usize, k: usize) -> usize {
    if !applies(rows, k) {
        return 0;
    }
    let room = Room::of(tile, rows, k);
    let sums = room
        .sum
        .saturating_add(room.half_panel)
        .saturating_mul(SUMS);
    let tiles = 3 + 4 * room.step;
    let rest = tiles * room.tile + (3 * tile.nr).next_multiple_of(ALIGN / size_of::<i32>());
    (sums / size_of::<i32>()).saturating_add(rest)
}

/// What a block leaf is made of.
pub(crate) struct Leaf<'a, K> {
    /// The block leaf of the same kernel for eight products.
    pub(crate) plain: unsafe fn(&BlockArgs),
    /// `tiles[r - 1]` has `r` rows.
    pub(crate) tiles: &'a [TilesFn<K>],
    /// Where the accumulators of a panel go.
    pub(crate) sink: unsafe fn(&FinishArgs) -> K,
    /// Whether that is memory, of which the epilogue makes outputs afterwards.
    pub(crate) in_steps: bool,
    pub(crate) bias: Bias,
}

impl<'a> Leaf<'a, Accumulators> {
    /// That of a kernel which leaves all to the epilogue.
    pub(crate) const fn in_steps(
        plain: unsafe fn(&BlockArgs),
        tiles: &'a [TilesFn<Accumulators>],
        bias: Bias,
    ) -> Self {
        Leaf {
            plain,
            tiles,
            sink: |output| Accumulators(output.c.cast_mut()),
            in_steps: true,
            bias,
        }
    }
}

/// Block leaf. `#[inline(always)]`, so that sums of codes take on the instruction set of the leaf that calls
/// it.
///
/// # Safety
///
/// The CPU has what `leaf` needs; `args` keeps the promises of [`BlockArgs`] for a row that has this bias, is
/// exact for no more than [`MAX_CODE`] and [`MAX_WEIGHT`], and whose panels are groups of `KR` inputs.
#[inline(always)]
pub(crate) unsafe fn block<K>(args: &BlockArgs, leaf: &Leaf<'_, K>) {
    let (first, nr) = (&args.first, args.tile.nr);
    // A last panel that is half empty at least is less work alone.
    let pairs = match applies(first.m, first.inputs) {
        true => (args.output.n + nr.div_ceil(2) - 1) / (2 * nr),
        false => 0,
    };
    // SAFETY: the caller promises operands and working memory. All pairs are among the panels, and so are the
    // rows and panels that are left.
    unsafe {
        if pairs > 0 {
            let codes = sum_codes(args, leaf.bias);
            for pair in 0..pairs {
                let (factors, outputs) = operands(args, pair, &codes);
                halves_of(args, leaf, factors, outputs);
                if first.m % 2 == 1 {
                    (leaf.plain)(&args.part(first.m - 1..first.m, 2 * pair..2 * pair + 2));
                }
            }
        }
        if 2 * pairs < args.panels {
            (leaf.plain)(&args.part(0..first.m, 2 * pairs..args.panels));
        }
    }
}

/// The codes of each of the seven products and the bytes between their rows.
///
/// # Safety
///
/// As [`block`], which applies.
#[inline(always)]
unsafe fn sum_codes(args: &BlockArgs, Bias(bias): Bias) -> [(*const u8, usize); 7] {
    let first = &args.first;
    let (half_k, own) = (first.k / 2, first.a_stride);
    let Room {
        half, stride, sum, ..
    } = Room::of(args.tile, first.m, first.inputs);
    // SAFETY: the caller promises `m` rows of `k` codes, and room for the sums of half of them.
    unsafe {
        let s = [0, 1, 2, 3].map(|index| args.room.cast::<u8>().add(index * sum));
        let upper = [first.a, first.a.add(half_k)];
        let lower = upper.map(|a| a.add(half * own));
        for row in 0..half {
            let codes = |a: *const u8| slice::from_raw_parts(a.add(row * own), half_k);
            let ([a11, a12], [a21, a22]) = (upper.map(codes), lower.map(codes));
            let sums = |s: *mut u8| slice::from_raw_parts_mut(s.add(row * stride), half_k);
            let [s1, s2, s3, s4] = s.map(sums);
            for i in 0..half_k {
                let sum = a21[i].wrapping_add(a22[i]);
                let less = sum.wrapping_sub(a11[i]);
                s1[i] = sum;
                s2[i] = less.wrapping_add(bias);
                s3[i] = a11[i].wrapping_sub(a21[i]).wrapping_add(bias);
                s4[i] = a12[i].wrapping_sub(less).wrapping_add(2 * bias);
            }
        }
        let [s1, s2, s3, s4] = s.map(|s| (s.cast_const(), stride));
        let ([a11, a12], a22) = (upper.map(|a| (a, own)), (lower[1], own));
        [a11, a12, s2, s3, a22, s1, s4]
    }
}

/// The factors of the products of a pair of panels, and its outputs C11, C12, C21 and C22.
///
/// # Safety
///
/// As [`block`], which applies; the pair exists.
#[inline(always)]
unsafe fn operands(
    args: &BlockArgs,
    pair: usize,
    codes: &[(*const u8, usize); 7],
) -> ([Factors; 7], [FinishArgs; 4]) {
    let (first, nr) = (&args.first, args.tile.nr);
    let room = Room::of(args.tile, first.m, first.inputs);
    let half_panel = room.half_panel;
    // SAFETY: the caller promises the pair, with its corrections, and working memory.
    unsafe {
        let own = first.b.add(pair * 4 * half_panel);
        let sums = args.room.cast::<i8>().add(SUMS * room.sum);
        let [b11, b21, b12, b22] = [0, 1, 2, 3].map(|index| own.add(index * half_panel));
        let [t1, t2, t3, t4] = [0, 1, 2, 3].map(|index| sums.add(index * half_panel));
        let weights = [b11, b21, t2, t3, t4, t1, b22];
        // Each before it is needed.
        let made = [(b12, b11, t1), (b22, t1, t2), (b22, b12, t3), (b21, t2, t4)];
        let mut factors = [Factors {
            a: first.a,
            a_stride: 0,
            b: own,
            next: Next::none(own),
            make: None,
        }; 7];
        for ((factors, codes), b) in factors.iter_mut().zip(codes).zip(weights) {
            (factors.a, factors.a_stride) = *codes;
            factors.b = b;
        }
        for (index, (from, less, to)) in made.into_iter().enumerate() {
            factors[index].make = Some(Difference { from, less, to });
            let at = own.wrapping_add((4 + index) * half_panel);
            factors[index].next = Next::of(2 * half_panel, at, half_panel, room.half);
        }

        let corrections = args.corrections.add(pair * CORRECTIONS * nr);
        let tiles = sums.add(SUMS * half_panel).cast::<i32>().add(3 * room.tile);
        let comps = tiles.add(4 * room.step * room.tile);
        let mut outputs = [args.output(2 * pair, 0, room.half); 4];
        // A loop: the closure of a map was a call, without vector instructions.
        for (index, output) in outputs.iter_mut().enumerate() {
            let (lower, next) = (index / 2, index % 2);
            *output = args.output(2 * pair + next, lower * room.half, room.half);
            output.c = tiles.add(index * room.step * room.tile);
            if index > 0 {
                let comp = slice::from_raw_parts_mut(comps.add((index - 1) * nr), nr);
                let own = slice::from_raw_parts(output.comp, nr);
                let corrections = slice::from_raw_parts(corrections.add((1 - lower) * nr), nr);
                for ((comp, own), correction) in comp.iter_mut().zip(own).zip(corrections) {
                    *comp = own.wrapping_sub(*correction);
                }
                output.comp = comp.as_ptr();
            }
        }
        (factors, outputs)
    }
}

/// Both halves of the rows of a pair of panels, in tiles of even heights.
///
/// # Safety
///
/// As [`operands`], which made `factors` and `outputs`.
#[inline(always)]
unsafe fn halves_of<K>(
    args: &BlockArgs,
    leaf: &Leaf<'_, K>,
    factors: [Factors; 7],
    outputs: [FinishArgs; 4],
) {
    let first = &args.first;
    let room = Room::of(args.tile, first.m, first.inputs);
    // SAFETY: the caller promises outputs and working memory; tiles cover the rows of a half.
    unsafe {
        let [c11, c12, c21, c22] = &outputs;
        let sinks = [
            (leaf.sink)(c11),
            (leaf.sink)(c12),
            (leaf.sink)(c21),
            (leaf.sink)(c22),
        ];
        let sums = SUMS * (room.sum + room.half_panel);
        let between = args.room.add(sums / size_of::<i32>());
        let count = room.half.div_ceil(args.tile.mr);
        let row_of = |number: usize| number * room.half / count;
        let mut done = 0;
        for number in 0..count {
            let (row, end) = (row_of(number), row_of(number + 1));
            let tiles = TilesArgs {
                factors: &factors,
                k: first.k / 2,
                between: [0, 1, 2].map(|index| between.add(index * room.tile)),
                row,
                to: if leaf.in_steps { row - done } else { row },
            };
            leaf.tiles[end - row - 1](&tiles, &sinks);
            let step = (number + 1).is_multiple_of(room.step) || number + 1 == count;
            if leaf.in_steps && step {
                for output in &outputs {
                    let past = done * output.y_stride * args.destination.size();
                    (args.finish)(&FinishArgs {
                        m: end - done,
                        y: output.y.add(past),
                        ..*output
                    });
                }
                done = end;
            }
        }
    }
}
