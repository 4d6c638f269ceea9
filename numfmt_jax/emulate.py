"""emulate(fn, policy): an ordinary function with its matrix products replaced, and other results rounded, by path."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from numfmt.kernels import unknown

from .jaxprs import Body, Place, Reader, Run, Step, call_program, evaluate, mark_weights, walk
from .matching import Options, advice_for, barriers_of, can_round, decide, settle, unmatched_of
from .policy import CUSTOM_VJP, Policy, as_policy
from .random import Key, key_words
from .receipt import Receipt, Site, slots_of, value_site
from .tracing import Cache, Trace, cache_of, held, partition, trace


class Emulated:
    """A function with a policy; `emulate` makes it."""

    def __init__(
        self,
        fn: Callable[..., Any],
        policies: tuple[Policy, ...],
        options: Options,
        key: Key | None = None,
        select: Any = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self._fn, self._policies, self._options = fn, policies, options
        self._key = None if key is None else key_words(key)
        self._select = None if select is None else jnp.asarray(select)
        self._cache = cache_of(fn)
        self._taps: dict[str, Any] | None = None

    def tapped(self, taps: dict[str, Any]) -> Emulated:
        """The same with an array for each of some sites, whose cotangents are the statistics of their operands."""
        copied = copy.copy(self)
        copied._taps = taps
        return copied

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The emulated function."""
        objects, (fn, args, kwargs) = self._without_objects(args, kwargs)
        arrays, structure, fixed = partition((args, kwargs))
        cache = self._cache if fn is self._fn else cache_of(fn)
        traced = trace(fn, cache, arrays, structure, fixed)
        program = self._program(traced, cache, args, kwargs, arrays)
        given = [*jax.tree.leaves((self._key, self._select, self._taps)), *traced.closed.consts, *arrays]
        result = traced.outputs.together(call_program(program, given))
        if not objects:
            return result
        result, after = result
        _nnx().update(objects, after)
        return result

    def paths(self, *args: Any, **kwargs: Any) -> Paths:
        """The paths of `paths(fn, …)`."""
        steps, options, policy = list(walk(self._body(args, kwargs))), self._options, self._policies[0]
        products = tuple(step.path for step in steps if step.is_product or step.is_opaque)
        return Paths(products, tuple(step.path for step in steps if can_round(step, policy, options)))

    def receipt(self, *args: Any, **kwargs: Any) -> Receipt | tuple[Receipt, ...]:
        """The receipt of `receipt(fn, policy, …)`; several for several policies."""
        body = self._body(args, kwargs)
        receipts = tuple(_receipt(body, policy, self._options) for policy in self._policies)
        return receipts[0] if len(receipts) == 1 else receipts

    def _without_objects(self, args: Any, kwargs: Any) -> tuple[Any, tuple[Any, Any, Any]]:
        """The nnx objects of the arguments, and the function and its arguments without them: arrays in, arrays out."""
        objects = _nnx().objects_in((args, kwargs)) if "flax.nnx" in sys.modules else ()
        if not objects:
            return (), (self._fn, args, kwargs)
        if self._cache.functional is None:
            self._cache.functional = _nnx().functional(held(self._fn))
        return objects, (self._cache.functional, *_nnx().opened((args, kwargs)))

    def _body(self, args: Any, kwargs: Any) -> Body:
        _, (fn, args, kwargs) = self._without_objects(args, kwargs)
        cache = self._cache if fn is self._fn else cache_of(fn)
        return self._read(trace(fn, cache, *partition((args, kwargs))), self._flags(args, kwargs))

    def _flags(self, args: Any, kwargs: Any) -> tuple[bool, ...]:
        return _weight_flags(self._fn, self._options.weights, args, kwargs)

    def _read(self, traced: Trace, flags: Sequence[bool]) -> Body:
        """The function as steps; the jitted call around it adds nothing to paths."""
        jaxpr, reader = traced.closed.jaxpr, Reader()
        if traced.inner is None:
            body = reader.body(traced.closed, Place())
        else:
            outer = Step(jaxpr.eqns[0], "", 1, (), (), (reader.body(traced.inner, Place()),))
            body = Body(jaxpr, (), [outer])
        mark_weights(body, flags)
        return body

    def _program(self, traced: Trace, cache: Cache, args: Any, kwargs: Any, arrays: list[Any]) -> Any:
        """The jaxpr of the emulated function: of key, select, what the function closes over, and its arrays."""
        consts, flags = list(traced.closed.consts), self._flags(args, kwargs)
        kinds = tuple(x if x is None else jax.typeof(x) for x in (self._key, self._select, *consts, *arrays))
        taps = None if self._taps is None else tuple(sorted(self._taps))
        name = None if traced.inner is None else (id(traced.inner), self._policies, self._options, flags, kinds, taps)
        if name in cache.programs:
            return cache.programs[name][1]
        body = self._read(traced, flags)
        decide(body, self._policies, self._options)
        self._check_key(body)

        def written(key: Any, select: Any, taps: Any, consts: list[Any], arrays: list[Any]) -> list[Any]:
            return evaluate(replace(body, consts=tuple(consts)), arrays, Run(key, select, taps))

        program = jax.make_jaxpr(written)(self._key, self._select, self._taps, consts, arrays)
        if name is not None:
            cache.programs[name] = (traced.inner, program)
        return program

    def _check_key(self, body: Body) -> None:
        if self._key is not None:
            return
        for step in walk(body):
            for chosen in (*step.recipes, *step.values):
                if chosen is not None and chosen.needs_key:
                    raise ValueError(
                        f"{chosen} at {step.path} draws random numbers and emulate has no key; give key=, a "
                        "jax.random.key, new in every step: emulate(loss, policy, key=key) inside the jitted step"
                    )


def _nnx() -> Any:
    from . import nnx_objects

    return nnx_objects


def _weight_flags(fn: Callable[..., Any], weights: tuple[int | str, ...], args: Any, kwargs: Any) -> tuple[bool, ...]:
    """For each array of the arguments, whether it is a parameter."""
    n = len(args)
    positions = {i % n for i in weights if isinstance(i, int) and -n <= i < n}
    names = {name for name in weights if isinstance(name, str)}
    if kwargs:
        called = _parameters(fn)
        names |= {called[i] for i in weights if isinstance(i, int) and 0 <= i < len(called)}
    flags: list[bool] = []
    for i, arg in enumerate(args):
        flags += [i in positions] * len(partition(arg)[0])
    for name in sorted(kwargs):
        flags += [name in names] * len(partition(kwargs[name])[0])
    return tuple(flags)


def _parameters(fn: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []


def _receipt(body: Body, policy: Policy, options: Options) -> Receipt:
    steps = list(walk(body))
    settle(body, (policy,), options)
    sites = [step for step in steps if step.is_product or step.is_opaque]
    unreached = {s.path: advice_for(b[-1]) for s in sites if (b := barriers_of(s, policy, options))}
    of_products, of_values, unmatched = unmatched_of(steps, policy, options)
    values = tuple(
        value_site(s.path, _shape(s.eqn.outvars[0]), policy.value_for(s.path)[0] or "", s.values[0], s.times, s.notes)
        for s in steps
        if s.values and s.values[0] is not None
    )
    products = tuple(_site(step, policy) for step in steps if step.is_product)
    return Receipt(products, values, (*of_products, *of_values), tuple(unmatched), unreached)


def _site(step: Step, policy: Policy) -> Site:
    recipe = step.recipes[0]
    lhs, rhs = step.eqn.invars[:2]
    numbers = step.eqn.params["dimension_numbers"]
    return Site(
        step.path, step.primitive, _shape(lhs), _shape(rhs), _shape(step.eqn.outvars[0]), str(numbers),
        policy.recipe_for(step.path)[0], None if recipe is None else str(recipe), slots_of(recipe), step.weight,
        step.times, step.notes,
    )  # fmt: skip


def _shape(var: Any) -> str:
    return f"{var.aval.dtype.name}[{','.join(map(str, var.aval.shape))}]"


class Paths(tuple[str, ...]):
    """The paths of a function's products; `values` has those of the results that a policy's values can round."""

    values: tuple[str, ...]

    def __new__(cls, products: Sequence[str], values: Sequence[str] = ()) -> Paths:
        """The paths of products, and of values."""
        self = super().__new__(cls, products)
        self.values = tuple(values)
        return self


def emulate(
    fn: Callable[..., Any],
    policy: Any,
    *,
    key: Key | None = None,
    select: Any = None,
    strict: bool = True,
    weights: int | str | Sequence[int | str] = 0,
    custom_vjp: str = "error",
) -> Emulated:
    """`fn` with its matrix products rounded as a policy says, in the product and in both of its gradients.

    The function is called as before; `jax.grad`, `jax.jit`, `jax.vmap` go around it: jax.grad(emulate(loss, policy)).
    It is traced once per kind of arguments: arrays are traced, every other leaf (numbers, functions, strings) is
    part of the kind.

    Args:
        fn: function of pytrees.
        policy: `Policy`, {pattern: recipe, name or None}, or one recipe or name for every product. With `select`
            a sequence of them.
        key: key of jax.random.key for recipes that draw random numbers; it may be traced, and training needs a
            new one each step: call emulate(loss, policy, key=step_key) inside the jitted step. Each path takes
            numbers of its own, and so does each iteration of a loop. Under vmap a key from outside is shared.
        select: integer, traced or not: which of several policies holds, so that a schedule compiles once.
        strict: raise for a pattern that matches nothing and a product that no pattern matches.
        weights: which arguments hold parameters, by position or name. Where only the left operand of a product
            comes from them or from closed-over arrays, by reshapes and slices alone, it is the recipe's weight;
            else the right one is.
        custom_vjp: "error": a product inside a jax.custom_vjp is refused; "rewrite": its backward pass is dropped,
            and gradients are those of the emulated body.

    A jax.custom_jvp that holds products computes the emulated value; its own rule gives the tangents, with the
    products in it left as they are. One without products is untouched.

    A path is the `jax.named_scope`s around an equation and its primitive, "mlp/fc1/dot_general"; the next one of
    that name is "mlp/fc1/dot_general_1". jit, scan, while, cond, remat and transformations add nothing.

    Raises:
        UnmatchedError: under strict, with the paths that exist.
        UnreachableError: a product that cannot be replaced: in a gradient, a kernel, a callback, a custom_vjp.
        ValueError: a recipe that draws random numbers without a key.

    >>> import jax, jax.numpy as jnp
    >>> def loss(w, x):
    ...     with jax.named_scope("fc1"):
    ...         return jnp.sum(x @ w)
    >>> w, x = jnp.full((32, 8), 0.3), jnp.ones((4, 32))
    >>> paths(loss, w, x)
    ('fc1/dot_general',)
    >>> jax.value_and_grad(emulate(loss, {"fc1/*": "mxfp8"}))(w, x)[0].item()
    320.0
    """
    several = isinstance(policy, (tuple, list))
    if several == (select is None):
        given = "several policies are given without select=" if several else "select= is given with one policy"
        raise ValueError(f"{given}; select is an index into a sequence of policies")
    if custom_vjp not in CUSTOM_VJP:
        raise ValueError(unknown("custom_vjp", str(custom_vjp), list(CUSTOM_VJP)))
    if not callable(fn):
        raise TypeError(f"a {type(fn).__name__} is given; emulate takes a function")
    policies = tuple(as_policy(each) for each in (policy if several else (policy,)))
    chosen = (weights,) if isinstance(weights, (int, str)) else tuple(weights)
    return Emulated(fn, policies, Options(strict, chosen, custom_vjp), key, select)


def paths(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Paths:
    """The paths of the matrix products of fn(*args, **kwargs), in program order; arguments may be ShapeDtypeStructs.

    Its attribute `values` has the paths of the other results that can be rounded.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((4, 4), "float32")
    >>> paths(lambda x: jnp.exp(x @ x) @ x, x)
    ('dot_general', 'dot_general_1')
    >>> paths(lambda x: jnp.exp(x @ x) @ x, x).values
    ('dot_general', 'exp', 'dot_general_1')
    """
    return _plain(fn, None).paths(*args, **kwargs)


def receipt(fn: Callable[..., Any], policy: Any, *args: Any, **kwargs: Any) -> Receipt:
    """What the policy does to each product of fn(*args, **kwargs): nothing is computed, and nothing raises.

    Arguments may be ShapeDtypeStructs. For other options than emulate's defaults: emulate(…).receipt(*args).

    >>> import jax
    >>> x = jax.ShapeDtypeStruct((4, 32), "float32")
    >>> receipt(lambda x: x @ x.T, "mxfp8", x).sites[0].slots["fprop.lhs"].format
    'mxfp8_te'
    """
    found = fn.receipt(*args, **kwargs) if isinstance(fn, Emulated) else _plain(fn, policy).receipt(*args, **kwargs)
    assert isinstance(found, Receipt)
    return found


def _plain(fn: Callable[..., Any], policy: Any) -> Emulated:
    return Emulated(fn, (as_policy(policy),), Options())
