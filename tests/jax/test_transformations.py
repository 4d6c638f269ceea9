"""The same bits under eager, jit, vmap, scan, checkpoint, gradients and sharding as from numfmt on one array."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import numfmt as nf
from numfmt_jax.quantize import encode, quantize
from numfmt_jax.random import random_bits
from tests.jax.support import KEY, SEED, matrix, mesh, same
from tests.support import assert_same_bits

ROWS, COLUMNS, EXAMPLES = 8, 96, 3


@dataclass(frozen=True)
class Case:
    """One rounding of a matrix."""

    format: str
    rounding: str | None = None
    dtype: str = "float32"

    def __str__(self):
        return "-".join(str(v) for v in (self.format, self.rounding, self.dtype) if v)

    @property
    def is_random(self):
        return bool(self.rounding) and self.rounding.startswith("stochastic")

    @property
    def is_block(self):
        return isinstance(nf.get_format(self.format), nf.BlockFormat)

    def operand(self, seed=0):
        return np.asarray(jnp.asarray(matrix(ROWS, COLUMNS, seed)).astype(self.dtype))

    def options(self, **random):
        return {"rounding": self.rounding} | (random if self.is_random else {})

    def expected(self, x, seed=SEED):
        options = self.options(seed=seed)
        return parts(nf.encode(x, self.format, **options)), nf.quantize(x, self.format, **options)

    def found(self, x, key, **options):
        options = options or self.options(key=key)
        return parts(encode(x, self.format, **options)), quantize(x, self.format, **options)


def parts(encoded):
    """The arrays of an encoding."""
    if hasattr(encoded, "codes"):
        return [a for a in (encoded.codes, encoded.scales, encoded.tensor_scale) if a is not None]
    return [encoded]


def agree(found, expected, what=""):
    for ours, theirs in zip(found[0], expected[0], strict=True):
        assert_same_bits(ours, theirs, what)  # a scale that is NaN may be any
    same(found[1], expected[1], what)


CASES = [
    Case("e4m3fn"), Case("ternary"), Case("q3.4", "stochastic"), Case("e5m2", "stochastic_b", "bfloat16"),
    Case("mxfp8_e4m3", "stochastic"),
]  # fmt: skip
MORE = [
    Case("e8m0", "toward_positive"), Case("bfloat16", "toward_negative", "float16"), Case("tf32", "stochastic"), Case("int4", "to_odd"),
    Case("mxfp4"), Case("nvfp4"), Case("nvfp4", "stochastic", "bfloat16"), Case("nvfp4_16x16"), Case("deepseek_fp8"), Case("nf4_block"),
]  # fmt: skip
every_case = pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(c, marks=pytest.mark.nightly) for c in MORE)], ids=str
)
KEYS = jax.vmap(partial(jax.random.fold_in, KEY))(jnp.arange(EXAMPLES))
SEEDS = [(SEED, j) for j in range(EXAMPLES)]


@every_case
def test_jit_and_no_jit(case):
    x = case.operand()
    agree(case.found(x, KEY), case.expected(x), "one call")
    agree(jax.jit(case.found)(x, KEY), case.expected(x), "jit")


@every_case
def test_vmap_with_a_key_for_each_example_is_the_loop(case):
    xs = np.stack([case.operand(j) for j in range(EXAMPLES)])
    found = jax.jit(jax.vmap(case.found))(xs, KEYS)
    for j in range(EXAMPLES):
        agree(jax.tree.map(lambda a, j=j: a[j], found), case.expected(xs[j], SEEDS[j]), f"example {j}")


@every_case
def test_scan_is_the_loop(case):
    xs = np.stack([case.operand(j) for j in range(EXAMPLES)])
    _, found = jax.lax.scan(lambda carry, each: (carry, case.found(*each)), 0, (xs, KEYS))
    for j in range(EXAMPLES):
        agree(jax.tree.map(lambda a, j=j: a[j], found), case.expected(xs[j], SEEDS[j]), f"step {j}")


@every_case
def test_gradients_leave_the_primal_alone_and_checkpoint_gives_the_same_bits_again(case):
    x = case.operand()

    @partial(jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable)
    def weighted(x, w):  # the cotangent of w is the quantized x, computed a second time
        q = case.found(x, KEY)
        return (q[1] * w).sum(), q

    ordinary = x[::2][1:]
    w = jnp.ones(ordinary.shape, case.expected(ordinary)[1].dtype)
    (_, found), (dx, dw) = jax.jit(jax.value_and_grad(weighted, (0, 1), has_aux=True))(ordinary, w)
    agree(found, case.expected(ordinary), "primal under value_and_grad")
    same(dw, case.expected(ordinary)[1], "primal computed again")
    same(dx, np.ones(ordinary.shape, ordinary.dtype), "gradient")


def agree_sharded(case, devices):
    x = case.operand()
    for spec in (P("d"), P(None, "d")):
        placed = jax.device_put(x, NamedSharding(mesh(devices), spec))
        agree(jax.jit(case.found)(placed, KEY), case.expected(x), str(spec))


@pytest.mark.parametrize("case", [*CASES, Case("nvfp4")], ids=str)  # nvfp4: its tensor scale is of all devices
def test_arrays_on_eight_devices_give_the_bits_of_one_array(case):
    agree_sharded(case, 8)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("case", [Case("e4m3fn", "stochastic"), Case("mxfp8_e4m3", "stochastic")], ids=str)
def test_arrays_on_fewer_devices_do_too(case, devices):
    agree_sharded(case, devices)


@pytest.mark.parametrize(
    ("case", "devices"), [(c, d) for c in CASES if c.is_random for d in (2, 8) if d == 8 or c is CASES[2]], ids=str
)
def test_shard_map_with_offsets_gives_the_bits_of_the_whole(case, devices):
    x = case.operand()
    for axis, spec in enumerate((P("d"), P(None, "d"))):
        if axis == 1 and case.is_block:  # blocks would cross the shards
            continue

        def shard(part, spec=spec, axis=axis):
            offset = [0, 0]
            offset[axis] = jax.lax.axis_index("d") * part.shape[axis]
            bits = random_bits(KEY, part.shape, offset=tuple(offset), global_shape=x.shape)
            return quantize(part, case.format, rounding=case.rounding, random_bits=bits)

        mapped = jax.jit(jax.shard_map(shard, mesh=mesh(devices), in_specs=spec, out_specs=spec))
        same(mapped(x), case.expected(x)[1], str(spec))


@pytest.mark.parametrize("case", [c for c in CASES if not c.is_random and not c.is_block], ids=str)
def test_shard_map_of_deterministic_modes(case):
    x = case.operand()
    mapped = jax.shard_map(lambda part: case.found(part, None), mesh=mesh(8), in_specs=P("d"), out_specs=P("d"))
    agree(jax.jit(mapped)(x), case.expected(x))


@pytest.mark.parametrize(
    "case",
    [Case("e4m3fn", "stochastic"), pytest.param(Case("mxfp4", "stochastic"), marks=pytest.mark.nightly)],
    ids=str,
)
def test_loops_branches_and_nested_maps(case):
    xs = np.stack([case.operand(j) for j in range(4)]).reshape(2, 2, ROWS, COLUMNS)
    seeds = [[(SEED, i, j) for j in range(2)] for i in range(2)]
    keys = jax.vmap(lambda k: jax.vmap(partial(jax.random.fold_in, k))(jnp.arange(2)))(KEYS[:2])
    values = lambda x, key: case.found(x, key)[1]  # noqa: E731
    expected = np.stack([[case.expected(xs[i, j], seeds[i][j])[1] for j in range(2)] for i in range(2)])
    same(jax.vmap(jax.vmap(values))(xs, keys), expected, "vmap of vmap")

    def step(j, out):
        return out.at[j].set(jax.lax.cond(j >= 0, values, lambda x, key: x, first[j], keys[0, j]))

    first = jnp.asarray(xs[0])
    same(jax.jit(lambda out: jax.lax.fori_loop(0, 2, step, out))(jnp.zeros_like(first)), expected[0], "cond in a loop")


def test_a_key_that_is_not_mapped_is_shared_noise():
    x = np.tile(matrix(2, 64)[0], (3, 1))
    shared = jax.vmap(lambda row: quantize(row, "e4m3fn", rounding="stochastic", key=KEY))(x)
    for row in np.asarray(shared):
        same(row, nf.quantize(x[0], "e4m3fn", rounding="stochastic", seed=SEED))


def test_a_second_call_does_not_trace_again():
    traced = []

    @jax.jit
    def f(x, key):
        traced.append(1)
        return quantize(x, "e4m3fn", rounding="stochastic", key=key)

    for j in range(3):
        same(
            f(matrix(2, 64, j), KEYS[j]), nf.quantize(matrix(2, 64, j), "e4m3fn", rounding="stochastic", seed=SEEDS[j])
        )
    assert len(traced) == 1


def test_donated_operands():
    x = matrix(4, 64)
    donated = jax.jit(lambda x: quantize(x, "e4m3fn"), donate_argnums=0)
    same(donated(jnp.array(x)), nf.quantize(x, "e4m3fn"))


@pytest.mark.parametrize(("x64", "flag"), [
    ("1", "--xla_allow_excess_precision=false"),
    pytest.param("1", "", marks=pytest.mark.nightly),
    pytest.param("0", "--xla_allow_excess_precision=false", marks=pytest.mark.nightly),
])  # fmt: skip
def test_other_environments_give_the_same_bits(x64, flag):
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"JAX_ENABLE_X64": x64, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}"}
    command = [sys.executable, "-m", "tests.jax.environment"]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["x64", x64, "agrees"]
