"""Golden vectors for tests/golden.rs, from the paper's equations in plain numpy.

    pip install -r tests/golden/requirements.txt && python tests/golden/make.py

Independent of the crate: nothing here is translated from it. Inputs are exact multiples of 2^-10, so
that the crate reads the very numbers that are used here. Writes layers.json beside this file.
"""
import json
import pathlib

import numpy as np

f32, f64 = np.float32, np.float64


def fma(x, a, b):
    """Rounded once to f32: the product of two f32 is exact in f64, and the sum nearly so."""
    return (x.astype(f64) * a.astype(f64) + b.astype(f64)).astype(f32)


def layer(seed, m, k, n, wbits, abits, steps):
    rng = np.random.default_rng(seed)
    grid = lambda v: (np.round(v * 1024) / 1024).astype(f32)
    x = grid(rng.normal(size=(m, k)) * np.exp(rng.normal(size=k)))
    w, b = grid(rng.normal(size=(n, k)) * 0.5), grid(rng.normal(size=n))
    unit = (rng.integers(-(1 << 12), 1 << 12, size=k) / (1 << 12)).astype(f32)

    # Weights: symmetric, per output channel.
    q = 2 ** (wbits - 1) - 1
    s_w = (np.abs(w).max(1) / f32(q)).astype(f32)
    wq = np.clip(np.rint(w / s_w[:, None]), -q, q).astype(np.int64)
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
    flat = lambda v: [float(e) for e in np.ravel(v)]
    return {
        "m": m, "k": k, "n": n, "weight_bits": wbits, "activation_bits": abits,
        "x": flat(x), "weight": flat(w), "bias": flat(b), "unit_noise": flat(unit),
        "ranges": flat(np.array(ranges)), "errors": flat(np.array(errors)), "best": best,
        "activation_scale": float(s_x), "weight_scales": flat(s_w),
        "weight_codes": [int(e) for e in wq.ravel()],
        "code_sums": [int(e) for e in u.sum(1)],
        "y": flat(y),
    }


layers = [
    layer(1, 12, 20, 6, 8, 8, range(17)),
    layer(2, 10, 24, 5, 6, 6, range(17)),
    layer(3, 14, 16, 7, 4, 4, range(17)),
]
path = pathlib.Path(__file__).with_name("layers.json")
path.write_text(json.dumps(layers, separators=(",", ":")) + "\n")
