"""The variants of which `make.py` stores a checkpoint and its outputs.

Each is as small as it may be and still have everything its architecture can have: widths that are no
multiple of a SIMD register, feature maps that windows do not divide, an odd map to merge.
"""
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
import transformers
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

# More than ten, so that "10" comes before "2" in config.json, which is sorted.
LABELS = ["hen", "salamander", "terrapin", "trilobite", "peacock", "wombat", "pelican", "terrier",
          "bluetick", "panda", "banana"]
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Variant:
    name: str
    library: str  # "timm" or "transformers"
    image_size: int
    build: Callable[[], torch.nn.Module]
    # What shapes of tensors do not tell and a checkpoint without config.json leaves open.
    settings: dict[str, Any] = field(default_factory=dict)
    # Another size at which the outputs are stored too: of positions that the library has resampled.
    other_size: int | None = None
    window_size: int | None = None  # of timm's Swin, at the other size
    preprocess: Any = None  # a transformers image processor
    dtype: torch.dtype = torch.float32
    shard: str | None = None  # largest size of a file
    # Buffers that versions before timm 0.8 and transformers 5 stored in Swin's checkpoints.
    older_buffers: bool = False


def timm(cls, image_size, **arguments):
    return lambda: cls(img_size=image_size, num_classes=len(LABELS), **arguments)


def transformers_model(model, config, image_size, **arguments):
    labels = dict(enumerate(LABELS))
    names = {label: i for i, label in labels.items()}
    # An eps large enough to be noticed when it is not read.
    arguments = dict(layer_norm_eps=1e-2, id2label=labels, label2id=names) | arguments
    build = lambda: config(image_size=image_size, attn_implementation="eager", **arguments)
    return lambda: model(build())


def square(size):
    return {"height": size, "width": size}


vit = dict(hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=100, patch_size=8)
dino = dict(hidden_size=28, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=3, patch_size=14)
swin = dict(patch_size=4, embed_dim=12, depths=(2, 2, 1), num_heads=(2, 3, 6), mlp_ratio=3.0)

VARIANTS = [
    Variant("timm-vit", "timm", 40,
            timm(VisionTransformer, 40, patch_size=8, embed_dim=40, depth=2, num_heads=5),
            {"heads": 5}, other_size=24),
    Variant("timm-deit-distilled", "timm", 32,
            timm(VisionTransformerDistilled, 32, patch_size=8, embed_dim=36, depth=2, num_heads=3,
                 mlp_ratio=3.0),
            {"heads": 3}, other_size=48),
    Variant("timm-dinov2-registers", "timm", 42,
            timm(VisionTransformer, 42, patch_size=14, embed_dim=28, depth=2, num_heads=2, mlp_ratio=3.0,
                 init_values=1.0, reg_tokens=4, no_embed_class=True),
            {"heads": 2}, other_size=28),
    # Feature maps 10, 5 and 3 wide: padded to 12 and 8, and in the last stage the window shrinks to 3.
    Variant("timm-swin", "timm", 40,
            timm(SwinTransformer, 40, window_size=4, **swin),
            {"image_size": 40}, older_buffers=True, other_size=48, window_size=4),
    Variant("hf-vit", "transformers", 40,
            transformers_model(transformers.ViTForImageClassification, transformers.ViTConfig, 40, **vit),
            other_size=24,
            preprocess=transformers.ViTImageProcessor(size=square(40))),
    Variant("hf-vit-bf16", "transformers", 32,
            transformers_model(transformers.ViTForImageClassification, transformers.ViTConfig, 32, **vit),
            preprocess=transformers.ViTImageProcessor(size=square(32)), dtype=torch.bfloat16),
    # One head on the class token; the distillation token is there and mixes in.
    Variant("hf-deit-f16-sharded", "transformers", 32,
            transformers_model(transformers.DeiTForImageClassification, transformers.DeiTConfig, 32, **vit),
            preprocess=transformers.DeiTImageProcessor(size=square(36), crop_size=square(32), **IMAGENET),
            dtype=torch.float16, shard="40KB"),
    Variant("hf-deit-distilled", "transformers", 32,
            transformers_model(transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig,
                               32, **vit),
            other_size=48,
            preprocess=transformers.DeiTImageProcessor(size=square(36), crop_size=square(32), **IMAGENET)),
    # A window that does not fit is an error in transformers. Maps 10, 5 and 3: padded to 12 and 6; the
    # last is one window, without a shift.
    Variant("hf-swin", "transformers", 40,
            transformers_model(transformers.SwinForImageClassification, transformers.SwinConfig, 40,
                               window_size=3, **swin),
            other_size=56,
            preprocess=transformers.ViTImageProcessor(size=square(40), resample=3, **IMAGENET),
            older_buffers=True),
    Variant("hf-dinov2", "transformers", 42,
            transformers_model(transformers.Dinov2Model, transformers.Dinov2Config, 42, **dino),
            other_size=28,
            preprocess=transformers.BitImageProcessor(size={"shortest_edge": 48}, crop_size=square(42),
                                                      **IMAGENET)),
    Variant("hf-dinov2-registers", "transformers", 42,
            transformers_model(transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig,
                               42, **dino),
            other_size=28,
            preprocess=transformers.BitImageProcessor(size={"shortest_edge": 48}, crop_size=square(42),
                                                      **IMAGENET)),
    # The head sees the class token and the mean of the patches, side by side.
    Variant("hf-dinov2-registers-head", "transformers", 28,
            transformers_model(transformers.Dinov2WithRegistersForImageClassification,
                               transformers.Dinov2WithRegistersConfig, 28, **dino),
            other_size=56,
            preprocess=transformers.BitImageProcessor(size={"shortest_edge": 32}, crop_size=square(28),
                                                      **IMAGENET)),
]
