"""stats: what rounding did to each operand, equal to numfmt's own statistics, in the backward pass and through loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numfmt_jax as nj
from numfmt.statistics import measure

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 32)).astype(np.float32)
W = (RNG.standard_normal((3, 32, 32)) / 8).astype(np.float32)


def loss(w, x):
    return jnp.square(x @ w).sum()


def looped(w, x):
    h, _ = jax.lax.scan(lambda h, one: (jnp.tanh(h @ one), None), x, w)
    return jnp.square(h).sum()


@pytest.mark.parametrize("recipe", ["mxfp4", "bf16"])
def test_statistics_are_those_of_numfmt(recipe):
    value, gradient, report = jax.jit(nj.stats(loss, {"*": recipe}))(W[0], X)
    expected, expected_gradient = jax.value_and_grad(nj.emulate(loss, {"*": recipe}))(W[0], X)
    assert value == expected
    assert np.array_equal(gradient, expected_gradient)
    fmt = {"mxfp4": "mxfp4", "bf16": "bfloat16"}[recipe]
    g = 2 * np.asarray(nj.dot_general(X, W[0], (((1,), (0,)), ((), ())), recipe=recipe))
    arrays = {"fprop.lhs": (X, 1), "fprop.rhs": (W[0], 0), "dgrad.grad": (g, 1), "wgrad.lhs": (X, 0), "wgrad.grad": (g, 0)}
    for slot, (array, axis) in arrays.items():
        found, wanted = report["dot_general"][slot], measure(array, fmt, axis=axis)
        for name in ("saturated", "last_bin", "underflow", "scale_clamped_low", "scale_clamped_high"):
            assert float(getattr(found, name)) == np.float32(wanted[name]), (slot, name)
        assert float(found.sqnr_db) == pytest.approx(wanted["sqnr_db"], rel=1e-4), slot  # float32 sums of 2048 squares
        assert float(found.slope) == pytest.approx(wanted["slope"], rel=1e-5), slot  # float32 sums
        assert int(found.elements) == array.size


def test_loops_add_up():
    _, _, report = nj.stats(looped, {"*": "mxfp4"})(W, X)
    assert int(report["dot_general"]["fprop.lhs"].elements) == 3 * X.size
    both = report["dot_general"]["fprop.lhs"] + report["dot_general"]["fprop.rhs"]
    assert int(both.elements) == 3 * (X.size + W[0].size)


def test_a_report_is_a_table_of_the_slots_that_round():
    policy = {"*": nj.Recipe(nj.Gemm("e4m3fn", "e4m3fn"), nj.Gemm(None, nj.Operand(None, source="forward")))}
    _, _, report = jax.jit(nj.stats(loss, policy))(W[0], X)
    assert list(report) == ["dot_general"]
    assert set(report["dot_general"]) == {"fprop.lhs", "fprop.rhs"}
    lines = str(report).splitlines()
    assert lines[0].split()[:2] == ["site", "slot"]
    assert [line.split()[1] for line in lines[1:]] == ["fprop.lhs", "fprop.rhs"]


def test_small_gradients_have_statistics():
    _, _, report = nj.stats(lambda w, x: 1e-20 * loss(w, x), {"*": "mxfp4"})(W[0], X)
    assert 10 < float(report["dot_general"]["dgrad.grad"].sqnr_db) < 30


def test_nothing_is_counted_twice_where_values_are_not_finite():
    x = X.copy()
    x[0, 0], x[1, 1] = np.nan, np.inf
    _, _, report = nj.stats(loss, {"*": "bf16"})(W[0], x)
    found = report["dot_general"]["fprop.lhs"]
    assert float(found.nonfinite) == np.float32(2 / X.size)

