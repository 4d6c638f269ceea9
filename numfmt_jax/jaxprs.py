"""Jaxprs as steps with paths, and steps written anew: the one file that knows how JAX writes a program down.

A canary test (tests/jax/test_emulate.py) says what moved when JAX changes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core, source_info_util

from .conv import conv_general_dilated
from .dots import dot_general
from .policy import Value
from .quantize import quantize
from .random import fold
from .recipe import Recipe

Array = jax.Array
Times = int | str

PRODUCTS = ("dot_general", "conv_general_dilated")
# What may hold products that no jaxpr shows, and products that have no slots.
OPAQUE = frozenset(
    "pallas_call ffi_call pure_callback io_callback call_hi_primitive ragged_dot ragged_dot_general "
    "scaled_matmul scaled_dot dot_product_attention_fwd dot_product_attention_fwd_wrapper custom_partitioning".split()
)
# What a weight stays a weight through: the first operand decides, for CONCATENATES all of them do.
STRUCTURAL = frozenset(
    "convert_element_type transpose reshape broadcast_in_dim slice squeeze expand_dims copy copy_p dynamic_slice rev "
    "split sharding_constraint mesh_cast reshard optimization_barrier name reduce_precision stop_gradient pvary "
    "pcast".split()
)
CONCATENATES = frozenset({"concatenate", "stack"})


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Body:
    """A jaxpr as steps."""

    jaxpr: Any
    consts: tuple[Any, ...]
    steps: list[Step]


@dataclass(eq=False)
class Step:
    """One equation: where it stands, and what the policies (one, or those that `select` chooses from) say about it."""

    eqn: Any
    path: str
    times: Times
    notes: tuple[str, ...]
    barriers: tuple[str, ...]  # what keeps emulate from changing it
    bodies: tuple[Body, ...] = ()
    weight: str = "rhs"
    recipes: tuple[Recipe | None, ...] = ()
    values: tuple[Value | None, ...] = ()
    changes: bool = False  # itself, or a step of its bodies
    needs_key: bool = False

    @property
    def primitive(self) -> str:
        """Name of the primitive."""
        return str(self.eqn.primitive.name)

    @property
    def is_product(self) -> bool:
        """Whether it is a matrix product of floats; those of integers are exact and left alone."""
        floats = all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in self.eqn.invars[:2])
        return self.primitive in PRODUCTS and floats

    @property
    def is_opaque(self) -> bool:
        """Whether it may hold products that nobody can see."""
        return self.primitive in OPAQUE

    @property
    def has_float_result(self) -> bool:
        """Whether a result of it can be rounded, where nothing keeps emulate out."""
        return any(_is_float(v.aval) for v in self.eqn.outvars)


@dataclass(frozen=True)
class Place:
    """Where a jaxpr stands in the function."""

    scopes: tuple[str, ...] = ()
    times: Times = 1
    notes: tuple[str, ...] = ()
    barriers: tuple[str, ...] = ()

    def inside(self, eqn: Any) -> Place:
        """The place of an equation of it: its named scopes added."""
        stack = eqn.source_info.name_stack.stack
        scopes = tuple(str(part.name) for part in stack if type(part).__name__ == "Scope" and part.name)
        transposed = any(type(part).__name__ == "Transform" and part.name == "transpose" for part in stack)
        barriers = (*self.barriers, "transpose") if transposed and "transpose" not in self.barriers else self.barriers
        return replace(self, scopes=(*self.scopes, *scopes), barriers=barriers)

    def repeated(self, length: Times) -> Place:
        """The place of a loop's body."""
        fixed = isinstance(length, int) and isinstance(self.times, int)
        return replace(self, times=self.times * length if fixed else "dynamic")  # type: ignore[operator]


def _opened(jaxpr: Any) -> tuple[Any, tuple[Any, ...]]:
    """A jaxpr and its constants; open ones have none."""
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ()))


class Reader:
    """Reads jaxprs into steps, giving each equation a path of its own."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.taken: set[str] = set()

    def body(self, jaxpr: Any, place: Place) -> Body:
        """The steps of a jaxpr."""
        inner, consts = _opened(jaxpr)
        return Body(inner, consts, [self.step(eqn, place.inside(eqn)) for eqn in inner.eqns])

    def step(self, eqn: Any, place: Place) -> Step:
        """The step of one equation."""
        name = eqn.primitive.name
        own = eqn.params["name"] if name in JITS else name
        path = self.unique("/".join((*place.scopes, str(own))))
        bodies: tuple[Body, ...] = ()
        if name in CALLS:
            bodies = tuple(self.body(jaxpr, where) for jaxpr, where in CALLS[name].read(eqn.params, place))
        elif name not in OPAQUE:
            within = replace(place, barriers=(*place.barriers, name))
            bodies = tuple(self.body(jaxpr, within) for jaxpr in core.jaxprs_in_params(eqn.params))
        return Step(eqn, path, place.times, place.notes, place.barriers, bodies)

    def unique(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, … for the equations after the first of that name."""
        while True:
            count = self.counts[base]
            self.counts[base] += 1
            path = f"{base}_{count}" if count else base
            if path not in self.taken:
                self.taken.add(path)
                return path


def walk(body: Body) -> Iterator[Step]:
    """Every step in program order, those of bodies after the one that holds them."""
    for step in body.steps:
        yield step
        for inner in step.bodies:
            yield from walk(inner)


def mark_weights(body: Body, flags: Sequence[bool]) -> list[bool]:
    """Sets `weight` of each product from which inputs hold parameters; which outputs do."""
    known: dict[Any, bool] = dict.fromkeys(body.jaxpr.constvars, True)
    known.update(zip(body.jaxpr.invars, flags, strict=True))

    def is_weight(atom: Any) -> bool:
        return isinstance(atom, core.Literal) or known.get(atom, False)

    for step in body.steps:
        inputs = [is_weight(atom) for atom in step.eqn.invars]
        if step.primitive in PRODUCTS:
            step.weight = "lhs" if inputs[0] and not inputs[1] else "rhs"
        outputs = [False] * len(step.eqn.outvars)
        if step.primitive in CALLS:
            outputs = CALLS[step.primitive].mark(step, inputs)
        elif step.primitive in STRUCTURAL:
            outputs = [inputs[0]] * len(outputs)
        elif step.primitive in CONCATENATES:
            outputs = [all(inputs)]
        known.update(zip(step.eqn.outvars, outputs, strict=True))
    return [is_weight(atom) for atom in body.jaxpr.outvars]


def call_program(program: Any, values: Sequence[Any]) -> list[Any]:
    """The outputs of a closed jaxpr."""
    outputs: list[Any] = core.jaxpr_as_fun(program)(*values)
    return outputs


def _is_float(aval: Any) -> bool:
    return jnp.issubdtype(getattr(aval, "dtype", jnp.int32), jnp.floating)


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a written function is given besides its arguments: the words of a key, and which policy holds."""

    key: Array | None = None
    select: Array | None = None
    taps: Mapping[str, Array] | None = None  # of sites, for statistics

    def folded(self, number: Any) -> Run:
        """The run of one iteration: no two share random numbers."""
        return self if self.key is None else replace(self, key=_fold(self.key, jnp.asarray(number, jnp.uint32)))

    def of(self, path: str) -> Run:
        """The run of one site, whose key is fold(key, path)."""
        return self.folded(crc32(path.encode()))


_fold = jax.jit(fold)  # traced once


def evaluate(body: Body, values: Sequence[Any], run: Run) -> list[Any]:
    """The outputs of a body for the given inputs, each step as the policies have it."""
    known: dict[Any, Any] = dict(zip(body.jaxpr.constvars, body.consts, strict=True))
    known.update(zip(body.jaxpr.invars, values, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for step in body.steps:
        outputs = write(step, [read(atom) for atom in step.eqn.invars], run)
        known.update(zip(step.eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in body.jaxpr.outvars]


def write(step: Step, values: list[Any], run: Run) -> list[Any]:
    """The results of one step."""
    if not step.path:  # the jitted call that tracing puts around the function
        return evaluate(step.bodies[0], values, run)
    with _context(step.eqn):
        if not step.changes:
            return rebind(step.eqn, values)
        try:
            if any(step.recipes):
                outputs = [_selected(step.recipes, run, functools.partial(_product, step, values, run))]
            elif any(inner.changes for body in step.bodies for inner in body.steps):
                outputs = CALLS[step.primitive].write(step, values, run)
            else:
                outputs = rebind(step.eqn, values)
            if any(step.values):
                outputs = _selected(step.values, run, functools.partial(_rounded, step, outputs, run))
        except (TypeError, ValueError) as error:
            if step.is_product or any(step.values):
                error.add_note(f"(at {step.path})")
            raise
        return outputs


@contextmanager
def _context(eqn: Any) -> Iterator[None]:
    """The names, the source line and the mode that an equation was traced with."""
    names = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with ExitStack() as stack:
        stack.enter_context(source_info_util.user_context(eqn.source_info.traceback, name_stack=names))
        stack.enter_context(eqn.ctx.manager)
        yield


def rebind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """The equation as it was, of other values."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # a pair before JAX 0.10
    outputs = eqn.primitive.bind(*functions, *values, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def _selected(choices: Sequence[Any], run: Run, use: Callable[[Any], Any]) -> Any:
    """`use` of the choice that `select` points to; choices that are equal are one branch."""
    distinct = list(dict.fromkeys(choices))
    if len(distinct) == 1:
        return use(distinct[0])
    assert run.select is not None
    table = jnp.asarray([distinct.index(choice) for choice in choices])
    branches = [lambda choice=choice: use(choice) for choice in distinct]
    return lax.switch(table[jnp.clip(run.select, 0, len(choices) - 1)], branches)


def _product(step: Step, values: list[Any], run: Run, recipe: Recipe | None) -> Any:
    if recipe is None:
        return rebind(step.eqn, values)[0]
    key = run.of(step.path).key if recipe.needs_key else None
    params = tuple((k, v) for k, v in step.eqn.params.items() if k != "out_sharding" or v is not None)
    tap = None if run.taps is None else run.taps.get(step.path)
    return _rounded_product(step.primitive, params, recipe, step.weight)(*values, key, tap)


@functools.lru_cache(maxsize=1024)
def _rounded_product(primitive: str, params: tuple[Any, ...], recipe: Recipe, weight: str) -> Any:
    """The product as a jitted function, one for all sites that are alike: it is traced once for a shape."""
    function: Any = dot_general if primitive == "dot_general" else conv_general_dilated

    def product(lhs: Array, rhs: Array, key: Array | None, tap: Array | None) -> Any:
        return function(lhs, rhs, **dict(params), recipe=recipe, key=key, weight=weight, tap=tap)

    return jax.jit(product)


def _rounded(step: Step, outputs: list[Any], run: Run, value: Value | None) -> list[Any]:
    if value is None:
        return list(outputs)
    own = run.of(f"{step.path} value") if value.needs_key else Run()
    return [_rounded_value(value)(x, own.folded(i).key) if _is_float(x) else x for i, x in enumerate(outputs)]


@functools.lru_cache(maxsize=1024)
def _rounded_value(value: Value) -> Any:
    @jax.jit
    def rounded(x: Array, key: Array | None) -> Array:
        y = quantize(
            x, value.format, rounding=value.rounding, overflow=value.overflow, platform=value.platform, key=key,
            random_bit_count=value.random_bit_count, axis=value.axis, gradient=value.gradient,
        )  # fmt: skip
        if y.dtype != x.dtype:
            raise ValueError(f"a result of {x.dtype} is to be rounded to {value.format}; {x.dtype} lacks its values")
        return y

    return rounded


# ---- equations with bodies -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """How an equation with bodies is read, how weights pass through it, and how it is written anew."""

    read: Callable[[Mapping[str, Any], Place], Sequence[tuple[Any, Place]]]
    mark: Callable[[Step, list[bool]], list[bool]]
    write: Callable[[Step, list[Any], Run], list[Any]]


def _only_body(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    return [(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"], place)]


def _mark_only_body(step: Step, flags: list[bool]) -> list[bool]:
    return mark_weights(step.bodies[0], flags)


def _write_inline(step: Step, values: list[Any], run: Run) -> list[Any]:
    return evaluate(step.bodies[0], values, run)


def _write_jit(step: Step, values: list[Any], run: Run) -> list[Any]:
    params = step.eqn.params

    def function(*values: Any) -> list[Any]:
        return evaluate(step.bodies[0], values, run)

    function.__name__ = str(params["name"])
    options = {name: params[name] for name in ("keep_unused", "inline") if name in params}
    if any(params.get("donated_invars", ())):
        options["donate_argnums"] = tuple(i for i, donated in enumerate(params["donated_invars"]) if donated)
    for name in ("in_shardings", "out_shardings"):
        shardings = tuple(None if _unspecified(s) else s for s in params.get(name, ()))
        if any(s is not None for s in shardings):
            options[name] = shardings if name == "in_shardings" else list(shardings)
    if params.get("compiler_options_kvs"):
        options["compiler_options"] = dict(params["compiler_options_kvs"])
    outputs: list[Any] = jax.jit(function, **options)(*values)
    return outputs


def _unspecified(sharding: Any) -> bool:
    return sharding is None or type(sharding).__name__ == "UnspecifiedValue"


def _write_remat(step: Step, values: list[Any], run: Run) -> list[Any]:
    params = step.eqn.params

    def function(*values: Any) -> list[Any]:
        return evaluate(step.bodies[0], values, run)

    written = jax.checkpoint(function, prevent_cse=params["prevent_cse"], policy=params["policy"])
    outputs: list[Any] = written(*values)
    return outputs


def _read_custom_jvp(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    note = "gradient by the function's own jvp rule"
    return _only_body(params, replace(place, notes=(*place.notes, note)))


def _write_custom_jvp(step: Step, values: list[Any], run: Run) -> list[Any]:
    """The emulated body with the user's rule for tangents, which is left as it is.

    The run is an argument: a rule outlives the trace that it is made in.
    """

    @jax.custom_jvp
    def function(run: tuple[Any, Any, Any], *values: Any) -> list[Any]:
        return evaluate(step.bodies[0], values, Run(*run))

    def rule(primals: Any, tangents: Any) -> Any:
        own = functools.partial(_tuple_of_rebound, step.eqn)
        _, tangents_out = jax.jvp(own, primals[1:], tangents[1:])
        return function(*primals), list(tangents_out)

    function.defjvp(rule)
    outputs: list[Any] = function((run.key, run.select, run.taps), *values)
    return outputs


def _tuple_of_rebound(eqn: Any, *values: Any) -> tuple[Any, ...]:
    return tuple(rebind(eqn, values))


def _read_custom_vjp(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    return _only_body(params, replace(place, barriers=(*place.barriers, CUSTOM_VJPS[0])))


def _scan_sizes(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # since JAX 0.12
    return len(consts), len(carry)


def _read_scan(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    return [(params["jaxpr"], place.repeated(params["length"]))]


def _mark_scan(step: Step, flags: list[bool]) -> list[bool]:
    consts, carry = _scan_sizes(step.eqn.params)
    return _mark_loop(step.bodies[0], flags, consts, carry)


def _mark_loop(body: Body, flags: list[bool], consts: int, carry: int) -> list[bool]:
    """Weights through a loop: what is carried is one where it enters and leaves every iteration as one."""
    carried = flags[consts : consts + carry]
    while True:
        outputs = mark_weights(body, [*flags[:consts], *carried, *flags[consts + carry :]])
        stays = [a and b for a, b in zip(carried, outputs[:carry], strict=True)]
        if stays == carried:
            return [*carried, *outputs[carry:]]
        carried = stays


def _write_scan(step: Step, values: list[Any], run: Run) -> list[Any]:
    params = step.eqn.params
    n_consts, n_carry = _scan_sizes(params)
    consts, init, slices = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    position = jnp.arange(params["length"], dtype=jnp.uint32) if step.needs_key else None

    def iteration(carry: list[Any], inputs: tuple[Any, list[Any]]) -> tuple[list[Any], list[Any]]:
        at, sliced = inputs
        own = run if at is None else run.folded(at)
        outputs = evaluate(step.bodies[0], [*consts, *carry, *sliced], own)
        return outputs[:n_carry], outputs[n_carry:]

    options = {name: params[name] for name in ("length", "reverse", "unroll", "_split_transpose") if name in params}
    carry, stacked = lax.scan(iteration, init, (position, slices), **options)
    return [*carry, *stacked]


def _read_while(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    inside = place.repeated("dynamic")
    return [(params["cond_jaxpr"], inside), (params["body_jaxpr"], inside)]


def _mark_while(step: Step, flags: list[bool]) -> list[bool]:
    n_cond, n_body = step.eqn.params["cond_nconsts"], step.eqn.params["body_nconsts"]
    carried = _mark_loop(step.bodies[1], flags[n_cond:], n_body, len(flags) - n_cond - n_body)
    mark_weights(step.bodies[0], [*flags[:n_cond], *carried])
    return carried


def _write_while(step: Step, values: list[Any], run: Run) -> list[Any]:
    n_cond, n_body = step.eqn.params["cond_nconsts"], step.eqn.params["body_nconsts"]
    of_cond, of_body, init = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
    count = jnp.uint32(0) if step.needs_key else None

    def own(at: Any) -> Run:
        return run if at is None else run.folded(at)

    def holds(state: tuple[Any, list[Any]]) -> Any:
        at, carry = state
        return evaluate(step.bodies[0], [*of_cond, *carry], own(at))[0]

    def iteration(state: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        at, carry = state
        return None if at is None else at + 1, evaluate(step.bodies[1], [*of_body, *carry], own(at))

    outputs: list[Any] = lax.while_loop(holds, iteration, (count, init))[1]
    return outputs


def _read_cond(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    branches = params["branches"]
    notes = [(*place.notes, f"branch {i + 1} of {len(branches)}") for i in range(len(branches))]
    return [(branch, replace(place, notes=note)) for branch, note in zip(branches, notes, strict=True)]


def _mark_cond(step: Step, flags: list[bool]) -> list[bool]:
    outputs = [mark_weights(body, flags[1:]) for body in step.bodies]
    return [all(each) for each in zip(*outputs, strict=True)]


def _write_cond(step: Step, values: list[Any], run: Run) -> list[Any]:
    def branch(body: Body) -> Callable[..., list[Any]]:
        return lambda *values: evaluate(body, values, run)

    outputs: list[Any] = lax.switch(values[0], [branch(body) for body in step.bodies], *values[1:])
    return outputs


def _read_shard_map(params: Mapping[str, Any], place: Place) -> list[tuple[Any, Place]]:
    note = "inside shard_map: the scale of a whole tensor is of each shard's own part"
    return _only_body(params, replace(place, notes=(*place.notes, note)))


def _write_shard_map(step: Step, values: list[Any], run: Run) -> list[Any]:
    """The run is an argument of every shard, and those that hold different parts take different random numbers."""
    params = step.eqn.params
    axes = _axes_of(params["in_specs"])

    def function(run_values: tuple[Any, Any, Any], *values: Any) -> tuple[Any, ...]:
        own = Run(*run_values)
        if own.key is not None and axes:
            own = own.folded(lax.axis_index(axes))
        return tuple(evaluate(step.bodies[0], values, own))

    everywhere: Any = jax.sharding.PartitionSpec()
    options = {name: params[name] for name in ("mesh", "out_specs", "check_vma") if name in params}
    options["axis_names"] = set(params.get("newly_manual_axes") or params.get("manual_axes") or ())
    mapped = jax.shard_map(function, in_specs=(everywhere, *params["in_specs"]), **options)
    return list(mapped((run.key if step.needs_key else None, run.select, run.taps), *values))


def _axes_of(specs: Sequence[Any]) -> tuple[str, ...]:
    """The mesh axes that inputs are split over, in the order in which they come."""
    parts = [part for spec in specs for part in spec if part is not None]
    names = [name for part in parts for name in (part if isinstance(part, tuple) else (part,))]
    return tuple(dict.fromkeys(names))


JITS = ("jit", "pjit")
CUSTOM_VJPS = ("custom_vjp_call", "custom_vjp_call_jaxpr")
CALLS = {
    **dict.fromkeys(JITS, Call(_only_body, _mark_only_body, _write_jit)),
    **dict.fromkeys(("closed_call", "core_call"), Call(_only_body, _mark_only_body, _write_inline)),
    **dict.fromkeys(("remat2", "remat", "checkpoint"), Call(_only_body, _mark_only_body, _write_remat)),
    **dict.fromkeys(CUSTOM_VJPS, Call(_read_custom_vjp, _mark_only_body, _write_inline)),
    "custom_jvp_call": Call(_read_custom_jvp, _mark_only_body, _write_custom_jvp),
    "scan": Call(_read_scan, _mark_scan, _write_scan),
    "while": Call(_read_while, _mark_while, _write_while),
    "cond": Call(_read_cond, _mark_cond, _write_cond),
    "shard_map": Call(_read_shard_map, _mark_only_body, _write_shard_map),
}
