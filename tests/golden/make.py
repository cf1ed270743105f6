"""Golden vectors for tests/golden.rs, from the paper's equations in plain numpy.

    pip install -r tests/golden/requirements.txt && python tests/golden/make.py

Independent of the crate: nothing here is translated from it. Inputs are exact multiples of 2^-10, so
that the crate reads the very numbers that are used here. Writes layers.json, searched.json and qdq.json
beside this file.
"""
import json
import pathlib
from fractions import Fraction

import numpy as np

f32, f64 = np.float32, np.float64


def fma(x, a, b):
    """Rounded once to f32: the product of two f32 is exact in f64, and the sum nearly so."""
    return (x.astype(f64) * a.astype(f64) + b.astype(f64)).astype(f32)


def grid(v):
    return (np.round(v * 1024) / 1024).astype(f32)


def flat(v):
    return [e.item() for e in np.ravel(v)]


def least(errors):
    """The first least one, which must be so by a margin that rounding cannot bridge."""
    errors = np.array(errors)
    others = errors[errors != errors.min()]
    assert others.min() > errors.min() * (1 + 1e-4), "a tie: take another seed"
    return int(np.argmin(errors))


def quantized_weights(w, s_w, bits):
    q = 2 ** (bits - 1) - 1
    return np.clip(np.rint(w / s_w[:, None]), -q, q).astype(np.int64)


def layer(seed, m, k, n, wbits, abits, steps):
    rng = np.random.default_rng(seed)
    x = grid(rng.normal(size=(m, k)) * np.exp(rng.normal(size=k)))
    w, b = grid(rng.normal(size=(n, k)) * 0.5), grid(rng.normal(size=n))
    unit = (rng.integers(-(1 << 12), 1 << 12, size=k) / (1 << 12)).astype(f32)

    # Weights: symmetric, per output channel.
    q = 2 ** (wbits - 1) - 1
    s_w = (np.abs(w).max(1) / f32(q)).astype(f32)
    wq = quantized_weights(w, s_w, wbits)
    # Activations: symmetric, per layer; signed codes offset by 2^(b-1).
    s_x = f32(np.abs(x).max() / f32(2 ** (abits - 1) - 1))
    inv = np.full(k, 1.0 / f64(s_x)).astype(f32)

    def forward(noise):
        t = (noise.astype(f64) / f64(s_x) + 2 ** (abits - 1)).astype(f32)
        u = np.clip(np.rint(fma(x, inv, t)), 0, 2**abits - 1).astype(np.int64)
        # f(X) = Qw(W) Qa(X + N) + (B - Qw(W) N)
        y = (u - t.astype(f64)) @ wq.T * f64(s_x) * s_w.astype(f64) + b.astype(f64)
        return u, y

    # NoisyQuant: n by linear search of the output error; the noise is n times a given draw.
    target = x.astype(f64) @ w.T.astype(f64) + b.astype(f64)
    ranges = [f32(i / 8) * s_x for i in steps]
    errors = [((forward(unit * n)[1] - target) ** 2).mean() for n in ranges]
    best = int(np.argmin(errors))
    u, y = forward(unit * ranges[best])
    return {
        "m": m, "k": k, "n": n, "weight_bits": wbits, "activation_bits": abits,
        "x": flat(x), "weight": flat(w), "bias": flat(b), "unit_noise": flat(unit),
        "ranges": flat(np.array(ranges)), "errors": flat(np.array(errors)), "best": best,
        "activation_scale": float(s_x), "weight_scales": flat(s_w),
        "weight_codes": flat(wq),
        "codes": flat(u),
        "y": flat(y),
    }


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def easyquant(seed, m, k, n, bits):
    """EasyQuant (Wu et al. 2020): scales by cosine similarity of the outputs, in turn."""
    rng = np.random.default_rng(seed)
    x = grid(rng.standard_t(3, size=(m, k)))
    w, b = grid(rng.standard_t(4, size=(n, k)) * 0.5), grid(rng.normal(size=n))
    target = x.astype(f64) @ w.T.astype(f64) + b.astype(f64)
    levels = f32(2 ** (bits - 1) - 1)
    zero = 2 ** (bits - 1)

    def forward(s_x, s_w):
        inv = np.full(k, 1.0 / f64(s_x)).astype(f32)
        u = np.clip(np.rint(fma(x, inv, np.full(k, zero, f32))), 0, 2**bits - 1).astype(np.int64)
        wq = quantized_weights(w, s_w, bits)
        return u, wq, (u - zero) @ wq.T * f64(s_x) * s_w.astype(f64) + b.astype(f64)

    ranges = [f32(1) - f32(0.025) * f32(i) for i in range(37)] + [f32(1.1), f32(1.1) + f32(0.1)]
    ranges = [np.abs(x).max() * f for f in ranges]
    clips = [f32(1) - f32(0.04) * f32(i) for i in range(16)]
    widest = (np.abs(w).max(1) / levels).astype(f32)
    chosen, s_w = ranges[0], widest
    for _ in range(2):
        tried = [chosen] + ranges
        errors = [1 - cosine(forward(f32(r / levels), s_w)[2], target) for r in tried]
        chosen = tried[least(errors)]
        s_x = f32(chosen / levels)
        outputs = [forward(s_x, (widest * f).astype(f32))[2] for f in clips]
        best = [least([1 - cosine(y[:, c], target[:, c]) for y in outputs]) for c in range(n)]
        s_w = np.array([widest[c] * clips[i] for c, i in enumerate(best)], f32)
    u, wq, y = forward(s_x, s_w)
    return {
        "m": m, "k": k, "n": n, "bits": bits, "x": flat(x), "weight": flat(w), "bias": flat(b),
        "range": [float(-chosen), float(chosen)], "shift": None, "activation_scale": float(s_x),
        "weight_scales": flat(s_w), "weight_codes": flat(wq), "codes": flat(u), "y": flat(y),
    }


def twin(seed, m, k, n, bits):
    """PTQ4ViT's twin uniform quantizer (Yuan et al. 2022), both steps by output MSE."""
    rng = np.random.default_rng(seed)
    v = rng.standard_t(3, size=(m, k))
    x = grid(np.where(v < 0, 0.17 * np.tanh(v), 2 * v))  # as after GELU
    w, b = grid(rng.standard_t(4, size=(n, k)) * 0.5), grid(rng.normal(size=n))
    target = x.astype(f64) @ w.T.astype(f64) + b.astype(f64)
    half = 2 ** (bits - 1)
    # Weights: the clip with the least squared error, weighed by the inputs' second moments.
    widest = (np.abs(w).max(1) / f32(half - 1)).astype(f32)
    clips = [f32(1) - f32(0.02) * f32(i) for i in range(31)]
    moments = (x.astype(f64) ** 2).mean(0)
    scales = [(widest * f).astype(f32) for f in clips]
    wrong = [w - quantized_weights(w, s, bits) * s[:, None].astype(f64) for s in scales]
    errors = np.array([(e * e * moments).sum(1) for e in wrong])
    s_w = np.array([scales[least(errors[:, c])][c] for c in range(n)], f32)
    wq = quantized_weights(w, s_w, bits)

    def forward(step, shift):
        inv = np.full(k, 1.0 / f64(step)).astype(f32)
        coarse_inv = (inv.astype(f64) / 2**shift).astype(f32)
        fine = np.clip(np.rint(fma(x, inv, np.full(k, half, f32))), 0, half)
        coarse = np.clip(np.rint(fma(x, coarse_inv, np.zeros(k, f32))), 0, half - 1)
        u = (fine + coarse * 2**shift).astype(np.int64)
        return u, (u - half) @ wq.T * f64(step) * s_w.astype(f64) + b.astype(f64)

    largest = np.abs(x).max()
    assert largest == x.max()
    fractions = [f32(1) - f32(0.025) * f32(i) for i in range(0, 37, 4)]
    tried = [(f32(largest * f), shift) for shift in range(7) for f in fractions]
    steps = [f32(f32(high / f32(half - 1)) / f32(2**shift)) for high, shift in tried]
    errors = [((forward(s, t[1])[1] - target) ** 2).mean() for s, t in zip(steps, tried)]
    best = least(errors)
    (high, shift), step = tried[best], steps[best]
    u, y = forward(step, shift)
    return {
        "m": m, "k": k, "n": n, "bits": bits, "x": flat(x), "weight": flat(w), "bias": flat(b),
        "range": [float(-step * f32(half)), float(high)], "shift": shift,
        "activation_scale": float(step), "weight_scales": flat(s_w), "weight_codes": flat(wq),
        "codes": flat(u), "y": flat(y),
    }


def qdq(seed, m, k, n, wbits, abits, zero):
    """A quantized layer as ONNX writes it: QuantizeLinear of the inputs to u8 (or fewer bits) with a zero
    point, weights s8 per output channel, MatMulInteger, and scale and bias in f32."""
    rng = np.random.default_rng(seed)
    top, least_weight = 2**abits - 1, -(2 ** (wbits - 1))
    u = rng.integers(0, top + 1, size=(m, k))
    wq = rng.integers(least_weight, -least_weight, size=(n, k))
    wq[0, : k // 2] = least_weight  # -128: no code that this project makes
    u[0, : k // 2] = top
    s_x, s_w = f32(rng.uniform(0.01, 0.1)), rng.uniform(0.001, 0.01, size=n).astype(f32)
    b = rng.normal(size=n).astype(f32)
    x = ((u - zero).astype(f32) * s_x).astype(f32)
    again = np.clip(np.rint(x / s_x) + zero, 0, top).astype(np.int64)  # QuantizeLinear
    assert (again == u).all()
    sums = (u - zero) @ wq.T
    assert np.abs(sums).max() < 2**24, "the sums are exact in f32"
    scale = (s_x * s_w).astype(f32)
    y = [[nearest(Fraction(int(a)) * Fraction(float(s)) + Fraction(float(o)))
          for a, s, o in zip(row, scale, b)] for row in sums]
    return {
        "m": m, "k": k, "n": n, "weight_bits": wbits, "activation_bits": abits, "x": flat(x),
        "weight_codes": flat(wq), "weight_scales": flat(s_w), "activation_scale": float(s_x),
        "zero_point": zero, "bias": flat(b), "y": flat(y),
    }


def nearest(exact):
    """An exact number rounded once to f32, ties to even."""
    near = f32(float(exact))
    tried = [np.nextafter(near, f32(-np.inf)), near, np.nextafter(near, f32(np.inf))]
    odd = [int(v.view(np.uint32)) & 1 for v in tried]
    return min(zip(tried, odd), key=lambda v: (abs(Fraction(float(v[0])) - exact), v[1]))[0]


layers = [
    layer(1, 12, 20, 6, 8, 8, range(17)),
    layer(2, 10, 24, 5, 6, 6, range(17)),
    layer(3, 14, 16, 7, 4, 4, range(17)),
]
searched = {
    "easyquant": [easyquant(11, 40, 20, 6, 8), easyquant(12, 30, 24, 5, 6), easyquant(13, 30, 16, 7, 4)],
    "twin": [twin(21, 40, 20, 6, 8), twin(22, 30, 24, 5, 6), twin(23, 30, 16, 7, 4)],
}
made_elsewhere = [
    qdq(31, 5, 70, 9, 8, 8, 113),
    qdq(32, 4, 64, 17, 8, 8, 0),
    qdq(33, 3, 33, 40, 8, 8, 255),
    qdq(34, 4, 65, 20, 4, 8, 7),
    qdq(35, 4, 130, 5, 6, 6, 31),
    qdq(36, 3, 96, 33, 8, 6, 45),
]
for name, content in [("layers", layers), ("searched", searched), ("qdq", made_elsewhere)]:
    path = pathlib.Path(__file__).with_name(f"{name}.json")
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
