"""A vision transformer on a flat dictionary of tensors with timm's names and PyTorch's [out, in] order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, jax.Array]


class Config(NamedTuple):
    side: int = 28
    patch: int = 4
    width: int = 64
    depth: int = 6
    heads: int = 4
    mlp: int = 256
    classes: int = 10
    eps: float = 1e-6

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.side // self.patch) ** 2 + 1


def init(config: Config, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    width = config.width

    def normal(*shape: int, std: float = 0.02) -> np.ndarray:
        return np.clip(rng.standard_normal(shape), -2, 2) * std

    def linear(out: int, into: int) -> np.ndarray:
        return normal(out, into, std=(2 / (out + into)) ** 0.5)

    tensors = {
        "patch_embed.proj.weight": linear(width, config.patch**2).reshape(
            width, 1, config.patch, config.patch
        ),
        "patch_embed.proj.bias": np.zeros(width),
        "cls_token": normal(1, 1, width),
        "pos_embed": waves(config),
        "norm.weight": np.ones(width),
        "norm.bias": np.zeros(width),
        "head.weight": linear(config.classes, width),
        "head.bias": np.zeros(config.classes),
    }
    for block in range(config.depth):
        at = f"blocks.{block}."
        for norm in ("norm1", "norm2"):
            tensors[f"{at}{norm}.weight"] = np.ones(width)
            tensors[f"{at}{norm}.bias"] = np.zeros(width)
        for name, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", config.mlp, width),
            ("mlp.fc2", width, config.mlp),
        ):
            tensors[f"{at}{name}.weight"] = linear(out, into)
            tensors[f"{at}{name}.bias"] = np.zeros(out)
    return {name: jnp.asarray(value, jnp.float32) for name, value in tensors.items()}


def waves(config: Config) -> np.ndarray:
    """Sines and cosines of each patch's row and column to start the position embedding from.

    0 for the class token.
    """
    grid, quarter = config.side // config.patch, config.width // 4
    angle = np.arange(grid)[:, None] * 10.0 ** (-np.arange(quarter) / quarter)
    wave = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    rows = np.repeat(wave, grid, 0)
    columns = np.tile(wave, (grid, 1))
    patches = np.concatenate([rows, columns], 1)
    return np.concatenate([np.zeros((1, config.width)), patches])[None]


def linear(params: Params, name: str, x: jax.Array) -> jax.Array:
    weight = params[f"{name}.weight"]
    weight = weight.reshape(weight.shape[0], -1)
    rows = x.reshape(-1, x.shape[-1])  # two dimensions only: its gradient is much faster on the CPU
    return (rows @ weight.T + params[f"{name}.bias"]).reshape(*x.shape[:-1], -1)


def layer_norm(params: Params, name: str, x: jax.Array, eps: float) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + eps) * params[f"{name}.weight"] + params[f"{name}.bias"]


def attention(params: Params, at: str, x: jax.Array, heads: int) -> jax.Array:
    qkv = linear(params, f"{at}attn.qkv", x)
    q, k, v = (jnp.split(part, heads, -1) for part in jnp.split(qkv, 3, -1))
    scale = (x.shape[-1] // heads) ** -0.5
    mixed = [jax.nn.softmax(q[h] @ k[h].swapaxes(1, 2) * scale) @ v[h] for h in range(heads)]
    return linear(params, f"{at}attn.proj", jnp.concatenate(mixed, -1))


def forward(params: Params, config: Config, images: jax.Array) -> jax.Array:
    """Logits [n, classes] of normalised images [n, side, side]."""
    n, grid, patch = images.shape[0], config.side // config.patch, config.patch
    patches = (
        images.reshape(n, grid, patch, grid, patch).swapaxes(2, 3).reshape(n, grid * grid, patch * patch)
    )
    x = linear(params, "patch_embed.proj", patches)
    x = (
        jnp.concatenate([jnp.broadcast_to(params["cls_token"], (n, 1, config.width)), x], 1)
        + params["pos_embed"]
    )
    for block in range(config.depth):
        at = f"blocks.{block}."
        x = x + attention(params, at, layer_norm(params, f"{at}norm1", x, config.eps), config.heads)
        hidden = linear(params, f"{at}mlp.fc1", layer_norm(params, f"{at}norm2", x, config.eps))
        x = x + linear(params, f"{at}mlp.fc2", jax.nn.gelu(hidden, approximate=False))
    return linear(params, "head", layer_norm(params, "norm", x[:, 0], config.eps))
