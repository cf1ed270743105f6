"""A photo as a model wants it: what `preprocessor_config.json` says, in Pillow."""
import json
from pathlib import Path

import numpy as np
from PIL import Image


def config(checkpoint: Path) -> dict:
    return json.loads((checkpoint / "preprocessor_config.json").read_text())


def files(folder: Path) -> list[Path]:
    """The folder's photos by name."""
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"{folder}: no .jpg, .jpeg or .png")
    return found


def read(file: Path, config: dict) -> np.ndarray:
    """[3, height, width] f32: shorter side resized, centre cropped, rescaled and normalised."""
    image = Image.open(file).convert("RGB")
    shorter = config["size"]["shortest_edge"]
    scale = shorter / min(image.size)
    # transformers truncates the longer side
    size = tuple(shorter if side == min(image.size) else int(side * scale) for side in image.size)
    image = image.resize(size, config["resample"])
    crop = config["crop_size"]
    left, top = (image.width - crop["width"]) // 2, (image.height - crop["height"]) // 2
    image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32) * np.float32(config["rescale_factor"])
    mean, std = np.float32(config["image_mean"]), np.float32(config["image_std"])
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def read_all(files: list[Path], config: dict) -> np.ndarray:
    """[n, 3, height, width]"""
    return np.stack([read(file, config) for file in files])
