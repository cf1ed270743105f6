"""torchvision's Swin-T or ViT-B/16 with random weights: a checkpoint by timm's names, the ONNX graph, logits.

    python torchvision_models.py swin_t --images PHOTOS --out /tmp/swin_t
    python torchvision_models.py vit_b_16 --images PHOTOS --out /tmp/vit_b_16

Writes model.safetensors and config.json as timm stores them, model.onnx (one image in, logits out), and
logits.safetensors: `images` [n, 3, 224, 224] (as config.json has them, in Pillow) and what torchvision makes
of them in f32, `logits` [n, classes]; the metadata's `files` is a JSON list of the photos' names in the same
order. The weights are the same on every run. Needs PyTorch and torchvision, and no timm.
"""
import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
import torchvision
from safetensors.torch import save_file

import photos

CLASSES = 1000
SEED = 0
BUFFER = "relative_position_index"


@dataclass(frozen=True)
class Original:
    build: Callable[[], torch.nn.Module]
    opset: int  # the least that has what the graph needs
    architecture: str  # timm's name
    pool: str  # what timm says of the features
    renamed: list  # (pattern, replacement) in order: torchvision's names to timm's


def stage(part):
    """`features` of torchvision has stages and the mergings before them in turn."""
    return lambda found: f"layers.{int(found[1]) // 2}.{part}."


ORIGINALS = {
    "swin_t": Original(torchvision.models.swin_t, 16, "swin_tiny_patch4_window7_224", "avg", [
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        (r"^features\.(\d)\.(?=\d)", stage("blocks")),
        (r"^features\.(\d)\.", stage("downsample")),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"^head\.", "head.fc."),
    ]),
    "vit_b_16": Original(torchvision.models.vit_b_16, 14, "vit_base_patch16_224", "token", [
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.layers\.encoder_layer_", "blocks."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"^encoder\.ln\.", "norm."),
        (r"^heads\.head\.", "head."),
    ]),
}


def config(original, features):
    """config.json as timm writes it."""
    return {
        "architecture": original.architecture,
        "num_classes": CLASSES,
        "num_features": features,
        "global_pool": original.pool,
        "pretrained_cfg": {
            "num_classes": CLASSES,
            "input_size": [3, 224, 224],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }


def randomise(model):
    """So that no tensor can be left out or taken for another: torchvision starts with norms of one and biases
    of zero. With larger biases all photos would have almost the same logits.
    """
    generator = torch.Generator().manual_seed(SEED)
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith(BUFFER):
            continue
        draw = torch.randn(tensor.shape, generator=generator)
        if name.endswith("weight") and tensor.ndim == 1:
            draw = 0.5 + torch.rand(tensor.shape, generator=generator)
        elif name.endswith("weight"):
            draw = draw / tensor[0].numel() ** 0.5
        elif not name.endswith("relative_position_bias_table"):
            draw = draw / 10  # biases, tokens, positions
        tensor.copy_(draw)


def by_timms_names(original, tensors):
    """All tensors have timm's shapes already; only the buffer of indices is left out."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in original.renamed:
            name = re.sub(pattern, replacement, name)
        if not name.endswith(BUFFER):
            renamed[name] = tensor
    return renamed


def export(model, opset, image, file):
    # Without gradients torchvision's ViT would take PyTorch's fused layers, which ONNX does not know.
    with torch.enable_grad():
        torch.onnx.export(model, image, file, opset_version=opset, input_names=["images"],
                          output_names=["logits"])


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=ORIGINALS)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, help="only that many, first by name")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()

    original = ORIGINALS[arguments.model]
    model = original.build().eval()
    randomise(model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tensors = by_timms_names(original, model.state_dict())
    save_file(tensors, arguments.out / "model.safetensors", {"format": "pt"})
    written = config(original, len(tensors["norm.weight"]))
    (arguments.out / "config.json").write_text(json.dumps(written, indent=2) + "\n")

    files = photos.files(arguments.images)[:arguments.limit]
    images = torch.from_numpy(photos.read_all(files, photos.config(arguments.out)))
    export(model, original.opset, images[:1], arguments.out / "model.onnx")
    logits = torch.cat([model(image[None]) for image in images])
    names = json.dumps([file.name for file in files])
    save_file({"images": images, "logits": logits}, arguments.out / "logits.safetensors", {"files": names})
    print(f"{arguments.out}: {arguments.model}, {len(files)} photos")


if __name__ == "__main__":
    main()
