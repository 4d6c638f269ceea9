"""A byte-level transformer in plain JAX: a dictionary of parameters, and one loss function.

Nothing here knows of number formats. `jax.named_scope` gives each product the name that policies match:
first/attention/qkv, first/attention/scores, first/mlp/up, …, middle/…, last/…, head. The blocks between the
first and the last are one scan, so that compilation takes no longer for more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Parameters = dict[str, Any]
BYTES = 256


@dataclass(frozen=True)
class Shape:
    """The size of the model.

    >>> Shape(width=64, layers=2, heads=2).parameters
    131072
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = 128

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is given; it is 1 or more")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width={self.width} is given with {self.heads} heads; the width is a multiple of twice the heads, "
                f"such as {2 * self.heads * max(1, self.width // (2 * self.heads))}"
            )

    @property
    def parameters(self) -> int:
        """How many weights its matrices have."""
        return self.layers * 12 * self.width**2 + 2 * BYTES * self.width


def init(shape: Shape, seed: int) -> Parameters:
    """Parameters: float32, normal with the standard deviation that keeps the size of activations."""
    keys = iter(jax.random.split(jax.random.key(seed), 2 + 4 * shape.layers))
    d = shape.width

    def normal(rows: int, columns: int, scale: float) -> Array:
        return jax.random.normal(next(keys), (rows, columns), jnp.float32) * np.float32(scale)

    def block() -> Parameters:
        into_stream = d**-0.5 / (2 * shape.layers) ** 0.5
        return {
            "attention": {"norm": jnp.ones(d), "qkv": normal(d, 3 * d, d**-0.5), "out": normal(d, d, into_stream)},
            "mlp": {"norm": jnp.ones(d), "up": normal(d, 4 * d, d**-0.5), "down": normal(4 * d, d, into_stream / 2)},
        }

    blocks = [block() for _ in range(shape.layers)]
    return {
        "embedding": normal(BYTES, d, 1.0),
        "first": blocks[0],
        "middle": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks[1:-1]) if len(blocks) > 2 else None,
        "last": blocks[-1] if len(blocks) > 1 else None,
        "norm": jnp.ones(d),
        "head": normal(d, BYTES, d**-0.5 / 4),
    }


def loss(parameters: Parameters, tokens: Array, shape: Shape) -> Array:
    """Mean cross-entropy of the next byte, in nats.

    Args:
        tokens: int32 (batch, context + 1).
    """
    predicted = jax.nn.log_softmax(logits(parameters, tokens[:, :-1], shape))
    return -jnp.mean(jnp.take_along_axis(predicted, tokens[:, 1:, None], axis=-1))


def logits(parameters: Parameters, tokens: Array, shape: Shape) -> Array:
    """Unnormalized log probabilities of the byte after each one: (batch, context, 256)."""
    with jax.named_scope("embedding"):
        x = parameters["embedding"][tokens]
    x = block("first", x, parameters["first"], shape.heads)
    if parameters["middle"] is not None:
        x, _ = jax.lax.scan(lambda x, w: (block("middle", x, w, shape.heads), None), x, parameters["middle"])
    if parameters["last"] is not None:
        x = block("last", x, parameters["last"], shape.heads)
    return dense("head", normalized(x, parameters["norm"]), parameters["head"])


def block(name: str, x: Array, weights: Parameters, heads: int) -> Array:
    """Attention and MLP, each added to the stream."""
    with jax.named_scope(name):
        x = x + attention(weights["attention"], x, heads)
        return x + mlp(weights["mlp"], x)


def attention(weights: Parameters, x: Array, heads: int) -> Array:
    """Causal attention with rotary positions: (batch, context, width)."""
    batch, context, width = x.shape
    with jax.named_scope("attention"):
        qkv = dense("qkv", normalized(x, weights["norm"]), weights["qkv"])
        q, k, v = jnp.moveaxis(qkv.reshape(batch, context, 3, heads, width // heads), 2, 0)
        with jax.named_scope("scores"):
            scores = jnp.einsum("bqhd,bkhd->bhqk", rotated(q), rotated(k)) * np.float32((width // heads) ** -0.5)
        causal = np.tril(np.ones((context, context), bool))
        shares = jax.nn.softmax(jnp.where(causal, scores, np.float32(-1e30)))
        with jax.named_scope("mix"):
            mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, v)
        return dense("out", mixed.reshape(batch, context, width), weights["out"])


def mlp(weights: Parameters, x: Array) -> Array:
    """Two layers with GELU between them: (batch, context, width)."""
    with jax.named_scope("mlp"):
        hidden = jax.nn.gelu(dense("up", normalized(x, weights["norm"]), weights["up"]))
        return dense("down", hidden, weights["down"])


def dense(name: str, x: Array, weight: Array) -> Array:
    """x · weight, under a name."""
    with jax.named_scope(name):
        return x @ weight


def normalized(x: Array, weight: Array) -> Array:
    """x over its root mean square along the last axis, times `weight`."""
    with jax.named_scope("norm"):
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6)) * weight


def rotated(x: Array) -> Array:
    """Rotary positions: pairs of (batch, context, heads, size) turned by angles that grow with the position."""
    context, half = x.shape[1], x.shape[3] // 2
    angles = np.arange(context)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = (f(angles).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
