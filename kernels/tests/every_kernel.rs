//! Every row of the table that this CPU can run, against `spec`, bit for bit.
//!
//! Buffers end at an unmapped page, start unaligned where a kernel allows it, and hold extreme and
//! special values. The set of instruction sets that ran is printed and compared with what the CPU
//! says it has, or, under an emulator, with `NOISYQUANT_EXPECT_ISAS` (space-separated names).

#![cfg(unix)]

mod guarded;

use std::collections::BTreeSet;
use std::io::Write;

use guarded::Guarded;
use half::{bf16, f16};
use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::layout::{codes_stride, padded_k};
use noisyquant_kernels::spec;
use noisyquant_kernels::table::{self, Channels, CodeForm, Codes, MicroKernel, Ready};
use noisyquant_kernels::view::{Elem, Element, MatMut, MatRef};

/// SplitMix64: enough randomness for operands.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Uniform in `-1.0..1.0`.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// `{1, T−1, T, T+1, 2T+1}`; zero is tested on its own.
fn around(t: usize) -> BTreeSet<usize> {
    [1, t - 1, t, t + 1, 2 * t + 1]
        .into_iter()
        .filter(|v| *v > 0)
        .collect()
}

/// Ways to fill operands, from harmless to what saturates a kernel that is not exact.
const FILLS: [&str; 7] = [
    "random",
    "zero codes",
    "zero, -max", // the extreme of codes stored as signed bytes
    "max, +max",
    "max, -max",
    "max, ±max",
    "sparse",
];

fn fill(kind: &str, max_code: u8, max_weight: i8, codes: &mut [u8], weights: &mut [i8]) {
    let mut rng = Rng(codes.len() as u64 ^ 7);
    for code in codes.iter_mut() {
        *code = match kind {
            "random" => rng.below(u64::from(max_code) + 1) as u8,
            "zero codes" | "zero, -max" => 0,
            "sparse" if rng.below(5) > 0 => 0,
            _ => max_code,
        };
    }
    for (i, weight) in weights.iter_mut().enumerate() {
        *weight = match kind {
            "random" => (rng.below(2 * max_weight as u64 + 1) as i64 - i64::from(max_weight)) as i8,
            "max, -max" | "zero, -max" => -max_weight,
            "max, ±max" if i % 2 == 1 => -max_weight,
            "sparse" if rng.below(3) == 0 => -max_weight,
            _ => max_weight,
        };
    }
}

/// Operand widths for which the kernel claims to be exact.
fn widths(kernel: &MicroKernel) -> Vec<(u8, i8)> {
    let bits = spec::MIN_BITS..=spec::MAX_BITS;
    let pairs = bits.clone().flat_map(|a| bits.clone().map(move |w| (a, w)));
    pairs
        .map(|(a, w)| (spec::max_code(a), spec::max_weight(w)))
        .filter(|(u, w)| kernel.is_exact_for(*u, *w))
        .collect()
}

fn check_micro_kernel(kernel: Ready<MicroKernel>) {
    let nr = kernel.tile.nr;
    for k in [64, 128, 192, 320] {
        for m in around(kernel.tile.mr) {
            // The widest operands get every fill; narrower ones, random values.
            let widest = widths(&kernel)
                .into_iter()
                .max_by_key(|(u, w)| i32::from(*u) * i32::from(*w));
            for (max_code, max_weight) in widths(&kernel) {
                let fills = if Some((max_code, max_weight)) == widest || k == 64 {
                    &FILLS[..]
                } else {
                    &FILLS[..1]
                };
                for kind in fills {
                    let mut codes = vec![0u8; m * k];
                    let mut weights = vec![0i8; nr * k];
                    fill(kind, max_code, max_weight, &mut codes, &mut weights);
                    let case = format!(
                        "{} m={m} k={k} max {max_code}·{max_weight} {kind}",
                        kernel.name
                    );
                    check_product(kernel, &codes, &weights, m, k, &case);
                }
            }
        }
    }
    // No rows: nothing is read or written.
    kernel.run(
        Codes {
            bytes: &[],
            stride: 64,
            rows: 0,
        },
        &Guarded::aligned(nr * 64),
        &mut [],
    );
}

/// A row of codes in the form that the kernel reads.
fn store_codes(kernel: Ready<MicroKernel>, row: &[u8], to: &mut [u8]) {
    let offset = kernel.code_offset;
    let stored: Vec<u8> = row.iter().map(|u| u.wrapping_sub(offset)).collect();
    if kernel.code_bytes() == 2 {
        kernel.widen(&stored, to);
    } else {
        to.copy_from_slice(&stored);
    }
}

fn check_product(
    kernel: Ready<MicroKernel>,
    codes: &[u8],
    weights: &[i8],
    m: usize,
    k: usize,
    case: &str,
) {
    let nr = kernel.tile.nr;
    let mut packed = Guarded::<i8>::aligned(nr * k);
    kernel.tile.panel().pack(weights, k, nr, k, &mut packed);

    // Rows `stride` apart; the last one ends with the buffer, so the first is unaligned.
    let width = kernel.code_bytes();
    let stride = codes_stride(k) * width;
    let mut a = Guarded::<u8>::new((m - 1) * stride + k * width);
    a.fill(0xa5);
    for (r, row) in codes.chunks_exact(k).enumerate() {
        let at = r * stride..r * stride + k * width;
        store_codes(kernel, row, &mut a[at]);
    }

    let expected = |r: usize, n: usize| {
        let (codes, weights) = (&codes[r * k..(r + 1) * k], &weights[n * k..(n + 1) * k]);
        let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
        spec::accumulate(codes, weights) - i32::from(kernel.code_offset) * sum
    };
    let operand = Codes {
        bytes: &a,
        stride,
        rows: m,
    };
    let mut c = Guarded::<i32>::aligned(m * nr);
    c.fill(-77);
    kernel.run(operand, &packed, &mut c);
    for (i, value) in c.iter().enumerate() {
        assert_eq!(
            *value,
            expected(i / nr, i % nr),
            "{case} at {:?}",
            (i / nr, i % nr)
        );
    }
}

/// The block leaf with the epilogue of the kernel's set: several panels, the last one partial, `y`
/// strided and ending at the unmapped page.
fn check_block(kernel: Ready<MicroKernel>) {
    for (k, tiles) in [(64, 1), (192, 1), (128, 3)] {
        check_blocks::<f32>(kernel, k, tiles, "random");
    }
    check_blocks::<f16>(kernel, 64, 1, "random");
    check_blocks::<bf16>(kernel, 64, 1, "random");
    for kind in FILLS {
        check_blocks::<f32>(kernel, 64, 2, kind);
    }
}

/// [`check_block`] for `k` inputs and working memory for `tiles` tiles.
fn check_blocks<T: Element + PartialEq + std::fmt::Debug>(
    kernel: Ready<MicroKernel>,
    k: usize,
    tiles: usize,
    kind: &str,
) {
    let (mr, nr) = (kernel.tile.mr, kernel.tile.nr);
    let (max_code, max_weight) = widths(&kernel).into_iter().max().unwrap();
    let epilogue = table::epilogue(kernel.isa, T::ELEM).unwrap();
    let mut rng = Rng(17);
    // Behind two tiles, one of every height.
    for m in around(mr).into_iter().chain(2 * mr + 2..3 * mr) {
        for n in around(nr).into_iter().chain([3 * nr - 2]) {
            let mut codes = vec![0u8; m * k];
            let mut weights = vec![0i8; n * k];
            fill(kind, max_code, max_weight, &mut codes, &mut weights);
            let panel = kernel.tile.panel();
            let mut packed = Guarded::<i8>::aligned(panel.packed_len(n, k).unwrap());
            panel.pack(&weights, k, n, k, &mut packed);
            let stride = codes_stride(k) * kernel.code_bytes();
            let mut a = Guarded::<u8>::new((m - 1) * stride + k * kernel.code_bytes());
            for (r, row) in codes.chunks_exact(k).enumerate() {
                store_codes(kernel, row, &mut a[r * stride..][..k * kernel.code_bytes()]);
            }
            let padded = n.next_multiple_of(nr);
            let comp: Vec<i32> = (0..padded).map(|_| rng.below(999) as i32 - 500).collect();
            let scale: Vec<f32> = (0..padded).map(|_| rng.float() + 2.0).collect();
            let bias: Vec<f32> = (0..padded).map(|_| rng.float()).collect();
            // What the layer does about the offset (eq. 6a).
            let mut stored_comp = comp.clone();
            for (comp, weights) in stored_comp.iter_mut().zip(weights.chunks_exact(k)) {
                let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
                *comp += i32::from(kernel.code_offset) * sum;
            }
            let channels = Channels {
                comp: &stored_comp,
                scale: &scale,
                bias: &bias,
            };
            let y_stride = n + m % 3;
            let mut y = Guarded::<T>::new((m - 1) * y_stride + n);
            let untouched = T::from_f32(-7.0);
            y.fill(untouched);
            let accumulators = tiles * kernel.tile.mr * nr;
            let mut working = Guarded::<i32>::aligned(kernel.wide_panel(k) / 2 + accumulators);
            let out = MatMut::new(&mut y[..], m, n, y_stride).unwrap();
            let operand = Codes {
                bytes: &a,
                stride,
                rows: m,
            };
            kernel.run_block(operand, &packed, epilogue, channels, &mut working, out);
            for (i, value) in y.iter().enumerate() {
                let (r, col) = (i / y_stride, i % y_stride);
                let expected = if col < n {
                    let row = &codes[r * k..(r + 1) * k];
                    let acc = spec::accumulate(row, &weights[col * k..(col + 1) * k]);
                    T::from_f32(spec::output(acc, comp[col], scale[col], bias[col]))
                } else {
                    untouched
                };
                assert_eq!(
                    *value,
                    expected,
                    "{} block {kind} m={m} n={n} at {:?}",
                    kernel.name,
                    (r, col)
                );
            }
        }
    }
}

const SPECIAL: [f32; 12] = [
    0.0,
    -0.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    0.5,
    1.5,
];

fn check_prologue<T: Element>(row: Ready<table::Prologue>) {
    let mut rng = Rng(11);
    for max_code in (spec::MIN_BITS..=spec::MAX_BITS).map(spec::max_code) {
        for k in [
            1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200,
        ] {
            for m in [1, 2, 3] {
                let padded = padded_k(k);
                let x_stride = k + (k * m) % 3;
                let values: Vec<T> = (0..(m - 1) * x_stride + k)
                    .map(|_| match rng.below(4) {
                        0 => SPECIAL[rng.below(12) as usize],
                        1 => (rng.float() * 200.0).round() / 2.0, // exact ties
                        _ => rng.float() * f32::from(max_code),
                    })
                    .map(T::from_f32)
                    .collect();
                let mut inv = Guarded::<f32>::new(padded);
                let mut t = Guarded::<f32>::new(padded);
                for i in 0..k {
                    inv[i] = if i % 3 == 0 {
                        1.0
                    } else {
                        0.01 + rng.float().abs() * 3.0
                    };
                    t[i] = if i % 3 == 0 {
                        f32::from(max_code / 2)
                    } else {
                        rng.float() * 70.0
                    };
                }
                let x = Guarded::from_slice(&values);
                let stride = codes_stride(k);
                let mut codes = Guarded::<u8>::aligned((m - 1) * stride + padded);
                codes.fill(0xa5);
                let view = MatRef::new(&x[..], m, k, x_stride).unwrap();
                // Every stored form: as is, signed, and centred for 6 bits.
                let offset = [0, 128, 32][(k + m) % 3];
                let form = CodeForm {
                    max: max_code,
                    offset,
                };
                row.quantize(view, &inv, &t, form, &mut codes, stride);
                for (i, code) in codes.iter().enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    let expected = match c {
                        _ if c < k => {
                            let x = values[r * x_stride + c].to_f32();
                            spec::code(x, inv[c], t[c], max_code).wrapping_sub(offset)
                        }
                        _ if c < padded => 0u8.wrapping_sub(offset),
                        _ => 0xa5, // between rows: untouched
                    };
                    assert_eq!(
                        *code,
                        expected,
                        "{} m={m} k={k} max={max_code} at {:?}",
                        row.name,
                        (r, c)
                    );
                }
            }
        }
    }
}

fn check_epilogue<T: Element + PartialEq + std::fmt::Debug>(row: Ready<table::Epilogue>) {
    let mut rng = Rng(13);
    // No rows or no columns: nothing is read or written.
    for (m, n) in [(0, 40), (3, 0)] {
        let channels = Channels {
            comp: &[0; 48],
            scale: &[1.0; 48],
            bias: &[0.0; 48],
        };
        let c = Guarded::<i32>::new(m * 48);
        let mut y = Guarded::<T>::new(0);
        let out = MatMut::new(&mut y[..], m, n, n).unwrap();
        row.finish(&c, 48, channels, out);
    }
    for nr in [5, 8, 16, 32, 48] {
        for n in (0..=nr).filter(|n| *n > 0) {
            for m in [1, 2, 3] {
                let mut c = Guarded::<i32>::new(m * nr);
                let mut comp = Guarded::<i32>::new(nr);
                let mut scale = Guarded::<f32>::new(nr);
                let mut bias = Guarded::<f32>::new(nr);
                let magnitude = rng.below(30);
                for value in c.iter_mut().chain(comp.iter_mut()) {
                    *value = (rng.next() as i32 / 2) >> magnitude;
                }
                for (scale, bias) in scale.iter_mut().zip(bias.iter_mut()) {
                    *scale = f32::exp2(rng.below(40) as f32 - 35.0) * (1.0 + rng.float().abs());
                    *bias = rng.float() * f32::exp2(rng.below(20) as f32 - 15.0);
                }
                let channels = Channels {
                    comp: &comp,
                    scale: &scale,
                    bias: &bias,
                };
                let expected = |r: usize, col: usize| {
                    let acc = c[r * nr + col];
                    T::from_f32(spec::output(acc, comp[col], scale[col], bias[col]))
                };
                // Ending at the unmapped page; and at every distance from a cache line, all rows
                // alike, with values in front that must stay.
                let apart = n.next_multiple_of(32);
                let aligned = (0..16).map(|lead| (lead, apart));
                for (lead, y_stride) in std::iter::once((0, n + m % 3)).chain(aligned) {
                    let len = lead + (m - 1) * y_stride + n;
                    let mut y = match y_stride == apart {
                        true => Guarded::<T>::aligned(len),
                        false => Guarded::<T>::new(len),
                    };
                    let untouched = T::from_f32(-7.0);
                    y.fill(untouched);
                    let out = MatMut::new(&mut y[lead..], m, n, y_stride).unwrap();
                    row.finish(&c, nr, channels, out);
                    for (i, value) in y.iter().enumerate() {
                        let at = i.checked_sub(lead).map(|i| (i / y_stride, i % y_stride));
                        let expected = match at {
                            Some((r, col)) if col < n => expected(r, col),
                            _ => untouched,
                        };
                        assert_eq!(
                            *value, expected,
                            "{} nr={nr} n={n} lead={lead} {at:?}",
                            row.name
                        );
                    }
                }
            }
        }
    }
}

/// What the CPU says it has, asked without the crate's own detection.
fn offered() -> BTreeSet<&'static str> {
    let mut isas = BTreeSet::from(["scalar"]);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") && has!("f16c") {
            isas.insert("avx2");
        }
        if has!("avx2") && has!("avxvnni") {
            isas.insert("avxvnni");
        }
        if has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx512vnni") {
            isas.insert("avx512vnni");
            // std cannot tell on stable Rust, the Linux kernel can.
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            if cpuinfo.contains(" amx_int8") && !Isa::Amx.is_refused() {
                isas.insert("amx");
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        for (present, isa) in [
            (has!("neon"), "neon"),
            (has!("dotprod"), "neondotprod"),
            (has!("i8mm"), "neoni8mm"),
        ] {
            isas.extend(present.then_some(isa));
        }
    }
    isas
}

#[test]
fn every_kernel() {
    let mut executed = BTreeSet::new();
    let mut names = Vec::new();
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        check_micro_kernel(kernel);
        check_block(kernel);
        executed.insert(kernel.isa.name());
        names.push(kernel.name);
    }
    for row in table::prologues().filter_map(table::Prologue::ready) {
        match row.source {
            Elem::F32 => check_prologue::<f32>(row),
            Elem::F16 => check_prologue::<f16>(row),
            Elem::Bf16 => check_prologue::<bf16>(row),
        }
        names.push(row.name);
    }
    for row in table::epilogues().filter_map(table::Epilogue::ready) {
        match row.destination {
            Elem::F32 => check_epilogue::<f32>(row),
            Elem::F16 => check_epilogue::<f16>(row),
            Elem::Bf16 => check_epilogue::<bf16>(row),
        }
        names.push(row.name);
    }
    // Not `print!`, which the test harness would swallow.
    let list = executed.iter().copied().collect::<Vec<_>>().join(" ");
    writeln!(
        std::io::stderr(),
        "every_kernel: executed {list}: {}",
        names.join(" ")
    )
    .unwrap();

    let pinned = std::env::var("NOISYQUANT_EXPECT_ISAS");
    let expected = match &pinned {
        Ok(names) => names.split_whitespace().collect(),
        Err(_) => offered(),
    };
    assert_eq!(executed, expected, "kernels executed, and what there is");
}

#[test]
fn rows_of_missing_sets_are_not_ready() {
    for row in table::micro_kernels() {
        assert_eq!(
            row.ready().is_some(),
            row.isa.is_available(),
            "{}",
            row.name
        );
    }
    let foreign = if cfg!(target_arch = "x86_64") {
        Isa::NeonI8mm
    } else {
        Isa::Amx
    };
    assert!(table::prologue(foreign, Elem::F32).is_none());
}

#[test]
fn an_empty_panel_is_refused() {
    for kernel in table::micro_kernels().filter_map(MicroKernel::ready) {
        let codes = Codes {
            bytes: &[],
            stride: 0,
            rows: 1,
        };
        let mut c = Guarded::<i32>::aligned(kernel.tile.nr);
        let empty = Guarded::<i8>::aligned(0);
        let call = std::panic::AssertUnwindSafe(|| kernel.run(codes, &empty, &mut c));
        assert!(std::panic::catch_unwind(call).is_err(), "{}", kernel.name);
    }
}
