"""Block formats as data: an element format, a scale format, the shape of a block, and the rule between them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import prod

from ._core.parameters import BINARY32
from .carriers import holds
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .named import scalar_format
from .rounding import Overflow, Rounding, unknown
from .scale_rules import ScaleRule

WHOLE_AXIS = -1  # as a block size: one block spans the axis
NONFINITE = ("nan_scale", "propagate_elements", "saturate_inf")


@dataclass(frozen=True)
class BlockFormat:
    """Blocks of elements that share a scale.

    Args:
        element: format of the elements.
        scale: format of the scales: one that binary32 holds, of at most 24 significant bits; or a block
            format, in which the scales, as real numbers, are quantized in turn.
        block: elements along each block axis; -1 spans the axis, () is the whole array.
        rule: name of the scale rule (`numfmt.named_rules.rules()`).
        flat: blocks run over the flattened array in C order, not along an axis.
        micro: (elements, bits) of second-level shifts, from coarse to fine: MX9 has ((2, 1),).
        nonfinite: what a block that holds NaN or Inf becomes, under the rules that leave it open:
            "nan_scale", "propagate_elements" (they leave the amax and are encoded as elements) or
            "saturate_inf" (an infinite amax takes the largest scale).

    Raises:
        ValueError: a combination that means nothing.

    References: OCP MX v1.0 §5, §6.3.

    >>> import numfmt as nf
    >>> f = BlockFormat("e2m1", "e8m0", (32,), "floor")
    >>> str(f), f.bits_per_element
    ('mxfp4', Fraction(17, 4))
    >>> str(BlockFormat("e2m1", "e4m3", (8,)))
    'block(float4_e2m1fn, scale=float8_e4m3fn, size=8)'
    """

    element: Format
    scale: Format | BlockFormat
    block: tuple[int, ...] = (32,)
    rule: str = "project"
    flat: bool = False
    micro: tuple[tuple[int, int], ...] = ()
    nonfinite: str = "nan_scale"

    def __post_init__(self) -> None:
        def set_field(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("element", "scale"):
            if not isinstance(getattr(self, name), BlockFormat):
                set_field(name, scalar_format(getattr(self, name)))
        block: object = self.block
        set_field("block", (block,) if isinstance(block, int) else tuple(int(size) for size in self.block))
        set_field("rule", str(self.rule).lower())
        set_field("rule", _ALIASES.get(self.rule, self.rule))
        set_field("micro", tuple((int(size), int(bits)) for size, bits in self.micro))
        self._check()

    def _check(self) -> None:
        from .named_rules import rules

        if self.rule not in rules():
            raise ValueError(unknown("scale rule", self.rule, list(rules())))
        if isinstance(self.element, BlockFormat):
            raise ValueError(f"{self.element} is given as the element format; elements are scalars, such as e2m1")
        if any(size < 1 and size != WHOLE_AXIS for size in self.block):
            raise ValueError(f"block {self.block} is given; sizes are positive, or -1 for a whole axis")
        if len(self.block) > 2:
            raise ValueError(f"block {self.block} is given; a block has one axis, two, or () for the whole array")
        if self.nonfinite not in NONFINITE:
            raise ValueError(unknown("nonfinite rule", self.nonfinite, list(NONFINITE)))
        if self.flat and len(self.block) != 1:
            raise ValueError(f"block {self.block} is given for a flat format; its blocks have one size")
        scale = self.scale_value_format
        if not holds(BINARY32, scale) or isinstance(scale, CodebookFormat) or precision(scale) > 24:
            raise ValueError(f"{scale} is given as the scale format; a scale must be exact in binary32")
        if not holds(BINARY32, self.element) or precision(self.element) > 24:
            raise ValueError(f"{self.element} is given as the element format; elements must be exact in binary32")
        if max(self.element.max, -self.element.min) <= 0:
            raise ValueError(f"{self.element} is given as the element format; it has no value above zero")
        if isinstance(self.scale, BlockFormat) and not (self.scale.flat or self.scale.block == ()):
            raise ValueError(f"{self.scale} is given as the scale format; blocks of scales run flat: flat=yes")
        if self.micro and self.rule not in ("micro", "hif4"):
            raise ValueError(f"micro={self.micro} is given with rule {self.rule!r}; they go with rule 'micro'")
        size = self.elements_per_block or 0
        for part, _ in self.micro:
            if part < 1 or (size and size % part):
                raise ValueError(f"micro exponents over {part} elements are given; the block is {size} elements")
        self.scale_rule.check(self)

    @property
    def elements_per_block(self) -> int | None:
        """Elements of a whole block; None where that depends on the array."""
        return prod(self.block) if self.block and WHOLE_AXIS not in self.block else None

    @property
    def scale_rule(self) -> ScaleRule:
        """The rule as data."""
        from .named_rules import rules

        return rules()[self.rule]

    @property
    def scale_value_format(self) -> Format:
        """Format of the values that scale the elements: binary32 where the scales are blocks themselves."""
        return scalar_format("float32") if isinstance(self.scale, BlockFormat) else self.scale

    @property
    def has_tensor_scale(self) -> bool:
        """Whether a second, binary32 scale belongs to the whole array."""
        return self.scale_rule.tensor_scale

    @property
    def has_power_of_two_scales(self) -> bool:
        """Whether every scale is a power of two, so that it only moves exponents."""
        rule = self.scale_rule
        only_powers = isinstance(self.scale, FloatFormat) and self.scale.precision == 1
        return not self.has_tensor_scale and (only_powers or rule.powers_of_two) and rule.zero_point is None

    @property
    def default_rounding(self) -> Rounding:
        """Rounding of the elements where none is given: the rule's own, else the element format's."""
        return self.scale_rule.rounding or self.element.default_rounding

    @property
    def default_overflow(self) -> Overflow:
        """`saturate` (OCP MX v1.0 §6.3), `propagate` where infinite elements stay, or fixed point's own."""
        if isinstance(self.element, FixedFormat):
            return self.element.default_overflow
        return Overflow.PROPAGATE if self.nonfinite == "propagate_elements" else Overflow.SATURATE

    @cached_property
    def bits_per_element(self) -> Fraction:
        """Storage of an element with its share of the scales; of whole axes and arrays only the element's bits."""
        bits = Fraction(self.element.bits)
        if self.elements_per_block:
            scale = self.scale.bits_per_element if isinstance(self.scale, BlockFormat) else self.scale.bits
            bits += Fraction(scale + self.scale_rule.zero_point_bits(self), self.elements_per_block)
        return bits + sum(Fraction(width, part) for part, width in self.micro)

    def __str__(self) -> str:
        from .named_blocks import block_name_of

        return block_name_of(self)


_ALIASES = {"bump": "truncation_free", "te": "transformer_engine"}


@lru_cache(maxsize=1024)
def precision(fmt: Format) -> int:
    """Significant bits of a format's widest value."""
    match fmt:
        case FloatFormat():
            return fmt.precision
        case FixedFormat():
            return fmt.bits - fmt.signed
        case CodebookFormat():
            return max(abs(v.numerator).bit_length() - _twos(v.numerator) for v in fmt.values)


def _twos(n: int) -> int:
    """How many times two divides n."""
    return (n & -n).bit_length() - 1 if n else 0
