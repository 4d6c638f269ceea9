"""Policies as data: which recipe a matrix product gets, and which format another result is rounded to, by path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from numfmt import BlockFormat, Overflow, Platform, Rounding, get_format
from numfmt.kernels import Format, unknown

from .quantize import GradientRule, Rounds, rounds_of
from .recipe import Recipe, as_recipe

CUSTOM_VJP = ("error", "rewrite")
T = TypeVar("T")
Rules = tuple[tuple[str, T | None], ...]


class UnmatchedError(ValueError):
    """A pattern that matches nothing, or a product that no pattern matches.

    `paths` has the paths that exist.
    """

    def __init__(self, message: str, paths: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.paths = tuple(paths)


class UnreachableError(ValueError):
    """A product that `emulate` was to replace and cannot: the message has its path and what to do."""


@dataclass(frozen=True)
class Value:
    """How the result of an equation outside products is rounded; arguments as for `quantize`.

    >>> Value("bfloat16").needs_key
    False
    >>> Value("e4m3fn", rounding="stochastic").needs_key
    True
    """

    format: Format | BlockFormat | str
    axis: int | tuple[int, ...] | None = -1
    rounding: Rounding | str | None = None
    overflow: Overflow | str | None = None
    platform: Platform | str | None = None
    random_bit_count: int | None = None
    gradient: GradientRule | str = "straight_through"

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", get_format(self.format))
        axis = tuple(self.axis) if isinstance(self.axis, Iterable) else self.axis
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "gradient", _gradient_rule(self.gradient))
        _ = self.rounds

    @property
    def rounds(self) -> Rounds:
        """The rounding, as static data."""
        return rounds_of(self.format, self.rounding, self.overflow, self.platform, self.random_bit_count, self.axis)

    @property
    def needs_key(self) -> bool:
        """Whether it takes random numbers."""
        of_gradient = self.gradient.rounds if isinstance(self.gradient, GradientRule) else None
        return self.rounds.is_stochastic or (of_gradient is not None and of_gradient.is_stochastic)

    def __str__(self) -> str:
        return f"{self.format} {self.rounds.rules.rounding.value}"


def _gradient_rule(rule: GradientRule | str) -> GradientRule:
    return rule if isinstance(rule, GradientRule) else GradientRule(rule)


@dataclass(frozen=True, init=False, repr=False)
class Policy:
    """Ordered patterns over paths; the first that matches decides.

    A pattern is a path or a glob over the whole path, as in `fnmatch` (`*` crosses `/`). `paths(fn, …)` lists
    the paths of a function.

    Args:
        products: pattern → `Recipe`, its name, or None, which leaves the product to lax.
        values: pattern → format, its name, `Value`, or None, for the results of other equations; the last part
            of such a path is the primitive ("block/ln/mul", "*/exp") or the jitted function ("*/silu").
        custom_vjp: "error": a product inside a jax.custom_vjp is refused; "rewrite": the function's own
            backward pass is dropped, and the gradient is that of the emulated body.

    Raises:
        ValueError: an unknown recipe or format, a pattern that is no string or comes after "*".

    >>> Policy({"*/head": None, "*": "mxfp8"}, values={"*/ln/*": "bf16"})
    Policy({'*/head': None, '*': 'mxfp8'}, values={'*/ln/*': 'bfloat16'})
    """

    products: Rules[Recipe]
    values: Rules[Value]
    custom_vjp: str

    def __init__(
        self,
        products: Mapping[str, Recipe | str | None] | Iterable[tuple[str, Recipe | str | None]] = (),
        values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        *,
        custom_vjp: str = "error",
    ) -> None:
        if custom_vjp not in CUSTOM_VJP:
            raise ValueError(unknown("custom_vjp", str(custom_vjp), list(CUSTOM_VJP)))
        object.__setattr__(self, "products", _rules(products, as_recipe))
        object.__setattr__(self, "values", _rules(values, _as_value))
        object.__setattr__(self, "custom_vjp", custom_vjp)

    def recipe_for(self, path: str) -> tuple[str | None, Recipe | None]:
        """The pattern that decides about a product, or None, and its recipe."""
        return first_match(self.products, path)

    def value_for(self, path: str) -> tuple[str | None, Value | None]:
        """The pattern that decides about another equation's result, or None, and how it is rounded."""
        return first_match(self.values, path)

    def __repr__(self) -> str:
        parts = [_shown(self.products, lambda recipe: recipe.name or recipe)]
        if self.values:
            parts.append(f"values={_shown(self.values, _shown_value)}")
        if self.custom_vjp != "error":
            parts.append(f"custom_vjp={self.custom_vjp!r}")
        return f"Policy({', '.join(parts)})"


def as_policy(policy: Policy | Mapping[str, Any] | Recipe | str | None) -> Policy:
    """A policy; a mapping is its patterns, and a recipe, its name or None is one for every product."""
    if isinstance(policy, Policy):
        return policy
    if policy is None or isinstance(policy, (Recipe, str)):
        return Policy({"*": policy})
    if isinstance(policy, Mapping):
        return Policy(policy)
    raise TypeError(
        f"a policy of type {type(policy).__name__} is given; it is a Policy, {{pattern: recipe}}, or one recipe for all"
    )


def first_match(rules: Rules[T], path: str) -> tuple[str | None, T | None]:
    """The first pattern that is the path or matches it, and what it says; (None, None) where there is none."""
    for pattern, chosen in rules:
        if pattern == path or fnmatchcase(path, pattern):
            return pattern, chosen
    return None, None


def nearest(name: str, paths: Iterable[str], limit: int = 12) -> str:
    """The paths as one list for a message, those like `name` first."""
    every = list(dict.fromkeys(paths))
    near = get_close_matches(name, every, n=limit, cutoff=0.4)
    listed = [*near, *(path for path in every if path not in near)]
    rest = len(listed) - limit
    return (", ".join(listed[:limit]) or "none") + (f" and {rest} more" if rest > 0 else "")


def _rules(given: Any, parse: Any) -> Rules[Any]:
    pairs = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
    for at, (pattern, _) in enumerate(pairs):
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(f"the pattern {pattern!r} is given; a pattern is a path or a glob, such as 'mlp/*'")
        if pattern == "*" and at < len(pairs) - 1:
            raise ValueError(f"the pattern '*' comes before {pairs[at + 1][0]!r}, which it hides; '*' goes last")
        if pattern in (earlier for earlier, _ in pairs[:at]):
            raise ValueError(f"the pattern {pattern!r} is given twice; the first one decides")
    return tuple((pattern, None if chosen is None else parse(chosen)) for pattern, chosen in pairs)


def _as_value(given: Any) -> Value:
    return given if isinstance(given, Value) else Value(given)


def _shown(rules: Rules[Any], show: Any) -> str:
    return "{" + ", ".join(f"{p!r}: {None if c is None else show(c)!r}" for p, c in rules) + "}"


def _shown_value(value: Value) -> Any:
    return str(value.format) if value == Value(value.format) else value
