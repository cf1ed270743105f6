use aligned_vec::{AVec, ConstAlign};
use noisyquant::{DynamicMatmul, Isa};

use super::{
    super::lines::Lines,
    attend::{Arithmetic, AttentionScratch, AttentionSizes},
    exponential::exp2,
    heads::{Bias, Heads, Mixed},
};

/// Numbers in −1 .. 1 that look random.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Memory of attention in any arithmetic. What it holds at first must not matter.
struct Memory {
    sizes: AttentionSizes,
    bytes: AVec<u8, ConstAlign<64>>,
}

impl Memory {
    fn new(heads: Heads, threads: usize) -> Self {
        let arithmetics = Isa::available().map(int8);
        let arithmetics: Vec<Arithmetic> = arithmetics.collect();
        let sizes = AttentionSizes::new([heads], arithmetics, threads);
        let mut bytes = AVec::new(64);
        bytes.resize(sizes.bytes(), 0xff);
        Self { sizes, bytes }
    }

    fn cut(&mut self) -> AttentionScratch<'_> {
        self.sizes.cut(&mut Lines(&mut self.bytes))
    }
}

fn int8(isa: Isa) -> Arithmetic {
    Arithmetic::Int8(DynamicMatmul::new(Some(isa)).expect("kernels"))
}

fn attend(heads: Heads, qkv: &[f32], bias: Option<Bias<'_>>, scratch: &mut Memory) -> Vec<f32> {
    let mut mixed = vec![f32::NAN; qkv.len() / 3];
    let scratch = &mut scratch.cut();
    let done = heads.attend(
        Arithmetic::Float,
        qkv,
        bias,
        Mixed::numbers(&mut mixed, heads.width),
        scratch,
    );
    done.expect("sizes that fit");
    mixed
}

/// The same in integers.
fn attend_int8(isa: Isa, heads: Heads, qkv: &[f32], scratch: &mut Memory) -> Vec<f32> {
    let mut mixed = vec![f32::NAN; qkv.len() / 3];
    let scratch = &mut scratch.cut();
    let done = heads.attend(
        int8(isa),
        qkv,
        None,
        Mixed::numbers(&mut mixed, heads.width),
        scratch,
    );
    done.expect("sizes that fit");
    mixed
}

/// The instruction set that a test without a choice runs on.
fn usual_isa() -> Isa {
    DynamicMatmul::new(None).expect("kernels").isa()
}

/// The definition, in f64, of queries of all tokens.
fn exact(heads: Heads, qkv: &[f32], bias: Option<Bias<'_>>) -> Vec<f64> {
    let Heads {
        tokens,
        width,
        heads: count,
        ..
    } = heads;
    let features = width / count;
    let mut mixed = vec![0.0; qkv.len() / 3];
    let at = |sequence: usize, token: usize, part: usize, feature: usize| {
        f64::from(qkv[((sequence * tokens + token) * 3 + part) * width + feature])
    };
    for sequence in 0..mixed.len() / (tokens * width) {
        for (head, query) in (0..count).flat_map(|head| (0..tokens).map(move |q| (head, q))) {
            let part = head * features..(head + 1) * features;
            let score = |key: usize| {
                let dot: f64 = part
                    .clone()
                    .map(|f| at(sequence, query, 0, f) * at(sequence, key, 1, f))
                    .sum();
                let cell = |square: usize| (square * tokens + query) * tokens + key;
                let mut score = dot / (features as f64).sqrt();
                if let Some(bias) = bias {
                    score += f64::from(bias.per_head[cell(head)]);
                    if let Some(mask) = bias.mask {
                        let windows = mask.len() / tokens / tokens;
                        score += f64::from(mask[cell(sequence % windows)]);
                    }
                }
                score
            };
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for f in part.clone() {
                mixed[(sequence * tokens + query) * width + f] = (0..tokens)
                    .map(|key| weights[key] / sum * at(sequence, key, 2, f))
                    .sum();
            }
        }
    }
    mixed
}

fn assert_close(got: &[f32], exact: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), exact.len());
    for (at, (got, exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(*got) - exact).abs();
        assert!(
            error < tolerance,
            "{what}: number {at} is {got}, not {exact}"
        );
    }
}

#[test]
fn odd_sizes_against_f64() {
    for (tokens, sequences) in [(1, 3), (2, 1), (7, 5), (31, 2), (49, 5), (197, 1), (257, 1)] {
        for features in [4, 12, 16, 32, 64, 80] {
            let (heads, count) = (2, sequences * tokens);
            let width = heads * features;
            let sizes = Heads {
                tokens,
                queries: tokens,
                width,
                heads,
            };
            let qkv: Vec<f32> = numbers(count * 3 * width, 1)
                .iter()
                .map(|x| 3.0 * x)
                .collect();
            let per_head = numbers(heads * tokens * tokens, 2);
            let mask = numbers(3 * tokens * tokens, 3);
            let mut scratch = Memory::new(sizes, 1);
            let without = None;
            let with = Some(Bias {
                per_head: &per_head,
                mask: None,
            });
            let masked = Some(Bias {
                per_head: &per_head,
                mask: Some(&mask),
            });
            for bias in [without, with, masked] {
                let got = attend(sizes, &qkv, bias, &mut scratch);
                let what = format!("{sizes:?}, {sequences} sequences");
                assert_close(&got, &exact(sizes, &qkv, bias), 1e-5, &what);
            }
        }
    }
}

#[test]
fn integers_are_close_to_f64_and_the_same_on_every_isa() {
    for (tokens, sequences) in [(1, 2), (2, 1), (15, 3), (33, 2), (197, 1), (257, 2)] {
        for features in [4, 32, 64, 80] {
            let (heads, width) = (2, 2 * features);
            let sizes = Heads {
                tokens,
                queries: tokens,
                width,
                heads,
            };
            let qkv: Vec<f32> = numbers(sequences * tokens * 3 * width, 1)
                .iter()
                .map(|x| 2.0 * x)
                .collect();
            let mut scratch = Memory::new(sizes, 1);
            let scalar = attend_int8(Isa::Scalar, sizes, &qkv, &mut scratch);
            // Of values up to 2, a code of which is 0.016.
            let what = format!("{sizes:?}, {sequences} sequences");
            assert_close(&scalar, &exact(sizes, &qkv, None), 0.05, &what);
            for isa in Isa::available() {
                let got = attend_int8(isa, sizes, &qkv, &mut scratch);
                assert_eq!(got, scalar, "{what}, {isa}");
            }
        }
    }
}

#[test]
fn many_small_exponentials_are_not_lost() {
    // One key has e^6.5 = 665 times the weight of each of 500 others, which are 0.38 of a level.
    let (tokens, features) = (501, 64);
    let sizes = Heads {
        tokens,
        queries: tokens,
        width: features,
        heads: 1,
    };
    let mut qkv = vec![0.0; tokens * 3 * features];
    for (token, row) in qkv.chunks_mut(3 * features).enumerate() {
        row[0] = 8.0; // q
        row[features] = if token == 7 { 6.5 } else { 0.0 }; // k
        row[2 * features..].fill(if token == 7 { 0.0 } else { 1.0 }); // v
    }
    let mut scratch = Memory::new(sizes, 1);
    let share = 500.0 / (500.0 + 6.5f64.exp());
    let exact = vec![share; tokens * features];
    let got = attend_int8(usual_isa(), sizes, &qkv, &mut scratch);
    assert_close(&got, &exact, 0.01 * share, "the others' share");
}

#[test]
fn integers_at_extremes_stay_finite() {
    let sizes = Heads {
        tokens: 70,
        queries: 70,
        width: 64,
        heads: 1,
    };
    let mut scratch = Memory::new(sizes, 1);
    for special in [0.0, 1e4, -1e-30, 1e15, f32::NAN] {
        for part in 0..3 {
            let mut qkv = numbers(70 * 3 * 64, 11);
            for row in qkv.chunks_mut(3 * 64) {
                row[part * 64 + 5] = special;
            }
            let got = attend_int8(usual_isa(), sizes, &qkv, &mut scratch);
            assert!(got.iter().all(|x| x.is_finite()), "{special} in {part}");
        }
    }
}

#[test]
fn extreme_scores() {
    let sizes = Heads {
        tokens: 49,
        queries: 49,
        width: 32,
        heads: 1,
    };
    // Scores of about ± 1e4: softmax is all but a maximum.
    let qkv: Vec<f32> = numbers(49 * 96, 4)
        .iter()
        .enumerate()
        .map(|(at, x)| if at % 96 < 64 { 100.0 * x } else { *x })
        .collect();
    let mut scratch = Memory::new(sizes, 1);
    let got = attend(sizes, &qkv, None, &mut scratch);
    assert_close(&got, &exact(sizes, &qkv, None), 2e-3, "large scores");

    let mut bias = vec![0.0; 49 * 49];
    for (at, bias) in bias.iter_mut().enumerate() {
        *bias = [-1e4, 1e4, 0.0][at % 3];
    }
    let qkv = numbers(49 * 96, 5);
    let biased = Some(Bias {
        per_head: &bias,
        mask: None,
    });
    // 1e4 leaves ten bits of f32 for what is added to it.
    let got = attend(sizes, &qkv, biased, &mut scratch);
    assert_close(&got, &exact(sizes, &qkv, biased), 2e-3, "large bias");
}

#[test]
fn an_infinite_mask_hides_keys_to_the_bit() {
    let sizes = Heads {
        tokens: 37,
        queries: 37,
        width: 48,
        heads: 3,
    };
    let per_head = vec![0.0; 3 * 37 * 37];
    let mut mask = vec![0.0; 37 * 37];
    for (at, mask) in mask.iter_mut().enumerate() {
        if at % 37 > at / 37 {
            *mask = f32::NEG_INFINITY; // causal
        }
    }
    let bias = Some(Bias {
        per_head: &per_head,
        mask: Some(&mask),
    });
    let mut qkv = numbers(37 * 3 * 48, 6);
    let mut scratch = Memory::new(sizes, 1);
    let before = attend(sizes, &qkv, bias, &mut scratch);
    assert_close(&before, &exact(sizes, &qkv, bias), 4e-6, "causal mask");
    // Token 20 and later must not reach those before.
    for x in &mut qkv[20 * 3 * 48..] {
        *x = 7.0 - *x;
    }
    let after = attend(sizes, &qkv, bias, &mut scratch);
    assert_eq!(before[..20 * 48], after[..20 * 48]);
    assert_ne!(before[20 * 48..], after[20 * 48..]);
}

#[test]
fn not_a_number_stays_in_its_row_and_key() {
    let sizes = Heads {
        tokens: 10,
        queries: 10,
        width: 16,
        heads: 1,
    };
    let mut scratch = Memory::new(sizes, 1);
    let mut query = numbers(10 * 48, 7);
    query[3 * 48] = f32::NAN;
    for (row, mixed) in attend(sizes, &query, None, &mut scratch)
        .chunks(16)
        .enumerate()
    {
        assert!(mixed.iter().all(|x| x.is_nan() == (row == 3)), "row {row}");
    }
    let mut key = numbers(10 * 48, 7);
    key[3 * 48 + 16] = f32::NAN;
    assert!(
        attend(sizes, &key, None, &mut scratch)
            .iter()
            .all(|x| x.is_nan())
    );
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // The first are divided by heads for two threads, and by windows or queries for others.
    for (tokens, sequences, heads, windows) in [
        (257, 1, 6, 0),
        (49, 3, 2, 3),
        (70, 1, 4, 1),
        (197, 3, 3, 0),
        (49, 16, 3, 4),
    ] {
        let sizes = Heads {
            tokens,
            queries: tokens,
            width: 96,
            heads,
        };
        let qkv = numbers(sequences * tokens * 3 * 96, 8);
        let per_head = numbers(heads * tokens * tokens, 9);
        let mut mask = numbers(windows * tokens * tokens, 10);
        mask.iter_mut()
            .step_by(5)
            .for_each(|hidden| *hidden = f32::NEG_INFINITY);
        let bias = Some(Bias {
            per_head: &per_head,
            mask: (windows > 0).then_some(&mask[..]),
        });
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut scratch = Memory::new(sizes, threads);
            pool.expect("a pool")
                .install(|| attend(sizes, &qkv, bias, &mut scratch))
        };
        let one = on(1);
        assert!(one.iter().all(|number| number.is_finite()));
        for threads in 2..=7 {
            assert_eq!(one, on(threads), "{threads} threads, {tokens} tokens");
        }
        let int8 = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut scratch = Memory::new(sizes, threads);
            pool.expect("a pool")
                .install(|| attend_int8(usual_isa(), sizes, &qkv, &mut scratch))
        };
        let one = int8(1);
        for threads in 2..=7 {
            assert_eq!(one, int8(threads), "{threads} threads, {tokens} tokens");
        }
    }
}

#[test]
fn fewer_queries_give_the_bits_that_all_give() {
    let (tokens, features, sequences) = (101, 64, 3);
    let all = Heads {
        tokens,
        queries: tokens,
        width: 2 * features,
        heads: 2,
    };
    let width = all.width;
    let qkv = numbers(sequences * tokens * 3 * width, 12);
    for arithmetic in [Arithmetic::Float, int8(usual_isa())] {
        let attend = |heads: Heads, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut memory = Memory::new(heads, threads);
            let mut mixed = vec![f32::NAN; sequences * heads.queries * width];
            let done = pool.expect("a pool").install(|| {
                let scratch = &mut memory.cut();
                heads.attend(
                    arithmetic,
                    &qkv,
                    None,
                    Mixed::numbers(&mut mixed, heads.width),
                    scratch,
                )
            });
            done.expect("sizes that fit");
            mixed
        };
        let expected = attend(all, 1);
        for queries in [1, 2, 32, 33, 70] {
            let first = expected.chunks(tokens * width);
            let first = first.flat_map(|rows| &rows[..queries * width]);
            let first: Vec<f32> = first.copied().collect();
            for threads in [1, 2, 3, 5] {
                let few = Heads { queries, ..all };
                assert_eq!(attend(few, threads), first, "{queries}, {threads} threads");
            }
        }
    }
}

#[test]
fn exp2_is_good_to_2e_7() {
    struct Exp2<'a>(&'a mut [f32]);
    impl pulp::WithSimd for Exp2<'_> {
        type Output = ();

        fn with_simd<S: pulp::Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = exp2(simd, *x);
            }
        }
    }
    let x: Vec<f32> = (0..1_260_000).map(|step| -step as f32 * 1e-4).collect();
    let mut y = x.clone();
    pulp::Arch::new().dispatch(Exp2(&mut y));
    for (x, y) in x.iter().zip(y) {
        let error = (f64::from(y) / f64::from(*x).exp2() - 1.0).abs();
        assert!(
            error < 2e-7,
            "exp2({x}) is off by a factor of 1 + {error:e}"
        );
    }
    let mut ends = [f32::NEG_INFINITY, -1e30, -127.0, 0.0].repeat(8);
    ends.extend([f32::NAN; 32]);
    pulp::Arch::new().dispatch(Exp2(&mut ends));
    for (at, end) in ends[..32].iter().enumerate() {
        assert_eq!(*end, [0.0, 0.0, 0.0, 1.0][at % 4]);
    }
    assert!(ends[32..].iter().all(|end| end.is_nan()));
}
