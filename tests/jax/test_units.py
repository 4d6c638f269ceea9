"""Products as matrix units compute them: numfmt's bits in every transformation, gradients, recipes, refusals."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt_jax import (
    BlockArray,
    Gemm,
    Operand,
    Recipe,
    conv_general_dilated,
    dot_general,
    emulate,
    encode,
    matmul,
    receipt,
)
from tests.jax.support import same
from tests.support import mostly_nightly
from tests.units_custom import FIELDS, custom_unit
from tests.units_support import CATEGORIES, Case, Draw, addends, code_dtype, part, run

REFUSED = [
    "a100.fp64", "h100.fp64", "b200.fp64", "mi250.fp64", "mi300.fp64", "mi100.fp16", "mi100.bf16", "arm.bfdot.ebf1", "arm.bfmmla.ebf1",
    "arm.fdot.fp8", "arm.fdot.fp8.fp16out", "arm.fmmla.fp8", "exact",
]  # fmt: skip
TAKEN = [name for name in nf.list_units() if name not in REFUSED]
DAILY = ["b200.nvfp4", "mi300.bf16", "x86.vdpbf16ps", "x86.vpdpbusds"]  # each compiles for a second or two

def length_of(unit):
    """Two steps and three products more, in whole blocks."""
    k = max(2 * (unit.length or 6) + 3, (unit.promote_every or 0) + 5)
    return -(-k // unit.scale_blocks[0]) * unit.scale_blocks[0] if unit.scales else k


def case_of(unit, formats, k, count=4, seed=0):
    """Rows of every category, as codes."""
    rng = np.random.default_rng(seed)
    start = unit.promoted if unit.promote_every else unit.c_format
    draws = [Draw(nf.get_format(fmt), rng) for fmt in (*formats, start)]
    a, b, c, scales = zip(*(part(unit, draws, category, k, count) for category in CATEGORIES), strict=True)
    halves = tuple(map(np.concatenate, zip(*scales, strict=True))) if unit.scales else None
    return Case(*map(np.concatenate, (a, b, c)), tuple(map(str, formats)), halves)


def values(codes, fmt):
    """Codes as an array of values whose dtype is the format's, if there is one: NaNs keep their bits then."""
    fmt = nf.get_format(fmt)
    codes = codes.astype(code_dtype(fmt))
    if isinstance(fmt, nf.FixedFormat) and not fmt.fraction_bits and fmt.bits == 8:
        return codes.view(np.int8 if fmt.signed else np.uint8)
    if str(fmt) == "bfloat16":
        return codes.view(ml_dtypes.bfloat16)
    return codes.view(str(fmt)) if str(fmt) in ("float16", "float32") else nf.decode(codes, fmt, dtype=np.float32)


def arguments(unit, case):
    """The operands of `matmul` for the rows of a case, one product each."""
    a, b = (values(codes, fmt) for codes, fmt in zip((case.a, case.b), case.formats, strict=True))
    c = addends(unit, case.c)
    c = c.astype(np.int32) if isinstance(unit.accumulator, nf.FixedFormat) else c
    scales = None
    if case.scales is not None:
        s, t = (x.astype(code_dtype(unit.scales[0])) for x in case.scales)
        scales = s[:, None, :], t[:, :, None]
    return (a[:, None, :], b[:, :, None], c[:, None, None]), scales


def agree(unit, formats, k, **options):
    case = case_of(unit, formats, k, **options)
    operands, scales = arguments(unit, case)
    found = matmul(*operands, unit=unit, formats=case.formats, scales=scales)
    with np.errstate(all="ignore"):
        expected = run(unit, case)
    same(found[:, 0, 0], expected, f"{unit} {formats} {k}")


# ---- bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mostly_nightly(TAKEN, set(DAILY)))
def test_named_units_give_numfmt_s_bits(name):
    unit = nf.get_unit(name)
    formats = unit.inputs if name.startswith("x86.vp") else (unit.inputs[0], unit.inputs[-1])
    agree(unit, formats, length_of(unit))


@pytest.mark.nightly
@pytest.mark.parametrize("name", TAKEN)
def test_other_lengths_and_more_operands_do_too(name):
    unit = nf.get_unit(name)
    first = unit.scale_blocks[0] if unit.scales else 1
    for k in {first, length_of(unit) - 3 * (not unit.scales)}:
        formats = unit.inputs[:2] if name.startswith("x86.vp") else (unit.inputs[-1], unit.inputs[0])
        agree(unit, formats, k, count=40, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FIELDS)
def test_custom_units_do_or_are_refused(name):
    unit = custom_unit(name)
    try:
        for formats in [(fmt, unit.inputs[-1]) for fmt in unit.inputs[:2]]:
            agree(unit, formats, length_of(unit))
    except ValueError as error:
        assert "numfmt_jax computes in two 32-bit integers" in str(error), name  # noqa: PT017


def ordinary(shape, seed, fmt="e4m3fn"):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.asarray(nf.quantize(x, fmt), np.float32)


@pytest.mark.parametrize("name", ["h100.e4m3", pytest.param("mi300.e4m3fnuz", marks=pytest.mark.nightly)])
def test_transformations_leave_the_bits_alone(name):
    unit = nf.get_unit(name)
    fmt = unit.inputs[0]
    a, b, c = ordinary((3, 4, 70), 1, fmt), ordinary((70, 5), 2, fmt), ordinary((5,), 3, fmt)
    product = partial(matmul, unit=unit)
    expected = nf.matmul(a, b, c, unit=unit)
    same(product(a, b, c), expected)
    same(jax.jit(product)(a, b, c), expected, "jit")
    same(jax.jit(jax.vmap(product, (0, None, None)))(a, b, c), expected, "vmap")
    (_, found), _ = jax.value_and_grad(lambda a: (lambda y: (y.sum(), y))(product(a, b, c)), has_aux=True)(jnp.asarray(a))
    same(found, expected, "grad")


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 1, 4, 4), (3, 4, 2)), *(pytest.param(*s, marks=pytest.mark.nightly) for s in (((40,), (40,)), ((40,), (40, 3)), ((4, 40), (40,))))],
)
def test_shapes_are_those_of_matmul(a, b):
    x, y = ordinary(a, 1), ordinary(b, 2)
    found = matmul(x, y, unit="v100.fp16", formats="float16")
    same(found, nf.matmul(x, y, unit="v100.fp16", formats="float16"))
    assert found.shape == jnp.matmul(x, y).shape


def test_values_that_the_format_lacks_are_rounded_first():
    x, y = (np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate(((4, 9), (9, 3))))
    same(matmul(x, y, unit="a100.tf32"), nf.matmul(x, y, unit="a100.tf32"), "input_rounding")


@pytest.mark.nightly
def test_without_a_rule_they_are_rounded_to_nearest():
    x, y = (np.random.default_rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate(((4, 9), (9, 3))))
    rounded = [nf.quantize(v, "tf32") for v in (x, y)]
    nearest = replace(nf.get_unit("a100.tf32"), input_rounding=None)
    same(matmul(x, y, unit=nearest), nf.matmul(*rounded, unit=nearest))


@pytest.mark.parametrize(("fmt", "unit"), [("mxfp8", "b200.mxfp8"), pytest.param("nvfp4", "b200.nvfp4", marks=pytest.mark.nightly)])
def test_block_arrays_are_elements_and_scales(fmt, unit):
    x, y = nf.encode(ordinary((2, 64), 1, "float32"), fmt), nf.encode(ordinary((64, 3), 2, "float32"), fmt, axis=0)
    x.scales[0, 0] = 0xFF if fmt == "mxfp8" else 0x7F  # a NaN
    found = matmul(BlockArray.from_numpy(x), BlockArray.from_numpy(y), unit=unit)
    same(found, nf.matmul(x, y, unit=unit))
    assert np.isnan(found[0]).all()
    if fmt == "nvfp4":
        with pytest.raises(ValueError, match=r"c is given beside a tensor scale, .* add c afterwards"):
            matmul(BlockArray.from_numpy(x), BlockArray.from_numpy(y), np.float32(1), unit=unit)


# ---- gradients -----------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_plain_product():
    a, b, c = (jnp.asarray(v) for v in (ordinary((3, 4, 70), 1), ordinary((70, 5), 2), ordinary((5,), 3)))
    g = jnp.asarray(ordinary((3, 4, 5), 4))
    _, back = jax.vjp(partial(matmul, unit="h100.e4m3"), a, b, c)
    _, plain = jax.vjp(lambda a, b, c: jnp.matmul(a, b, precision="highest") + c, a, b, c)
    for found, expected in zip(back(g), plain(g), strict=True):
        same(found, expected)
    grad = jax.grad(lambda a: matmul(a, b, unit="h100.e4m3").sum())
    assert jax.eval_shape(grad, jnp.asarray(a, jnp.bfloat16)).dtype == jnp.bfloat16


def test_gradients_of_scaled_operands_have_their_scales():
    a, b = (jnp.asarray(ordinary(s, i)) for i, s in enumerate(((2, 64), (64, 3))))
    scales = jnp.full((2, 2), 129, jnp.uint8), jnp.full((2, 3), 126, jnp.uint8)  # 4 and 1/2
    da, db = jax.grad(lambda a, b: matmul(a, b, unit="b200.mxfp8", scales=scales).sum(), (0, 1))(a, b)
    same(da, np.broadcast_to(2 * b.sum(1), a.shape))
    same(db, np.broadcast_to(2 * a.sum(0)[:, None], b.shape))


@pytest.mark.nightly
def test_gradients_by_a_unit_are_its_products():
    a, b, g = ordinary((3, 40), 1), ordinary((40, 5), 2), ordinary((3, 5), 4)
    unit = nf.get_unit("h100.e4m3")
    _, back = jax.vjp(partial(matmul, unit=unit, gradient=unit), a, b)
    da, db = back(jnp.asarray(g))
    same(da, nf.matmul(g, b.T, unit=unit))
    same(db, nf.matmul(a.T, g, unit=unit))

@pytest.mark.nightly
def test_gradients_by_a_recipe_are_its_slots():
    a, b, g = ordinary((3, 40), 1), ordinary((40, 5), 2), ordinary((3, 5), 4)
    recipe = Recipe(dgrad=Gemm("e2m1", "e2m1"))
    _, back = jax.vjp(partial(matmul, unit="h100.e4m3", gradient=recipe), a, b)
    exact = [nf.quantize(v, "e2m1", overflow="saturate").astype(np.float64) for v in (g, b.T)]  # sums of few digits
    same(back(jnp.asarray(g))[0], (exact[0] @ exact[1]).astype(np.float32))


# ---- recipes -------------------------------------------------------------------------------------------------------

FP8 = Recipe(
    Gemm("e4m3fn", "e4m3fn", accumulate="h100.e4m3"),
    Gemm("e5m2", "e4m3fn", accumulate=nf.get_unit("h100.e5m2")),
    Gemm("e4m3fn", "e5m2", accumulate="h100.e5m2"),
)


def saturated(x, fmt):
    return nf.quantize(np.asarray(x), fmt, overflow="saturate")


def expected_passes(x, w, g):
    """The product of matrices and both cotangents."""
    formats = ("e5m2", "e4m3fn")
    x8, w8, g8 = saturated(x, "e4m3fn"), saturated(w, "e4m3fn"), saturated(g, "e5m2")
    return (
        nf.matmul(x8, w8, unit="h100.e4m3"),
        nf.matmul(g8, w8.T, unit="h100.e5m2", formats=formats),
        nf.matmul(x8.T, g8, unit="h100.e5m2", formats=formats[::-1]),
    )


def test_a_recipe_accumulates_in_units_in_all_three_products():
    x, w, g = (ordinary(s, i, "float32") for i, s in enumerate(((6, 40), (40, 5), (6, 5))))
    y, dx, dw = expected_passes(x, w, g)
    found, back = jax.vjp(partial(dot_general, dimension_numbers=(((1,), (0,)), ((), ())), recipe=FP8), x, w)
    for ours, theirs in zip((found, *back(jnp.asarray(g))), (y, dx, dw), strict=True):
        same(ours, theirs)
    turned = (((0,), (1,)), ((), ()))  # the same product of transposed operands, whose cotangents are transposed
    found, back = jax.vjp(partial(dot_general, dimension_numbers=turned, recipe=FP8), x.T, w.T)
    for ours, theirs in zip((found, *back(jnp.asarray(g))), (y, dx.T, dw.T), strict=True):
        same(ours, theirs)


@pytest.mark.nightly
def test_batches_and_several_contracted_axes():
    numbers = (((3, 1), (0, 2)), ((0,), (1,)))
    a, b = ordinary((2, 3, 4, 5), 1, "float32"), ordinary((5, 2, 3, 6), 2, "float32")
    found, back = jax.vjp(partial(dot_general, dimension_numbers=numbers, recipe=FP8), a, b)
    g = ordinary(found.shape, 3, "float32")
    da, db = back(jnp.asarray(g))
    for i in range(2):  # contracted in the order of a's axes
        y, dx, dw = expected_passes(
            a[i].transpose(1, 0, 2).reshape(4, 15), b[:, i].transpose(1, 0, 2).reshape(15, 6), g[i]
        )
        same(found[i], y)
        same(da[i], dx.reshape(4, 3, 5).transpose(1, 0, 2))
        same(db[:, i], dw.reshape(3, 5, 6).transpose(1, 0, 2))


def test_emulate_computes_products_in_units():
    def loss(w, x):
        return jnp.sum(jnp.sin(x @ w))

    w, x = ordinary((40, 5), 1, "float32"), ordinary((6, 40), 2, "float32")
    y, *_ = expected_passes(x, w, ordinary((6, 5), 3))
    g = np.asarray(jax.jit(jnp.cos)(y))
    dw, dx = jax.grad(emulate(loss, {"*": FP8}), (0, 1))(w, x)
    _, of_x, of_w = expected_passes(x, w, g)
    same(dx, of_x)
    same(dw, of_w)
    assert "h100.e5m2" in str(receipt(loss, {"*": FP8}, w, x))


@pytest.mark.nightly
def test_an_operand_as_in_forward_has_that_format():
    recipe = Recipe(
        Gemm("e5m2", "e5m2", accumulate="h100.e4m3"),
        Gemm(None, Operand(None, source="forward"), accumulate="h100.e4m3"),
    )
    x, w, g = ordinary((3, 8), 1, "float32"), 1000 * ordinary((8, 2), 2, "float32"), ordinary((3, 2), 3)
    _, back = jax.vjp(partial(dot_general, dimension_numbers=(((1,), (0,)), ((), ())), recipe=recipe), x, w)
    expected = nf.matmul(g, saturated(w, "e5m2").T, unit="h100.e4m3", formats=("e4m3fn", "e5m2"))
    same(back(jnp.asarray(g))[0], expected)


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_words_do_not_hold_is_refused_at_once(name):
    with pytest.raises(ValueError, match=r"two 32-bit integers: numfmt\.matmul"):
        matmul(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32), unit=name)
    with pytest.raises(ValueError, match="two 32-bit integers"):
        Gemm(accumulate=name)


def test_what_does_not_fit_a_recipe_is_refused_at_once():
    with pytest.raises(ValueError, match="it is float32, bfloat16, float16 or a unit"):
        Gemm(accumulate="h100.e4m4")
    with pytest.raises(ValueError, match="takes block scales"):
        Gemm(accumulate="b200.mxfp8")
    with pytest.raises(ValueError, match="a slot of mxfp8_e4m3 is given"):
        Gemm("mxfp8", accumulate="h100.e4m3")
    with pytest.raises(ValueError, match="only dot_general takes it"):
        conv_general_dilated(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 2, 2)), (1, 1), "VALID", recipe=FP8)


def test_operands_that_do_not_meet_are_refused():
    x = np.ones((2, 32), np.float32)
    for given, message in [
        ({"a": x, "b": x}, "K = 32 does not meet"),
        ({"a": x[0, 0], "b": x}, "no scalars"),
        ({"a": x, "b": x.T, "formats": "e3m2"}, "a has format float6_e3m2fn; the unit takes"),
        ({"a": x, "b": x.T, "c": np.ones(3, np.float32)}, "it broadcasts to the result's shape"),
        ({"a": x, "b": x.T, "scales": (x, x)}, "the unit takes none"),
        ({"a": x, "b": x.T, "unit": "b200.mxfp8"}, "a has no scales"),
        ({"a": x, "b": x.T, "unit": "b200.mxfp8", "scales": (np.ones((2, 2), np.uint8),) * 2}, "one for 32 elements"),
        ({"a": x[:, :0], "b": x.T[:0]}, "K = 0"),
        ({"a": x, "b": x.T, "gradient": "mxfp4_sr"}, "without a key"),
        ({"a": encode(x, "mxfp4"), "b": x.T}, "a has format mxfp4; the unit takes no scales"),
        ({"a": encode(x, "mxfp8"), "b": encode(x.T, "mxfp8"), "unit": "b200.mxfp8"}, "blocks along axis"),
    ]:
        with pytest.raises(ValueError, match=message):
            matmul(given.pop("a"), given.pop("b"), **{"unit": "h100.e4m3"} | given)


