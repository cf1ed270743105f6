"""A photo as a model wants it: what `preprocessor_config.json` or timm's `config.json` says, in Pillow."""
import json
from pathlib import Path

import numpy as np
from PIL import Image

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def config(checkpoint: Path) -> dict:
    """transformers' entries, also where the checkpoint is timm's."""
    file = checkpoint / "preprocessor_config.json"
    if file.exists():
        return json.loads(file.read_text())
    stated = json.loads((checkpoint / "config.json").read_text())["pretrained_cfg"]
    _, height, width = stated["input_size"]
    return {
        "size": {"shortest_edge": int(height / stated["crop_pct"])},
        "resample": RESAMPLE[stated["interpolation"]],
        "crop_size": {"height": height, "width": width},
        "rescale_factor": 1 / 255,
        "image_mean": stated["mean"],
        "image_std": stated["std"],
        "half_to_even": True,  # torchvision's crop, which timm takes
    }


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
    whole = round if config.get("half_to_even") else int
    left, top = whole((image.width - crop["width"]) / 2), whole((image.height - crop["height"]) / 2)
    image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    pixels = np.asarray(image, np.float32) * np.float32(config["rescale_factor"])
    mean, std = np.float32(config["image_mean"]), np.float32(config["image_std"])
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def read_all(files: list[Path], config: dict) -> np.ndarray:
    """[n, 3, height, width]"""
    return np.stack([read(file, config) for file in files])
