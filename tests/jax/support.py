"""What the tests of numfmt_jax share: formats, operands that meet every corner, and comparison of bits."""

import jax
import jax.extend
import ml_dtypes
import numpy as np
import pytest

from tests.support import stratified_float32

ML_DTYPES = [
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn",
]  # fmt: skip
OTHERS = [
    "float32", "float16", "tf32", "e5m7", "e5m7b20", "pxr24", "binary8p3se", "binary8p1uf", "ue5m3", "dlfloat16", "hif4_scale_e6m2",
    "int4", "uint8", "int16", "q3.4", "uq0.8", "nf4", "ternary",
]  # fmt: skip
FORMATS = ML_DTYPES + OTHERS
KEY = jax.random.key(7)  # numfmt's seed=7
SEED = 7


def float32_patterns(n=2**13):
    """Every exponent with significands of every shape (half of them, in turn), and n random patterns: NaN, Inf, ±0, subnormals.

    Fewer than numfmt has Numba compile a loop for: NumPy answers at once.
    """
    random = np.random.default_rng(0).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    return np.concatenate([stratified_float32()[::2], random])


def every_value(dtype):
    """Every value of a dtype of at most 16 bits."""
    dtype = np.dtype(dtype)
    return np.arange(2 ** (8 * dtype.itemsize), dtype=f"uint{8 * dtype.itemsize}").view(dtype)


def matrix(rows, columns, seed=0):
    """A float32 matrix: half of it random patterns, half ordinary numbers, with specials in it."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 2**32, (rows, columns), dtype=np.uint32).view(np.float32)
    numbers = (rng.standard_normal((rows, columns)) * np.exp2(rng.integers(-12, 9, (rows, 1)))).astype(np.float32)
    x = np.where(np.arange(rows)[:, None] % 2 == 0, numbers, patterns)
    x[0, :9] = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-45, 3e38]
    return x


def raw(x):
    """An array's bits as unsigned integers, those of NaN too."""
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


def same(got, expected, what=""):
    """Fails where dtype, shape or any bit differs, NaN bits included."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, f"{what}: {got.dtype} instead of {expected.dtype}"
    assert got.shape == expected.shape, f"{what}: {got.shape} instead of {expected.shape}"
    wrong = np.flatnonzero(raw(got).reshape(-1) != raw(expected).reshape(-1))
    if wrong.size:
        at = wrong[0]
        raise AssertionError(
            f"{what}: {wrong.size} of {got.size} differ, first at {at}: {raw(got).flat[at]:#x} for {raw(expected).flat[at]:#x}"
        )


def mesh(devices):
    """A mesh of so many devices, its axis called "d"; skips where there are fewer."""
    found = jax.devices()
    if len(found) < devices:
        pytest.skip(f"{len(found)} devices; XLA_FLAGS=--xla_force_host_platform_device_count=8 simulates eight")
    return jax.sharding.Mesh(np.array(found[:devices]), ("d",))


def bfloat16(x):
    """x as bfloat16."""
    return np.asarray(x).astype(ml_dtypes.bfloat16)


def operands_of_products(closed, arguments):
    """What the products of a traced function are given when it is computed: the operands of every `dot_general`."""
    seen = []

    def compute(jaxpr, constants, given):
        values = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, given, strict=True))

        def value(atom):
            return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            operands = [value(atom) for atom in eqn.invars]
            inner = eqn.params.get("call_jaxpr") or eqn.params.get("jaxpr")
            if inner is not None:
                results = compute(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
            else:
                results = eqn.primitive.bind(*operands, **eqn.params)
                results = results if eqn.primitive.multiple_results else [results]
            if eqn.primitive is jax.lax.dot_general_p:
                seen.extend(operands)
            values.update(zip(eqn.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    compute(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
    return seen
