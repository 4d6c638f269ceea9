"""Which products of the model a recipe covers."""

from __future__ import annotations

from collections.abc import Sequence

from ..policy import Policy
from ..recipe import Recipe
from ..recipes import get_recipe

FLOAT32 = "float32"  # not a recipe: every product is lax's own
HIGH_PRECISION = (FLOAT32, "none", "keep")
FOUR_BITS = ("fp4", "mxfp4", "nvfp4")
Rules = Sequence[tuple[str, str]]


def recipe_of(name: str) -> Recipe | None:
    """The recipe called `name`; None for float32.

    Raises:
        ValueError: an unknown name.
    """
    return None if name.strip().lower() in HIGH_PRECISION else get_recipe(name)


def policy_for(name: str, layers: int, rules: Rules = ()) -> Policy:
    """What is rounded under a recipe, after the papers: the linear layers of the blocks.

    The head, the products of attention and, from three layers on and for recipes of four bits, the first and
    the last block stay in float32 (after NVIDIA, arXiv 2509.25149). The embedding is a look-up and no product.

    Args:
        rules: (pattern, name of a recipe) that come before these; one for "*" stands instead of them.

    >>> policy_for("nvfp4", 4)
    Policy({'head/*': None, '*/scores/*': None, '*/mix/*': None, 'first/*': None, 'last/*': None, '*': 'nvfp4'})
    """
    if recipe_of(name) is None:
        return Policy({"*": None})
    own = [(pattern, recipe_of(chosen)) for pattern, chosen in rules]
    if any(pattern == "*" for pattern, _ in own):
        return Policy(own)
    usual = ["head/*", "*/scores/*", "*/mix/*"]
    if layers > 2 and name.strip().lower().startswith(FOUR_BITS):
        usual += ["first/*", "last/*"]
    given = {pattern for pattern, _ in own}
    return Policy([*own, *((pattern, None) for pattern in usual if pattern not in given), ("*", get_recipe(name))])


def parse_rule(text: str) -> tuple[str, str]:
    """A rule from PATTERN=RECIPE.

    >>> parse_rule("middle/mlp/*=mxfp8")
    ('middle/mlp/*', 'mxfp8')
    """
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern or not name:
        raise ValueError(f"the rule {text!r} is given; it is PATTERN=RECIPE, such as 'middle/mlp/*=mxfp8'")
    recipe_of(name)
    return pattern, name
