"""numfmt_jax: any number format in any JAX training loop, bit for bit those of numfmt, with gradients."""

from importlib import import_module
from typing import Any

from .blocks import BlockArray
from .conv import conv_general_dilated
from .dots import bind, dot_general, operands
from .einsum import einsum
from .emulate import emulate, paths, receipt
from .policy import Policy, UnmatchedError, UnreachableError, Value
from .quantize import GradientRule, decode, encode, quantize
from .random import random_bits
from .receipt import Receipt
from .recipe import Gemm, Hadamard, Operand, Recipe
from .recipes import get_recipe, list_recipes
from .stats import Statistics, stats
from .units import matmul

__all__ = [
    "BlockArray",
    "Gemm",
    "GradientRule",
    "Hadamard",
    "Operand",
    "Policy",
    "Receipt",
    "Recipe",
    "Statistics",
    "UnmatchedError",
    "UnreachableError",
    "Value",
    "bind",
    "conv_general_dilated",
    "decode",
    "dot_general",
    "einsum",
    "emulate",
    "encode",
    "get_recipe",
    "list_recipes",
    "matmul",
    "operands",
    "paths",
    "quantize",
    "random_bits",
    "receipt",
    "stats",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The helpers for flax and equinox, which are imported on use."""
    if name in ("flax", "equinox"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
