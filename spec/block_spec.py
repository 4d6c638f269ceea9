"""Block formats as data: the named ones (block_formats.toml), block(...) and bfp(...), and how an array is cut."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from spec.oracle import FloatFormat, Format, fixed, float_format, get

EXPONENT_RULES = ("floor", "ceil", "even", "truncation_free", "rceil", "deepgemm", "microxcaling", "power_of_two")
REAL_RULES = ("project", "absmax", "p3109", "deepseek", "current_scaling", "bitsandbytes", "affine")
FOUR_OVER_SIX = ("4over6", "4over6_256", "4over6_mse", "4over6_mse_256")
TENSOR_RULES = ("transformer_engine", "torchao", "modelopt", "compressed_tensors", *FOUR_OVER_SIX)
GGUF_RULES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
RULES = (*EXPONENT_RULES, *REAL_RULES, *TENSOR_RULES, "torchao_1level", "hif4", *GGUF_RULES)
RULE_ALIASES = {"bump": "truncation_free"}
NONFINITE = ("nan_scale", "propagate_elements", "saturate_inf")
OWN_NONFINITE = (*TENSOR_RULES, "torchao_1level", *GGUF_RULES, "p3109", "affine")  # these rules say it themselves

Axis = int | tuple[int, int] | None


@dataclass(frozen=True)
class BlockSpec:
    """A block format. The fields are explained at the top of block_formats.toml."""

    name: str
    element: Format
    scale: Format
    size: tuple[int, ...] | str
    rule: str = "project"
    nonfinite: str = "nan_scale"
    flat: bool = False
    symmetric: bool = False
    pair: int = 0
    double: str | None = None
    aliases: tuple[str, ...] = ()
    source: str = field(default="", compare=False)
    unverified: bool = False

    def __post_init__(self) -> None:
        sized = isinstance(self.size, tuple)
        claims = {
            f"rule is one of {', '.join(RULES)}": self.rule in RULES,
            f"nonfinite is one of {', '.join(NONFINITE)}": self.nonfinite in NONFINITE,
            "size is K, RxC, axis or tensor, all at least 1": self.size in ("axis", "tensor")
            or (sized and len(self.size) in (1, 2) and all(isinstance(k, int) and k > 0 for k in self.size)),
            "blocks over the flattened array have one size": not self.flat or (sized and len(self.size) == 1),
            f"{self.rule} needs a float scale": isinstance(self.scale, FloatFormat) or self.rule in REAL_RULES,
            "even needs an element with digits": self.rule != "even" or self.element.kind in ("float", "fixed"),
            "affine needs integers": self.rule != "affine" or self.element.kind == "fixed",
            "symmetric is for signed fixed point": not self.symmetric
            or (self.element.kind == "fixed" and self.element.signed),
            f"{self.rule} says itself what NaN and infinity do": self.nonfinite == "nan_scale"
            or self.rule not in OWN_NONFINITE,
        }
        for claim, holds in claims.items():
            if not holds:
                raise ValueError(f"{self.name}: {claim}; given {self}")

    @property
    def tensor_level(self) -> bool:
        """Does a block need to know the largest magnitude of the tensor?"""
        return self.rule in TENSOR_RULES

    @property
    def zero_point(self) -> str | None:
        """What goes with the scale of a block: an integer zero point, a minimum in the scale's format, or nothing."""
        return {"affine": "integer", "q4_1": "minimum", "q5_1": "minimum"}.get(self.rule)

    @property
    def offset(self) -> int:
        """What GGUF subtracts from its unsigned codes."""
        return {"q4_0": 8, "q5_0": 16}.get(self.rule, 0)


# ---- names -----------------------------------------------------------------------------------------------------


@cache
def load_block_formats() -> dict[str, BlockSpec]:
    """Every named block format under its name and its aliases."""
    formats: dict[str, BlockSpec] = {}
    for name, fields in tomllib.loads(Path(__file__).with_name("block_formats.toml").read_text()).items():
        element, scale = _scalar(fields.pop("element")), _scalar(fields.pop("scale"))
        size, aliases = parse_size(str(fields.pop("size"))), tuple(fields.pop("aliases", ()))
        spec = BlockSpec(name, element, scale, size, aliases=aliases, **fields)
        for key in (name, *aliases):
            if key in formats:
                raise ValueError(f"two block formats are called {key}")
            formats[key] = spec
    return formats


def _scalar(given: str | dict[str, Any]) -> Format:
    """A scalar format by its name, or by its fields where it has none."""
    if isinstance(given, str):
        return get(given)
    fields = dict(given)
    kind = fields.pop("kind")
    return {"fixed": fixed, "float": float_format}[kind](**fields)


@cache
def get_block(name: str) -> BlockSpec:
    """A named block format, block(element, scale=, size=, rule=, nonfinite=, flat=, symmetric=) or bfp(m=, size=)."""
    key = "".join(name.lower().split())
    if key in load_block_formats():
        return load_block_formats()[key]
    if found := re.fullmatch(r"(block|bfp)\((.*)\)", key):
        words = found[2].split(",")
        options = dict(word.split("=", 1) for word in words if "=" in word)
        positional = [word for word in words if "=" not in word]
        try:
            if found[1] == "bfp" and not positional:
                return bfp(**options)
            if found[1] == "block" and len(positional) == 1:
                return block(positional[0], **options)
        except TypeError as error:
            raise ValueError(f"{name}: {error}") from error
    raise ValueError(f"no block format is called {name}")


def block(element: str, *, scale: str, size: str, rule: str = "project", nonfinite: str = "nan_scale",
          flat: str = "false", symmetric: str = "false") -> BlockSpec:
    """A custom format, from the words between the parentheses of its name."""
    name = f"block({element}, scale={scale}, size={size}, rule={rule})"
    truth = {"true": True, "false": False}
    if rule in (*GGUF_RULES, "hif4"):
        raise ValueError(f"{name}: the rules of GGUF and HiF4 are for their own formats")
    if flat not in truth or symmetric not in truth:
        raise ValueError(f"{name}: flat and symmetric are true or false; given {flat} and {symmetric}")
    return BlockSpec(name, get(element), get(scale), parse_size(size), RULE_ALIASES.get(rule, rule), nonfinite,
                     truth[flat], truth[symmetric])


def bfp(*, m: str, size: str) -> BlockSpec:
    """Block floating point: sign and m digits, of which m - 1 follow the point; the exponent is the largest one."""
    digits = int(m)
    if digits < 1:
        raise ValueError(f"bfp needs one digit at least; given m = {m}")
    element = fixed(digits + 1, digits - 1, encoding="sign_magnitude", name=f"sign_magnitude{digits}")
    return BlockSpec(f"bfp(m={m}, size={size})", element, get("e8m0"), parse_size(size), "floor")


def parse_size(text: str) -> tuple[int, ...] | str:
    """K, RxC, axis or tensor."""
    if text in ("axis", "tensor"):
        return text
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise ValueError(f"a block size is K, RxC, axis or tensor; given {text}")
    return tuple(int(part) for part in text.split("x"))


def with_options(spec: BlockSpec | str, **fields: Any) -> BlockSpec:
    """The same format with another rule, size or treatment of NaN and infinity."""
    return replace(get_block(spec) if isinstance(spec, str) else spec, **fields)


# ---- how an array is cut ---------------------------------------------------------------------------------------


def scales_shape(shape: Sequence[int], spec: BlockSpec, axis: Axis = None) -> tuple[int, ...]:
    """The shape of the scales of an array: how many blocks it has along each axis. A tail is a block of its own."""
    if spec.flat:
        return (-(-prod(shape) // spec.size[0]),)
    if spec.size == "tensor":
        return (1,) * len(shape)
    counts = [-(-n // step) for n, step in zip(shape, _steps(shape, spec, axis), strict=True)]
    if spec.size == "axis":
        counts[_axes(shape, spec, axis)[0]] = 1
    return tuple(counts)


def blocks_of(shape: Sequence[int], spec: BlockSpec, axis: Axis = None) -> list[list[int]]:
    """The flat C-order indices of each block's elements, ascending; the blocks in C order of the array of scales."""
    count = prod(shape)
    if spec.flat:
        return [list(range(count))[start : start + spec.size[0]] for start in range(0, count, spec.size[0])]
    if spec.size == "tensor":
        return [list(range(count))]
    steps = _steps(shape, spec, axis)
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
    blocks = []
    for place in product(*(range(n) for n in scales_shape(shape, spec, axis))):
        spans = [range(n)[i * step : (i + 1) * step] for i, step, n in zip(place, steps, shape, strict=True)]
        blocks.append([sum(i * stride for i, stride in zip(index, strides, strict=True)) for index in product(*spans)])
    return blocks


def tile_width(shape: Sequence[int], spec: BlockSpec, axis: Axis, indices: Sequence[int]) -> int:
    """How many elements one row of a 2-D tile has; all of the block where there are no tiles."""
    if spec.flat or isinstance(spec.size, str) or len(spec.size) == 1:
        return len(indices)
    last = max(_axes(shape, spec, axis))
    stride = prod(shape[last + 1 :])
    return len({index // stride % shape[last] for index in indices})


def _axes(shape: Sequence[int], spec: BlockSpec, axis: Axis) -> tuple[int, ...]:
    """The block axes, counted from the front: the last, or the last two, unless told otherwise."""
    wanted = len(spec.size) if isinstance(spec.size, tuple) else 1
    if axis is None:
        axis = -1 if wanted == 1 else (-2, -1)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) != wanted or not all(-len(shape) <= a < len(shape) for a in axes):
        raise ValueError(f"{spec.name} has {wanted} block axes in range({len(shape)}); given {axis}")
    axes = tuple(a % len(shape) for a in axes)
    if len(set(axes)) != wanted:
        raise ValueError(f"two different axes are needed; given {axis}")
    return axes


def _steps(shape: Sequence[int], spec: BlockSpec, axis: Axis) -> list[int]:
    """The extent of a block along each axis of the array."""
    steps = [1] * len(shape)
    for i, a in enumerate(_axes(shape, spec, axis)):
        steps[a] = max(shape[a], 1) if isinstance(spec.size, str) else spec.size[i]
    return steps
