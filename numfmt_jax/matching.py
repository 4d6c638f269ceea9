"""What policies say about the steps of a function: which product gets which recipe, and what is an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .jaxprs import CUSTOM_VJPS, OPAQUE, Body, Step, walk
from .policy import Policy, UnmatchedError, UnreachableError, Value, first_match, nearest
from .recipe import Recipe


@dataclass(frozen=True)
class Options:
    """What besides the policies decides: `emulate`'s keywords."""

    strict: bool = True
    weights: tuple[int | str, ...] = (0,)
    custom_vjp: str = "error"


def barriers_of(step: Step, policy: Policy, options: Options) -> tuple[str, ...]:
    """What keeps emulate from changing a step."""
    own = (step.primitive,) if step.is_opaque else ()
    rewrites = "rewrite" in (options.custom_vjp, policy.custom_vjp)
    return tuple(b for b in (*step.barriers, *own) if not (rewrites and b in CUSTOM_VJPS))


def can_round(step: Step, policy: Policy, options: Options) -> bool:
    """Whether a result of the step can be rounded."""
    return bool(step.path) and step.has_float_result and not barriers_of(step, policy, options)


def decide(body: Body, policies: Sequence[Policy], options: Options) -> None:
    """Sets what each step becomes; raises, under strict, for what matches nothing and what cannot be reached."""
    steps = list(walk(body))
    if options.strict:
        for policy in policies:
            _check(steps, policy, options)
    settle(body, policies, options)


def settle(body: Body, policies: Sequence[Policy], options: Options) -> None:
    """Sets what each step becomes; nothing that matches nothing is an error."""
    for step in body.steps:
        step.recipes = tuple(_recipe_of(step, policy, options) for policy in policies)
        step.values = tuple(_value_of(step, policy, options) for policy in policies)
        for inner in step.bodies:
            settle(inner, policies, options)
        below = [s for inner in step.bodies for s in inner.steps]
        own = [chosen for chosen in (*step.recipes, *step.values) if chosen is not None]
        step.changes = bool(own) or any(s.changes for s in below)
        step.needs_key = any(chosen.needs_key for chosen in own) or any(s.needs_key for s in below)


def _recipe_of(step: Step, policy: Policy, options: Options) -> Recipe | None:
    if not step.is_product or barriers_of(step, policy, options):
        return None
    recipe = policy.recipe_for(step.path)[1]
    return None if recipe is None or recipe.is_identity else recipe


def _value_of(step: Step, policy: Policy, options: Options) -> Value | None:
    return policy.value_for(step.path)[1] if policy.values and can_round(step, policy, options) else None


def _check(steps: Sequence[Step], policy: Policy, options: Options) -> None:
    sites = [step for step in steps if step.is_product or step.is_opaque]
    for step in sites:
        pattern, recipe = policy.recipe_for(step.path)
        if barriers := barriers_of(step, policy, options):
            if pattern is None or not (recipe is None or recipe.is_identity):
                raise UnreachableError(f"{step.path}: {advice_for(barriers[-1])}")
    of_products, of_values, unmatched = unmatched_of(steps, policy, options)
    where = [step.path for step in sites]
    results = [step.path for step in steps if can_round(step, policy, options)]
    for patterns, kind, known in ((of_products, "product", where), (of_values, "result that can be rounded", results)):
        for pattern in patterns:
            message = f"the pattern {pattern!r} matches no {kind}; the paths are {nearest(pattern, known)}"
            raise UnmatchedError(message, known)
    if unmatched:
        listed = nearest("", unmatched)
        advice = "add a pattern, or '*': None as the last one to leave the rest as it is"
        raise UnmatchedError(f"no pattern matches {listed}; {advice}", where)


def unmatched_of(steps: Sequence[Step], policy: Policy, options: Options) -> tuple[list[str], list[str], list[str]]:
    """Patterns for products and for values that match nothing, and products that no pattern matches."""
    sites = [step.path for step in steps if step.is_product or step.is_opaque]
    results = [step.path for step in steps if can_round(step, policy, options)]
    wanted = [p for p, chosen in policy.products if p != "*" or chosen is not None]
    of_products = [p for p in wanted if not any(_matches(p, path) for path in sites)]
    of_values = [p for p, _ in policy.values if not any(_matches(p, path) for path in results)]
    return of_products, of_values, [path for path in sites if policy.recipe_for(path)[0] is None]


def _matches(pattern: str, path: str) -> bool:
    return first_match(((pattern, None),), path)[0] is not None


def advice_for(barrier: str) -> str:
    """Why a product behind a barrier cannot be replaced, and what to do."""
    leave = "give its path the recipe None to leave it as it is"
    if barrier == "transpose":
        return (
            "the function already holds gradients, whose products a recipe's own backward passes would replace; "
            f"put emulate around the loss, inside grad: jax.grad(emulate(loss, policy)), or {leave}"
        )
    if barrier in CUSTOM_VJPS:
        return (
            "a product inside a jax.custom_vjp, whose own backward pass does not know the recipe; "
            f"give custom_vjp='rewrite' to drop it and differentiate the emulated body, or {leave}"
        )
    if barrier in OPAQUE:
        return f"{barrier} may hold products that emulate cannot see; {leave}, or use a version in plain JAX"
    return f"a product inside {barrier}, which emulate cannot rewrite; {leave}, or call numfmt_jax.dot_general there"
