"""Block formats in JAX: codes, scales and values are those of numfmt, bit for bit."""

from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt.kernels import resolve
from numfmt.named_blocks import NAMED_BLOCKS
from numfmt_jax.blocks import BlockArray, clipped_mask, decode_blocks, encode_blocks, quantize_blocks
from tests.jax.support import same
from tests.support import SIGNIFICANDS_32, mostly_nightly, without_twins

RULES = "project ceil even truncation_free power_of_two rceil deepgemm microxcaling p3109".split()
DIRECTED = "ties_to_away ties_to_odd toward_positive toward_negative away_from_zero to_odd".split()
CURRENT = "block(e4m3, scale=float32, size=tensor, rule=current_scaling)"


@lru_cache
def blocks(name="mxfp8", rows=90, k=64, seed=0):
    """Rows of every kind: random patterns in bands of exponents, ties of the elements, subnormals, zeros, NaN and Inf."""
    fmt, rng = nf.get_format(name), np.random.default_rng(seed)
    shape = (rows, k)
    band = rng.choice([0, 3, 9, 30, 254], (rows, 1))
    field = np.clip(rng.integers(0, 255, (rows, 1)) - rng.integers(0, 255, shape) % (band + 1), 0, 254)
    m = np.where(rng.random(shape) < 0.5, rng.choice(SIGNIFICANDS_32, shape), rng.integers(0, 2**23, shape))
    x = (field << 23 | m).astype(np.int32).view(np.float32)
    values = sorted({v for c in range(2 ** min(fmt.element.bits, 8)) if isinstance(v := nf.exact(c, fmt.element), Fraction)})
    ties = np.array([float(a + b) / 2 for a, b in pairwise(values)] + [float(v) for v in values])
    scale = np.exp2(rng.integers(-149, 110, (rows, 1)).astype(float)) * rng.choice([1, 1.25, 1 + 2**-20], (rows, 1))
    with np.errstate(all="ignore"):
        on_ties = (rng.choice(ties, shape) * scale).astype(np.float32)
    on_ties = np.where(rng.random(shape) < 0.3, np.nextafter(on_ties, rng.choice([-1e38, 1e38], shape), dtype=np.float32), on_ties)
    x = np.where(np.arange(rows)[:, None] % 3 == 0, on_ties, x)
    x = np.where(rng.random(shape) < 0.05, np.float32(0), x)
    x = np.copysign(x, rng.choice([-1, 1], shape)).astype(np.float32)
    x[1], x[4] = 0, -0.0
    x[7] = (rng.integers(0, 2**10, k)).astype(np.int32).view(np.float32)
    x[10, 3], x[13, 5], x[16, 7:9] = np.nan, -np.inf, (np.nan, np.inf)
    return x


def assert_same_blocks(x, name, axis=-1, numbers=None, count=None, **options):
    """encode, decode and quantize under jit give numfmt's arrays."""
    fmt = nf.get_format(name)
    given = dict(options)
    if numbers is not None:
        given |= {"random_bits": numbers, "random_bit_count": count}
    rules = resolve(
        fmt.element, options.get("rounding") or fmt.scale_rule.rounding, options.get("overflow") or fmt.default_overflow,
        None, count,
    )  # fmt: skip

    @jax.jit
    def ours(x, numbers):
        q = encode_blocks(x, fmt, rules, axis, numbers)
        return q, decode_blocks(q), quantize_blocks(x, fmt, rules, axis, numbers)

    with np.errstate(all="ignore"):
        q = nf.encode(x, fmt, axis=axis, **given)
        values, quantized = nf.decode(q), nf.quantize(x, fmt, axis=axis, **given)
    got, got_values, got_quantized = ours(x, numbers)
    for field in ("codes", "scales", "tensor_scale", "tensor_amax", "zero_points"):
        same_numbers(getattr(got, field), getattr(q, field), f"{name} {field}")
    for ours_level, level in zip(got.micro, q.micro, strict=True):
        same(ours_level, level, f"{name} micro")
    same_numbers(got_values, values, f"{name} decoded")
    same_numbers(got_quantized, quantized, f"{name} quantized")


def same_numbers(got, expected, what):
    """Equal bits, NaNs by class."""
    assert (got is None) == (expected is None), what
    if expected is None:
        return
    got, expected = np.asarray(got), np.asarray(expected)
    if expected.dtype.kind not in "iu":
        nan = np.isnan(expected.astype(np.float32))
        assert np.array_equal(nan, np.isnan(got.astype(np.float32))), f"{what}: NaN elsewhere"
        got, expected = np.where(nan, 0, got).astype(got.dtype), np.where(nan, 0, expected).astype(expected.dtype)
    same(got, expected, what)


def random_numbers(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32)


# ---- equality with numfmt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", without_twins(NAMED_BLOCKS))
def test_every_named_format(name):
    assert_same_blocks(blocks(name), name)


@pytest.mark.nightly
@pytest.mark.parametrize("rule", RULES)
def test_every_step_rule(rule):
    elements = {"even": ["e2m1"], "ceil": ["e4m3", "s2f6"]}.get(rule, ["e4m3"])
    for element in elements:
        assert_same_blocks(blocks(f"block({element})"), f"block({element}, scale=e8m0, size=32, rule={rule})")


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name",
    [
        CURRENT, "block(e5m2, scale=e8m0, nonfinite=propagate_elements)", "block(e4m3, scale=e8m0, nonfinite=saturate_inf)",
        "block(e2m1, scale=e4m3, size=8)", "block(int8, scale=bf16)", "block(nf4, scale=float32)", "block(nf4, scale=e8m0)",
        "block(bf16, scale=e8m0, size=16)", "block(e4m3fnuz, scale=e8m0)", "block(uint8, scale=fp16)",
        "block(dlfloat16, scale=e8m0)", "bfp(m=23, size=16)",
    ],
)  # fmt: skip
def test_custom_formats(name):
    assert_same_blocks(blocks(name, 48), name)


@pytest.mark.nightly
@pytest.mark.parametrize("rounding", DIRECTED)
def test_other_roundings(rounding):
    for name in ("mxfp8", "int8_group128") if rounding != "toward_positive" else ("mxint8", "nvfp4", "nf4_block"):
        assert_same_blocks(blocks(name, 30), name, rounding=rounding)


@pytest.mark.parametrize("name", mostly_nightly(["mxfp8", "mxint8", "nvfp4", "int8_axis", "nf4_block", CURRENT], ["mxfp8", "nvfp4"]))
def test_stochastic_rounding(name):
    x = blocks(name, 60)
    assert_same_blocks(x, name, numbers=random_numbers(x.shape), rounding="stochastic")


@pytest.mark.parametrize(("mode", "count"), [("b", 7), ("c", 32)])
def test_stochastic_rounding_with_fewer_bits(mode, count):
    for name in ("mxfp8", "int8_group128"):
        x = blocks(name, 60)
        assert_same_blocks(x, name, numbers=random_numbers(x.shape), count=count, rounding=f"stochastic_{mode}")


@pytest.mark.nightly
@pytest.mark.parametrize("overflow", ["infinity", "nan", "propagate"])
def test_overflow_modes(overflow):
    assert_same_blocks(blocks("mxfp8_e5m2"), "mxfp8_e5m2", overflow=overflow)


def test_overflow_modes_of_fixed_point():
    for overflow in ("symmetric", "wrap", "saturate_zero"):
        assert_same_blocks(blocks("mxint8"), "mxint8", overflow=overflow)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("mxfp8", (0, 1, -1)), ("mxint8", (-2,)), ("nvfp4", (0, 1)), ("int8_axis", (1,)), ("hbfp8", ((-2, -1), (2, 0))),
        ("nvfp4_16x16", ((0, 2),)), ("nf4_double", (-1,)), ("q4_1", (-1,)), ("mx9", (1,)),
    ],
)  # fmt: skip
def test_axes_tails_and_tiles(name, axes):
    x = blocks(name, 90, 21)[:90].reshape(6, 15, 21)
    for axis in axes:
        assert_same_blocks(x, name, axis=axis)
    if nf.get_format(name).scale_rule.direct is None:
        assert_same_blocks(x, name, axis=axes[0], numbers=random_numbers(x.shape), rounding="stochastic")


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_narrow_operands(dtype):
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2**16, (40, 64)).astype(np.uint16)
    x[::2] = (x[::2] & 0x81FF) | (rng.integers(0, 2**6, (20, 1)) << 9).astype(np.uint16)
    for name in ("mxfp8", "nvfp4"):
        assert_same_blocks(x.view(dtype), name)


def test_small_integers_are_operands():
    assert_same_blocks(np.arange(-64, 64, dtype=np.int8).reshape(2, 64), "mxfp8")


@pytest.mark.parametrize("name", ["mxfp8", "int8_axis", "int8_tensor", "nvfp4"])
def test_empty_arrays(name):
    for shape in ((0, 64), (3, 0)):
        assert_same_blocks(np.zeros(shape, np.float32), name)


@pytest.mark.parametrize("platform", ["transformer_engine", "modelopt", "compressed_tensors"])
def test_vendors_decode_in_their_order(platform):
    name = {"transformer_engine": "nvfp4"}.get(platform, f"nvfp4_{platform}")
    x = blocks(name, 60)
    x = np.where(np.isnan(x) | np.isinf(x), np.float32(1), x)
    with np.errstate(all="ignore"):
        expected = nf.decode(nf.encode(x, name), platform=platform)
    same_numbers(jax.jit(lambda x: encode_blocks(x, nf.get_format(name)).decode(platform=platform))(x), expected, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["nvfp4", CURRENT])
def test_tensor_scales_of_every_size(name):
    """One for each example under vmap."""
    rng = np.random.default_rng(3)
    amax = np.array([1e-45, 1e-38, 2.0**-110, 1e-30, 1, 1e30, 3.4e38])[:, None, None]
    x = rng.standard_normal((7, 6, 64)) * np.exp2(rng.integers(-12, 1, (7, 6, 1)))
    x = (x / np.abs(x).max((1, 2), keepdims=True) * amax).astype(np.float32)
    numbers, fmt = random_numbers(x.shape), nf.get_format(name)
    for given in ({}, {"rounding": "stochastic"}):
        rules = resolve(fmt.element, given.get("rounding"), fmt.default_overflow, None, None)
        stochastic = bool(given)
        ours = jax.jit(jax.vmap(partial(quantize_blocks, fmt=fmt, rules=rules, axis=-1)))
        got = ours(x, numbers=numbers) if stochastic else ours(x)
        for i in range(7):
            options = {**given, "random_bits": numbers[i]} if stochastic else {}
            same_numbers(got[i], nf.quantize(x[i], fmt, **options), f"{name} {given} {amax[i]}")


def test_products_are_rounded_before_elements_are():
    """x × fl(448 / amax) is a tie of E4M3 once it is rounded to binary32, and none before: a fused operation would differ."""
    rng = np.random.default_rng(4)
    x = np.zeros((64, 64), np.float32)
    x[:, 0] = rng.uniform(1, 2, 64)
    factor = np.float32(448) / x[:, :1]
    ties = (rng.integers(0, 16, (64, 64)) + 0.5) * 2.0**-9
    near = (ties / factor.astype(np.float64)).astype(np.float32)
    for candidate in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1))):
        hidden = (candidate * factor == ties.astype(np.float32)) & (candidate.astype(np.float64) * factor != ties)
        x = np.where(hidden & (x == 0), candidate, x)
    assert np.count_nonzero(x) > 1000
    assert_same_blocks(x, "block(e4m3, scale=float32, size=64, rule=current_scaling)")


# ---- transformations -------------------------------------------------------------------------------------------



@pytest.mark.parametrize("name", ["mxfp8", "mxint8", "nvfp4", "int8_axis", "q4_0", "mx9"])
def test_vmap_and_scan_are_jit(name):
    fmt = nf.get_format(name)
    x = blocks(name, 18, 32).reshape(3, 6, 32)

    def both(x):
        return encode_blocks(x, fmt), quantize_blocks(x, fmt)

    @jax.jit
    def many(x):
        return jax.vmap(both)(x), jax.lax.scan(lambda carry, part: (carry, both(part)), 0, x)[1]

    jitted = jax.jit(both)
    loop = [jitted(part) for part in x]
    for made in many(x):
        for leaf, *parts in zip(jax.tree.leaves(made), *(jax.tree.leaves(one) for one in loop), strict=True):
            same_numbers(leaf, np.stack([np.asarray(part) for part in parts]), name)


@pytest.mark.parametrize("name", ["mxfp8", "int8_group128"])
def test_eager_is_jit(name):
    fmt, x = nf.get_format(name), jnp.asarray(blocks(name, 18))
    same_numbers(quantize_blocks(x, fmt), jax.jit(lambda x: quantize_blocks(x, fmt))(x), name)


def test_codes_do_not_depend_on_x64():
    x = blocks("nvfp4", 18)
    numbers = random_numbers(x.shape)
    with jax.enable_x64(True):
        for name in ("mxfp8", "nvfp4", "q4_1"):
            assert_same_blocks(x, name)
        assert_same_blocks(x, "int8_axis", numbers=numbers, rounding="stochastic")


# ---- BlockArray ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nvfp4", "q4_1", "nf4_double", "mx9"])
def test_block_arrays_go_to_numpy_and_back(name):
    x = blocks(name, 30)[:12]
    q = jax.jit(lambda x: encode_blocks(x, nf.get_format(name)))(x)
    there = q.to_numpy()
    assert isinstance(there, nf.BlockArray)
    same_numbers(nf.decode(there), q.decode(), name)
    back = BlockArray.from_numpy(there)
    assert jax.tree.structure(back) == jax.tree.structure(q)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(q), strict=True):
        same_numbers(a, b, name)


def test_block_arrays_pass_through_jit_and_convert():
    x = np.arange(64, dtype=np.float32).reshape(2, 32)
    q = jax.jit(lambda x: encode_blocks(x, nf.get_format("mxfp4")))(x)
    assert (q.shape, q.ndim, q.size) == ((2, 32), 2, 64)
    assert repr(q) == "BlockArray(mxfp4, shape (2, 32), axis 1)"
    same(jax.jit(lambda q: q.decode() + 0)(q), q.decode())
    same(jnp.asarray(q), q.decode())
    shown = []
    jax.jit(lambda q: shown.append(repr(q)))(q)
    assert shown == [repr(q)]


def test_values_round_once_more_to_a_dtype():
    x = np.where(np.isfinite(x := blocks("nvfp4", 30)), x, 0).astype(np.float32)
    q = nf.encode(x, "nvfp4")
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float8_e5m2):
        with np.errstate(all="ignore"):
            same_numbers(decode_blocks(BlockArray.from_numpy(q), dtype), nf.decode(q, dtype=dtype), str(dtype))


# ---- clipping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mostly_nightly(["mxfp8", "mxint8", "nvfp4", "int8_axis", "q4_0", "mx6", "int4_affine_group32"], ["mxfp8", "int8_axis"]))
def test_clipped_mask_is_where_no_value_reaches(name):
    fmt = nf.get_format(name)
    x = blocks(name, 60)
    q = nf.encode(x, fmt)
    ends = []
    for end in (fmt.element.min, fmt.element.max):
        code = nf.encode(float(end), fmt.element, overflow="saturate")
        with np.errstate(all="ignore"):
            ends.append(nf.decode(nf.BlockArray(**{**vars(q), "codes": np.full_like(q.codes, code)})))
    with np.errstate(all="ignore"):
        expected = (x > np.maximum(*ends)) | (x < np.minimum(*ends))
    got = jax.jit(lambda x: clipped_mask(x, fmt))(x)
    assert np.array_equal(got, expected)


def test_nan_is_not_clipped():
    x = np.full((2, 32), np.nan, np.float32)
    assert not jax.jit(lambda x: clipped_mask(x, nf.get_format("mxfp4")))(x).any()


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("block(float32, scale=e8m0)", {}), ("bfp(m=23, size=16, scale=float32, rule=absmax)", {}),
        ("block(int8, scale=e8m21)", {}), ("block(fp4_bnb, scale=float32)", {}),
        ("block(nf4, scale=float32)", {"rounding": "stochastic"}),
    ],
)  # fmt: skip
def test_formats_beyond_32_bits_say_what_to_do(name, options):
    fmt = nf.get_format(name)
    rules = resolve(fmt.element, options.get("rounding"), fmt.default_overflow, None, None)
    x = jnp.ones((2, 32))
    numbers = jnp.zeros(x.shape, jnp.int32) if options else None
    with pytest.raises(ValueError, match=r"32-bit integers.*numfmt"):
        quantize_blocks(x, fmt, rules, -1, numbers)


def test_wide_operands_are_refused():
    with jax.enable_x64(True), pytest.raises(TypeError, match=r"float64.*cast it"):
        encode_blocks(jnp.ones((2, 32), jnp.float64), nf.get_format("mxfp4"))
