"""Recipes as data: what each operand of the three matrix products of a layer is rounded to.

    forward   y  = lhs · rhs     fprop.lhs   fprop.rhs
    dgrad     dx = g · rhs       dgrad.grad  dgrad.rhs     the cotangent of lhs
    wgrad     dw = lhs · g       wgrad.lhs   wgrad.grad    the cotangent of rhs
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from numfmt import BlockFormat, DotUnit, FloatFormat, Overflow, Platform, Rounding, get_format, get_unit
from numfmt.kernels import Format, unknown

from .quantize import Rounds, rounds_of
from .unit_plans import name_of, plan_of

SOURCES = ("raw", "bf16", "forward")
AXES = ("contracting", "last_contracting")
ACCUMULATED = (None, "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hadamard:
    """A Hadamard transform along the contracted axis: x · diag(signs) · H / sqrt(size), H in Sylvester's order.

    Both operands of a product take the same one, so that it leaves the exact product alone.

    Args:
        size: 16, 32, 64, 128 or another power of two; it must divide the contracted length.
        signs: "none"; "random": drawn from the site's key, for both operands alike; or ±1, `size` of them.

    References: Tseng et al., arXiv 2502.20586 (random Hadamard); NVIDIA, arXiv 2509.25149 (fixed signs).

    >>> Hadamard(4, signs=(1, -1, 1, 1))
    Hadamard(size=4, signs=(1, -1, 1, 1))
    """

    size: int = 16
    signs: str | tuple[int, ...] = "none"

    def __post_init__(self) -> None:
        if self.size < 2 or self.size & (self.size - 1):
            raise ValueError(f"a Hadamard transform of size {self.size} is given; sizes are powers of two, such as 16")
        if isinstance(self.signs, str):
            if self.signs not in ("none", "random"):
                raise ValueError(f"signs={self.signs!r} are given; they are 'none', 'random' or {self.size} of ±1")
            return
        object.__setattr__(self, "signs", tuple(int(s) for s in self.signs))
        if len(self.signs) != self.size or any(s not in (1, -1) for s in self.signs):
            raise ValueError(f"{len(self.signs)} signs are given for a transform of size {self.size}; each is 1 or -1")

    @property
    def is_random(self) -> bool:
        """Whether it needs a key."""
        return self.signs == "random"

    def __str__(self) -> str:
        kind = {"none": "H", "random": "RHT"}.get(self.signs, "RHT") if isinstance(self.signs, str) else "RHT"
        return f"{kind}{self.size}" + ("" if isinstance(self.signs, str) else " fixed signs")


@dataclass(frozen=True)
class Operand:
    """One slot: how an operand of a matrix product is rounded.

    Args:
        format: scalar or block, or its name; None rounds nothing (with source="forward" the operand is the
            one that forward used).
        axis: where blocks run: "contracting": along the contracted axes, taken as one; "last_contracting":
            along the last of them (microxcaling: inside each sequence). Tiles cover the other axes, taken
            as one, by the contracted one.
        rounding, overflow, platform, random_bit_count: as for `quantize`; recipes saturate.
        transform: a `Hadamard` before rounding.
        scale: a number that elements are multiplied by once their block's scale is chosen, as in 3/4 of
            MXFP4 training; the product is divided by it.
        source: what is rounded: "raw" values, those rounded to "bf16" first, or what "forward" used.

    Raises:
        ValueError: names that do not exist, a format that binary32 cannot carry.
    """

    format: Format | BlockFormat | str | None
    axis: str = "contracting"
    rounding: Rounding | str | None = None
    overflow: Overflow | str | None = None
    platform: Platform | str | None = None
    random_bit_count: int | None = None
    transform: Hadamard | None = None
    scale: Fraction | float | str = Fraction(1)
    source: str = "raw"

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(unknown("source", str(self.source), list(SOURCES)))
        if self.axis not in AXES:
            raise ValueError(unknown("axis of a slot", str(self.axis), list(AXES)))
        object.__setattr__(self, "scale", Fraction(self.scale))
        if self.scale <= 0:  # type: ignore[operator]
            raise ValueError(f"scale={self.scale} is given; it is a positive number, such as 3/4")
        if self.format is not None:
            object.__setattr__(self, "format", get_format(self.format))
            _ = self.rounds
        elif self.rounding is not None:
            raise ValueError(f"rounding={self.rounding!r} is given without a format; nothing is rounded")

    @cached_property
    def rounds(self) -> Rounds | None:
        """The rounding, as static data."""
        if self.format is None:
            return None
        overflow = self.overflow
        if overflow is None and self.platform is None and isinstance(self.format, FloatFormat):
            overflow = Overflow.SATURATE
        return rounds_of(self.format, self.rounding, overflow, self.platform, self.random_bit_count)

    @property
    def needs_key(self) -> bool:
        """Whether it takes random numbers."""
        stochastic = self.rounds is not None and self.rounds.is_stochastic
        return stochastic or (self.transform is not None and self.transform.is_random)

    def __str__(self) -> str:
        parts = ["as in forward" if self.format is None else str(self.format)]
        if isinstance(self.format, BlockFormat):
            size = "x".join("axis" if k == -1 else str(k) for k in self.format.block) or "tensor"
            parts += [size, self.format.rule]
        if self.rounds is not None:
            parts.append(self.rounds.rules.rounding.value)
        if self.transform is not None:
            parts.append(str(self.transform))
        if self.scale != 1:
            parts.append(f"× {self.scale}")
        if self.source != "raw" and self.format is not None:
            parts.append(f"of {self.source}")
        return " ".join(parts)


@dataclass(frozen=True)
class Gemm:
    """One matrix product: its two slots, and the type that it is accumulated in.

    Args:
        lhs, rhs: `Operand`, a format or its name, or None.
        accumulate: dtype of the sum: float32 where None and a slot is given, else what lax does; or a `DotUnit` or its
            name, which computes the product: `numfmt_jax.matmul` says how. Slots have formats that it takes.

    Raises:
        ValueError: a name that does not exist, a unit that `numfmt_jax.matmul` refuses or that takes block scales,
            slots of other formats than the unit's.

    >>> Gemm("e4m3fn", "e4m3fn", accumulate="h100.e4m3").accumulate.fraction
    13
    """

    lhs: Operand | None = None
    rhs: Operand | None = None
    accumulate: str | DotUnit | None = None

    def __post_init__(self) -> None:
        for side in ("lhs", "rhs"):
            given = getattr(self, side)
            if given is not None and not isinstance(given, Operand):
                object.__setattr__(self, side, Operand(given))
        if self.accumulate not in ACCUMULATED:
            self._take_unit()
        transforms = {operand and operand.transform for operand in (self.lhs, self.rhs)}
        if len(transforms) > 1:
            raise ValueError("one operand has a Hadamard transform; both operands of a product have the same, or none")

    def _take_unit(self) -> None:
        """The unit that `accumulate` names, if slots and 32-bit integers are such that it can be one."""
        try:
            unit = get_unit(self.accumulate)  # type: ignore[arg-type]
        except ValueError as error:
            types = ", ".join(x for x in ACCUMULATED if x)
            raise ValueError(f"accumulate={self.accumulate!r} is given; it is {types} or a unit: {error}") from None
        if unit.scales:
            raise ValueError(
                f"accumulate={self.accumulate!r} is given; that unit takes block scales, which numfmt_jax.matmul has"
            )
        formats: list[Any] = []
        for operand in (self.lhs, self.rhs):
            formats.append(unit.inputs[0] if operand is None or operand.format is None else operand.format)
            if formats[-1] not in unit.inputs:
                takes = ", ".join(map(str, unit.inputs))
                raise ValueError(f"a slot of {formats[-1]} is given; the unit that accumulates takes {takes}")
        plan_of(unit, *formats)
        object.__setattr__(self, "accumulate", unit)

    @property
    def is_identity(self) -> bool:
        """Whether lax computes this product as if there were no recipe."""
        return self.lhs is None and self.rhs is None and self.accumulate is None

    def swapped(self) -> Gemm:
        """The product with its operands exchanged."""
        return replace(self, lhs=self.rhs, rhs=self.lhs)


NOTHING = Gemm()


@dataclass(frozen=True)
class Recipe:
    """What a layer's three matrix products are rounded to; `rhs` is the weight.

    Args:
        fprop: lhs is the activation, rhs the weight.
        dgrad: lhs is the gradient, rhs the weight.
        wgrad: lhs is the activation, rhs the gradient.
        name, source: what it is called, and the paper or program that defines it.
        unverified: what no primary source confirms.

    >>> e4m3 = Operand("e4m3fn")
    >>> str(Recipe(fprop=Gemm(e4m3, e4m3)).slots()["fprop.rhs"])
    'float8_e4m3fn ties_to_even'
    """

    fprop: Gemm = NOTHING
    dgrad: Gemm = NOTHING
    wgrad: Gemm = NOTHING
    name: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    unverified: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for which, operand in self._operands():
            if operand is not None and operand.source == "forward":
                if which.startswith("fprop") or which.endswith("grad"):
                    raise ValueError(f"source='forward' is given for {which}; only dgrad.rhs and wgrad.lhs have it")
            elif operand is not None and operand.format is None:
                raise ValueError(f"{which} has no format; leave the slot None, or take source='forward'")

    def _operands(self) -> Iterator[tuple[str, Operand | None]]:
        yield "fprop.lhs", self.fprop.lhs
        yield "fprop.rhs", self.fprop.rhs
        yield "dgrad.grad", self.dgrad.lhs
        yield "dgrad.rhs", self.dgrad.rhs
        yield "wgrad.lhs", self.wgrad.lhs
        yield "wgrad.grad", self.wgrad.rhs

    def slots(self) -> dict[str, Operand | None]:
        """The six slots by name."""
        return dict(self._operands())

    @property
    def needs_key(self) -> bool:
        """Whether any slot takes random numbers."""
        return any(operand is not None and operand.needs_key for operand in self.slots().values())

    @property
    def is_identity(self) -> bool:
        """Whether every product is lax's own."""
        return self.fprop.is_identity and self.dgrad.is_identity and self.wgrad.is_identity

    def __str__(self) -> str:
        if self.name:
            return self.name
        parts = [f"{k}: {v or 'as it is'}" for k, v in self.slots().items()]
        for which, gemm in (("fprop", self.fprop), ("dgrad", self.dgrad), ("wgrad", self.wgrad)):
            if isinstance(gemm.accumulate, DotUnit):
                parts.append(f"{which}: accumulated in {name_of(gemm.accumulate)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Roles:
    """A recipe's products for one order of the operands: the weight may be the left one."""

    recipe: Recipe
    weight: str = "rhs"

    def __post_init__(self) -> None:
        if self.weight not in ("lhs", "rhs"):
            raise ValueError(f"weight={self.weight!r} is given; it is 'lhs' or 'rhs'")

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The recipe's six slots, in its order, by the operands of these products."""
        if self.weight == "rhs":
            return "fprop.lhs", "fprop.rhs", "dgrad.grad", "dgrad.rhs", "wgrad.lhs", "wgrad.grad"
        return "fprop.rhs", "fprop.lhs", "dgrad.grad", "dgrad.lhs", "wgrad.rhs", "wgrad.grad"

    @cached_property
    def forward(self) -> Gemm:
        """lhs and rhs of the forward product."""
        return self.recipe.fprop if self.weight == "rhs" else self.recipe.fprop.swapped()

    @cached_property
    def of_lhs(self) -> tuple[Gemm, str]:
        """The product that gives the cotangent of lhs, as (gradient, rhs), and its name."""
        if self.weight == "rhs":
            return self.recipe.dgrad, "dgrad"
        return self.recipe.wgrad.swapped(), "wgrad"

    @cached_property
    def of_rhs(self) -> tuple[Gemm, str]:
        """The product that gives the cotangent of rhs, as (lhs, gradient), and its name."""
        if self.weight == "rhs":
            return self.recipe.wgrad, "wgrad"
        return self.recipe.dgrad.swapped(), "dgrad"


def as_recipe(recipe: Any) -> Recipe:
    """The recipe of that name; a recipe is returned as it is, None is the one that rounds nothing."""
    if recipe is None:
        return Recipe()
    if isinstance(recipe, Recipe):
        return recipe
    from .recipes import get_recipe

    return get_recipe(recipe)
