"""Golden checkpoints: small models of random weights, and what timm and transformers make of them.

    pip install -r vit/golden/requirements.txt && python vit/golden/make.py

Writes a folder a variant beside this file: the checkpoint in the library's own form, and
golden.safetensors with `images` [n, 3, size, size] (normalised), `features` [n, width] (the class token
after the last norm; for Swin the mean of all tokens) and, where there is a head, `logits` [n, classes]; where
the variant has another size, also `other_images`, `other_features` and `other_logits` of that size.
All outputs are computed in f32 with plain attention from the weights as they are stored, by a model that
was loaded again from disk. Weights are drawn so that no tensor can be left out, scaled, transposed or taken
for another without moving the outputs, and that is checked here for every tensor.
"""
import argparse
import copy
import inspect
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import set_fused_attn

from variants import VARIANTS

HERE = Path(__file__).parent
IMAGES = 2
# Least change of the outputs, relative to the largest, when one tensor is changed. Tests allow 1e-4.
NOTICED = 1e-3
# Adding one vector to all keys adds the same to each of a query's scores: softmax does not see it.
# The mask token is for training.
UNSEEN = ("k_proj.bias", "mask_token")


def randomise(model, generator):
    for name, tensor in sorted(model.state_dict().items()):
        draw = torch.randn(tensor.shape, generator=generator)
        if name.endswith(("gamma", "lambda1")) or (name.endswith("weight") and tensor.ndim == 1):
            draw = 0.5 + torch.rand(tensor.shape, generator=generator)
        elif name.endswith("weight"):
            draw = draw / tensor[0].numel() ** 0.5
        elif not name.endswith("relative_position_bias_table"):
            draw = draw / 2  # biases, tokens, positions
        tensor.copy_(draw)


def outputs(variant, model, images):
    """{"features": .., "logits": ..}"""
    resized = images.shape[-1] != variant.image_size
    if variant.library == "timm":
        if resized:
            model = copy.deepcopy(model)
            # Swin would choose a window for the size.
            window = {"window_size": variant.window_size} if variant.window_size else {}
            model.set_input_size(images.shape[-2:], **window)
        hidden = model.forward_features(images)
        features = hidden.mean((1, 2)) if "swin" in variant.name else hidden[:, 0]
        return {"features": features, "logits": model(images)}
    # The others' models resize their positions unasked.
    asked = "interpolate_pos_encoding" in inspect.signature(model.base_model.forward).parameters
    resize = {"interpolate_pos_encoding": True} if resized and asked else {}
    base = model.base_model(images, **resize)
    features = base.pooler_output if "swin" in variant.name else base.last_hidden_state[:, 0]
    result = {"features": features}
    if model is not model.base_model:
        result["logits"] = model(images, **resize).logits
    return result


def older_buffers(variant, model):
    """Buffers as older versions of the libraries stored them; a loader has to pass over them."""
    index = {name.replace("relative_position_bias.", "self."): tensor
             for name, tensor in model.named_buffers() if name.endswith("relative_position_index")}
    index = {name: tensor.view(int(tensor.numel() ** 0.5), -1).clone() for name, tensor in index.items()}
    return index | {name: tensor for name, tensor in model.named_buffers() if name.endswith("attn_mask")}


def save(variant, model, folder):
    """Writes the checkpoint."""
    if variant.library == "timm":
        save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    else:
        model.save_pretrained(folder, **({"max_shard_size": variant.shard} if variant.shard else {}))
        variant.preprocess.save_pretrained(folder)
    if variant.older_buffers:
        file = folder / "model.safetensors"
        save_file(load_file(file) | older_buffers(variant, model), file, {"format": "pt"})


def load(variant, model, folder):
    """The model as its library reads it back, in f32."""
    if variant.library == "timm":
        stored = load_file(folder / "model.safetensors")
        wanted = model.state_dict().keys()
        model = variant.build()
        model.load_state_dict({name: stored[name] for name in wanted}, strict=True)
    else:
        model = type(model).from_pretrained(folder, attn_implementation="eager", dtype=variant.dtype)
    return model.eval().float()


def distance(a, b):
    return max(float((a[key] - b[key]).abs().max() / b[key].abs().max()) for key in b)


def changes(name, tensor):
    """What a careless loader could do to a tensor: (what, changed tensor)."""
    yield "left out", (
        torch.ones_like(tensor) if name.endswith(("gamma", "lambda1")) else torch.zeros_like(tensor)
    )
    if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]:
        yield "transposed", tensor.T.clone()
    if name.endswith(("qkv.weight", "qkv.bias")):
        query, key, value = tensor.chunk(3)
        if tensor.ndim == 2:
            yield "query and key swapped", torch.cat([key, query, value])
        yield "key and value swapped", torch.cat([query, value, key])
        yield "interleaved", torch.stack([query, key, value], 1).reshape(tensor.shape)


def check_noticed(variant, model, images, golden):
    """Every tensor, when it is changed, changes the outputs."""
    least = (float("inf"), "")
    for name, tensor in model.named_parameters():
        if name.endswith(UNSEEN):
            continue
        before = tensor.detach().clone()
        for what, changed in changes(name, before):
            tensor.copy_(changed)
            least = min(least, (distance(outputs(variant, model, images), golden), f"{name} {what}"))
        tensor.copy_(before)
    assert least[0] > NOTICED, f"{variant.name}: {least[1]} changes the outputs by {least[0]:.1e} only"
    return least


@torch.no_grad()
def make(variant, seed):
    folder = HERE / variant.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    model = variant.build().eval()
    randomise(model, generator)
    model = model.to(variant.dtype)
    save(variant, model, folder)

    def draw(count, size):
        return torch.randn((count, 3, size, size), generator=generator)

    images = draw(IMAGES, variant.image_size)
    golden = outputs(variant, load(variant, model, folder), images)
    in_memory = outputs(variant, model.float(), images)
    assert distance(in_memory, golden) < 1e-6, f"{variant.name} reloads to something else"
    least = check_noticed(variant, load(variant, model, folder), images, golden)
    golden["images"] = images
    if variant.other_size:
        images = draw(1, variant.other_size)
        other = outputs(variant, load(variant, model, folder), images) | {"images": images}
        golden |= {f"other_{key}": value for key, value in other.items()}
    save_file({key: value.contiguous() for key, value in golden.items()}, folder / "golden.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{variant.name:26} {size / 1024:6.0f} KB   least noticed: {least[1]} {least[0]:.1e}", flush=True)
    return {"name": variant.name, "library": variant.library, "settings": variant.settings}


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    set_fused_attn(False)
    transformers.logging.set_verbosity_error()
    made = [make(variant, seed) for seed, variant in enumerate(VARIANTS)]
    (HERE / "variants.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
