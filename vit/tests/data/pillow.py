"""Writes what `tests/photo.rs` compares with: Pillow's resize of a small synthetic picture.

    pip install pillow numpy && python pillow.py      (Pillow 13.0 wrote the files here)
"""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 45, 61
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
SIZES = {"smaller": (20, 27), "larger": (60, 81)}  # height, width

y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
red = (x * 37 + y * 11) % 256
green = (x * x + 3 * y * y) // 7 % 256
blue = (x // 5 + y // 4) % 2 * 255
picture = Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))

folder = Path(__file__).parent
for name, kernel in FILTERS.items():
    for size, (height, width) in SIZES.items():
        picture.resize((width, height), kernel).save(folder / f"pillow-{name}-{size}.png")
