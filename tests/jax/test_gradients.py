"""What quantize does to gradients: each rule against its closed form, in every order of differentiation."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numfmt as nf
from numfmt_jax.quantize import GradientRule, encode, quantize
from tests.jax.support import KEY, SEED, every_value, float32_patterns, mesh, same
from tests.support import assert_same_bits

X = float32_patterns(2**10)
G = np.roll(X, 12345)  # cotangents of every pattern
CLIPPED = ["e4m3fn", "e5m2", "bfloat16", "int4", "uint8", "q3.4", "e8m0", "ue5m3", "ternary"]


def cotangent(fmt, x, g, **options):
    """The gradient of quantize at x for a cotangent g, by one jitted program."""
    return jax.jit(lambda x, g: jax.vjp(lambda x: quantize(x, fmt, **options), x)[1](g)[0])(x, g)


def clipped(fmt, x, g):
    """The cotangent where the exact x lies in the format's range, +0 elsewhere."""
    fmt = nf.get_format(fmt)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        x = x.astype(np.float64)  # NumPy keeps subnormals
    outside = (x > float(fmt.max)) | (x < float(min(fmt.min, 0)))
    return np.where(outside, g.dtype.type(0), g)


def words_of(name):
    """numfmt's seed for the words of fold(key, name)."""
    return (SEED, zlib.crc32(name.encode()))


# ---- straight through ------------------------------------------------------------------------------------------


def test_large_and_small_cotangents_survive():
    g = np.float32([1000, -1000, 1e-4, 500, 1e-40, 1e30])
    same(cotangent("e4m3fn", np.ones(6, np.float32), g), g)


@pytest.mark.parametrize("fmt", ["e4m3fn", "e8m0", "nf4"])
def test_straight_through_keeps_every_bit_of_the_cotangent(fmt):
    same(cotangent(fmt, X, G), G)


def test_straight_through_keeps_every_bit_of_the_tangent():
    y, tangent = jax.jit(lambda x, t: jax.jvp(lambda x: quantize(x, "e4m3fn"), (x,), (t,)))(X, G)
    same(y, nf.quantize(X, "e4m3fn"))
    same(tangent, G)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cotangents_have_the_dtype_of_the_operand(dtype):
    x = every_value(jnp.dtype(dtype))
    same(cotangent("e4m3fn", x, x[::-1]), x[::-1])
    y, back = jax.vjp(lambda x: quantize(x, "e8m0"), jnp.ones(3, dtype))  # float32 for float16
    assert back(jnp.full(3, 0.3, y.dtype))[0].dtype == dtype


def test_stochastic_rounding_is_straight_through_too():
    same(cotangent("e4m3fn", X, G, rounding="stochastic", key=KEY), G)
    bits = np.zeros(X.size, np.uint32)
    same(cotangent("e4m3fn", X, G, rounding="stochastic", random_bits=bits), G)


# ---- clipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", CLIPPED)
def test_clipped_gradients_are_zero_outside_the_range_only(fmt):
    same(cotangent(fmt, X, G, gradient="clipped"), clipped(fmt, X, G))


def test_clipped_works_forward():
    called = jax.jit(lambda x, t: jax.jvp(lambda x: quantize(x, "int4", gradient="clipped"), (x,), (t,)))
    y, tangent = called(X, G)
    same(y, nf.quantize(X, "int4"))
    same(tangent, clipped("int4", X, G))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_clipped_for_small_dtypes(dtype):
    x = every_value(jnp.dtype(dtype))
    found = cotangent("e4m3fn", x, x[::-1], gradient=GradientRule("clipped"))
    with np.errstate(invalid="ignore"):  # signalling NaNs; by class, for XLA's selections of bfloat16 lose payloads
        assert_same_bits(found, clipped("e4m3fn", x, x[::-1]))


# ---- rounded cotangents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fmt", "options"), [
    ("e5m2", {}), ("e5m2", {"overflow": "saturate"}), ("e5m2", {"platform": "amd"}), ("bfloat16", {"rounding": "toward_zero"}),
    ("q3.4", {"rounding": "ties_to_away"}),
], ids=str)  # fmt: skip
def test_a_cotangent_is_rounded_as_numfmt_rounds(fmt, options):
    rule = GradientRule(format=fmt, **options)
    same(cotangent("e4m3fn", X, G, gradient=rule), nf.quantize(G, fmt, **options))


@pytest.mark.parametrize(("rounding", "count"), [("stochastic", None), ("stochastic_c", 7)])
def test_a_cotangent_is_rounded_by_words_of_its_own(rounding, count):
    rule = GradientRule(format="e5m2", rounding=rounding, random_bit_count=count)
    expected = nf.quantize(G, "e5m2", rounding=rounding, random_bit_count=count, seed=words_of("cotangent"))
    same(cotangent("e4m3fn", X, G, key=KEY, rounding="stochastic", gradient=rule), expected)
    y = quantize(X, "e4m3fn", key=KEY, rounding="stochastic", gradient=rule)
    same(y, nf.quantize(X, "e4m3fn", rounding="stochastic", seed=SEED), "the primal has the key's own words")


def test_a_cotangent_is_clipped_before_it_is_rounded():
    rule = GradientRule("clipped", format="e5m2", rounding="stochastic")
    expected = nf.quantize(clipped("int4", X, G), "e5m2", rounding="stochastic", seed=words_of("cotangent"))
    same(cotangent("int4", X, G, key=KEY, rounding="stochastic", gradient=rule), expected)


def test_a_deterministic_primal_may_have_a_stochastic_cotangent():
    rule = GradientRule(format="e5m2", rounding="stochastic")
    bits = jnp.zeros(X.shape, jnp.uint32)
    expected = nf.quantize(G, "e5m2", rounding="stochastic", seed=words_of("cotangent"))
    same(cotangent("e4m3fn", X, G, key=KEY, gradient=rule), expected)
    with pytest.raises(ValueError, match="give one of key="):  # bits for the primal, a key for the cotangent
        quantize(X, "e4m3fn", rounding="stochastic", random_bits=bits, key=KEY, gradient=rule)


@pytest.mark.parametrize("fmt", ["mxfp8_e5m2", "mxfp4"])
def test_a_cotangent_is_rounded_to_blocks(fmt):
    x, g = X[: 32 * 200].reshape(-1, 64), G[: 32 * 200].reshape(-1, 64)
    for axis in (0, 1):
        rule = GradientRule(format=fmt, rounding="stochastic", axis=axis)
        expected = nf.quantize(g, fmt, rounding="stochastic", axis=axis, seed=words_of("cotangent"))
        same(cotangent("e4m3fn", x, g, key=KEY, gradient=rule), expected)


@pytest.mark.parametrize("fmt", ["mxfp8_e4m3", "nvfp4"])
def test_gradients_of_blocks_pass_straight_through(fmt):
    x, g = X[: 32 * 200].reshape(-1, 64), G[: 32 * 200].reshape(-1, 64)
    same(cotangent(fmt, x, g), g)


def test_clipped_blocks_stop_what_their_scale_cannot_reach():
    x = np.ones((3, 32), np.float32)
    x[0, 0], x[1, 5], x[1, 6] = 511, 449, -511  # the floor rule gives both blocks the scale 1, and E4M3 ends at 448
    expected = np.where(np.abs(x) > 448, np.float32(0), np.float32(3))
    same(cotangent("mxfp8_e4m3", x, np.full(x.shape, 3, np.float32), gradient="clipped"), expected)


# ---- transformations of gradients ------------------------------------------------------------------------------

RULES = [
    GradientRule(), GradientRule("clipped"), GradientRule("clipped", format="e5m2", rounding="stochastic"),
]  # fmt: skip


def expected_of(rule, fmt, x, g, seed):
    g = clipped(fmt, x, g) if rule.rule == "clipped" else g
    if rule.format is None:
        return g
    return nf.quantize(g, rule.format, rounding="stochastic", seed=(*seed, zlib.crc32(b"cotangent")))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.rule}-{rule.format}")
def test_vmap_and_scan_of_gradients_are_the_loop(rule):
    xs, gs = X[:900].reshape(3, 300), G[:900].reshape(3, 300)
    keys = jax.vmap(lambda j: jax.random.fold_in(KEY, j))(jnp.arange(3))

    def one(x, g, key):
        return jax.vjp(lambda x: quantize(x, "int4", rounding="stochastic", key=key, gradient=rule), x)[1](g)[0]

    mapped = jax.jit(jax.vmap(one))(xs, gs, keys)
    _, scanned = jax.lax.scan(lambda carry, each: (carry, one(*each)), 0, (xs, gs, keys))
    checkpointed = jax.vmap(jax.checkpoint(one))(xs, gs, keys)
    for j in range(3):
        expected = expected_of(rule, "int4", xs[j], gs[j], (SEED, j))
        for found in (mapped, scanned, checkpointed):
            same(found[j], expected, f"example {j}")


def test_the_gradient_of_a_scan_meets_each_step():
    g = np.float32([0.3, -1000, 1e-6])

    def loss(x):
        return (jax.lax.scan(lambda c, _: (quantize(c, "e4m3fn"), None), x, None, length=3)[0] * g).sum()

    same(jax.jit(jax.grad(loss))(np.float32([0.1, 2, 3])), g)


def test_gradients_of_sharded_arrays():
    x, g = (a[:1024].reshape(8, 128) for a in (X, G))
    placed = [jax.device_put(a, jax.sharding.NamedSharding(mesh(8), jax.sharding.PartitionSpec("d"))) for a in (x, g)]
    rule = GradientRule("clipped", format="e5m2", rounding="stochastic")
    expected = expected_of(rule, "int4", x, g, (SEED,))
    same(cotangent("int4", *placed, key=KEY, rounding="stochastic", gradient=rule), expected)


# ---- higher orders and both modes ------------------------------------------------------------------------------


def test_both_modes_and_their_mixtures_agree():
    x = jnp.float32([0.3, -1.1, 1000, 2.5])
    f = lambda x: quantize(x, "e4m3fn", gradient="clipped") ** 2  # noqa: E731
    q = nf.quantize(np.asarray(x), "e4m3fn")
    jacobian = np.diag(np.where(np.abs(x) > 448, 0, 2 * q)).astype(np.float32)
    same(np.asarray(jax.jacfwd(f)(x)) + 0, jacobian + 0)
    same(np.asarray(jax.jacrev(f)(x)) + 0, jacobian + 0)
    _, linear = jax.linearize(f, x)
    same(np.asarray(linear(jnp.ones(4))) + 0, jacobian.sum(0) + 0)


@pytest.mark.parametrize("outer", [jax.grad, jax.jacfwd])
def test_second_derivatives_are_those_of_the_straight_through_function(outer):
    def first(x):
        return jax.grad(lambda x: quantize(x, "e4m3fn") ** 3)(x)  # 3 q²

    q = float(nf.quantize(np.float32(0.3), "e4m3fn"))
    assert float(first(0.3)) == np.float32(3 * q * q)
    assert float(outer(first)(0.3)) == np.float32(6 * q)
    assert float(jax.grad(outer(first))(0.3)) == 6


def test_a_second_derivative_passes_a_rounded_cotangent_straight_through():
    rule = GradientRule(format="e4m3fn", rounding="toward_zero")
    first = lambda x: jax.grad(lambda x: quantize(x, "e4m3fn", gradient=rule) ** 2)(x)  # noqa: E731
    q = nf.quantize(np.float32(0.3), "e4m3fn")
    assert float(first(jnp.float32(0.3))) == float(nf.quantize(2 * q, "e4m3fn", rounding="toward_zero"))
    assert float(jax.grad(lambda x: 1.3 * first(x))(jnp.float32(0.3))) == float(
        nf.quantize(np.float32(2.6), "e4m3fn", rounding="toward_zero")
    )


def test_rounded_cotangents_have_no_forward_mode():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: quantize(x, "e4m3fn", gradient=GradientRule(format="e5m2")), (1.0,), (1.0,))


# ---- integers, None and codes ----------------------------------------------------------------------------------


def test_integers_and_nothing_have_no_gradient():
    n = jnp.arange(4, dtype=jnp.int8)

    def loss(x, n, nothing):
        assert nothing is None
        return (quantize(x, "e4m3fn") * quantize(n, "e4m3fn")).sum()

    gradient, of_integers, none = jax.grad(loss, (0, 1, 2), allow_int=True)(jnp.ones(4), n, None)
    same(gradient, np.arange(4, dtype=np.float32))
    assert of_integers.dtype == jax.dtypes.float0
    assert none is None


def test_keys_and_random_bits_may_be_arguments_of_a_differentiated_function():
    def loss(x, key, bits):
        a = quantize(x, "e4m3fn", rounding="stochastic", key=key)
        return (a * quantize(x, "e4m3fn", rounding="stochastic", random_bits=bits)).sum()

    x, bits = jnp.float32([1.03]), jnp.zeros(1, jnp.uint32)
    of_x, of_key, of_bits = jax.grad(loss, (0, 1, 2), allow_int=True)(x, KEY, bits)
    q = nf.quantize(np.asarray(x), "e4m3fn", rounding="stochastic", seed=SEED)
    same(of_x, q + np.float32(1))  # the other is rounded down
    assert of_key.dtype == of_bits.dtype == jax.dtypes.float0


def test_codes_stop_gradients():
    assert float(jax.grad(lambda x: x * encode(x, "e4m3fn").astype(jnp.float32))(jnp.float32(1))) == 0x38


# ---- refusals --------------------------------------------------------------------------------------------------


def test_wrong_rules_are_refused_when_they_are_made():
    with pytest.raises(ValueError, match="straight_through"):
        GradientRule("straight_trough")
    with pytest.raises(ValueError, match="straight_through"):
        quantize(1.0, "e4m3fn", gradient="straight")
    for options in ({"rounding": "to_odd"}, {"overflow": "saturate"}, {"platform": "amd"}, {"random_bit_count": 8}):
        with pytest.raises(ValueError, match="needs a format="):
            GradientRule(**options)
    with pytest.raises(ValueError, match="binary32 does not hold"):
        GradientRule(format="binary64")
    with pytest.raises(ValueError, match="wrap"):
        GradientRule(format="e4m3fn", overflow="wrap")


def test_a_stochastic_cotangent_without_a_key_is_refused():
    rule = GradientRule(format="e5m2", rounding="stochastic")
    with pytest.raises(ValueError, match=r"cotangent's rounding 'stochastic' needs random bits; give key="):
        quantize(1.0, "e4m3fn", gradient=rule)


def test_a_cotangent_that_its_dtype_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="cast x"):
        quantize(jnp.ones(3, jnp.bfloat16), "e4m3fn", gradient=GradientRule(format="q3.12"))
