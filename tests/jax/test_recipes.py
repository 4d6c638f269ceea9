"""Named recipes against a statement of their six operands in NumPy, written from the papers slot by slot.

x (T, K) is the activation, w (K, N) the weight, g (T, N) the gradient. Forward contracts K, dgrad N, wgrad T.
The operands are small multiples of a power of two, so that Hadamard sums are exact in any order.
"""

import zlib

import jax
import numpy as np
import pytest

import numfmt as nf
import numfmt_jax as nj
from numfmt_jax.recipe import Gemm, Operand, Recipe

T, K, N = 128, 192, 64
SEED = 11
DIMENSIONS = (((1,), (0,)), ((), ()))


def operand(seed, shape):
    rng = np.random.default_rng(seed)
    small = rng.integers(-255, 256, shape) * 2.0 ** rng.integers(-12, 0, (shape[0] // 16, 1)).repeat(16, 0)
    return np.float32(small / 256)


X, W, G = operand(1, (T, K)), operand(2, (K, N)), operand(3, (T, N))


def words(which, name):
    """The seed of a slot: keys are folded by name, products first."""
    return (SEED, zlib.crc32(which.encode()), zlib.crc32(name.encode()))


def rne(x, format, axis):
    return nf.quantize(x, format, axis=axis, rounding="ties_to_even", overflow="saturate")


def random(x, format, axis, which, name):
    return nf.quantize(x, format, axis=axis, rounding="stochastic", seed=words(which, name))


def sylvester(size):
    return np.array([[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)])


def transformed(x, axis, signs):
    """x · diag(signs) · H / sqrt(size) on groups along an axis, in float64, which is exact here but for the root."""
    groups = np.moveaxis(x.astype(np.float64), axis, -1).reshape(-1, len(signs))
    turned = (groups * signs) @ sylvester(len(signs))
    whole = np.moveaxis(x, axis, -1).shape
    assert (turned == turned.astype(np.float32)).all()
    result = turned.astype(np.float32) * np.float32(len(signs) ** -0.5)
    return np.ascontiguousarray(np.moveaxis(result.reshape(whole), -1, axis))


NVIDIA = np.array([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1])


def random_signs(which, size):
    return np.where(nf.random_bits(words(which, "signs"), size) >> 31, -1, 1)


def same_everywhere(format, rounding="ties_to_even"):
    def q(v, axis):
        return nf.quantize(v, format, axis=axis, rounding=rounding)

    return q(X, 1), q(W, 0), q(G, 1), q(W, 1), q(X, 0), q(G, 0)


def fp8_current():
    tensor = "block({}, scale=float32, size=tensor, rule=current_scaling)".format
    x, w, g = rne(X, tensor("e4m3"), -1), rne(W, tensor("e4m3"), -1), rne(G, tensor("e5m2"), -1)
    return x, w, g, w, x, g


def mxfp8_hybrid():
    e4m3, e5m2 = "block(e4m3, scale=e8m0, size=32, rule=rceil)", "block(e5m2, scale=e8m0, size=32, rule=rceil)"
    return rne(X, e4m3, 1), rne(W, e4m3, 0), rne(G, e5m2, 1), rne(W, e4m3, 1), rne(X, e4m3, 0), rne(G, e5m2, 0)


def microxcaling():
    def away(v, axis):
        return nf.quantize(nf.quantize(v, "bfloat16"), "mxfp4", axis=axis, rounding="ties_to_away")

    return away(X, 1), away(W, 0), away(G, 1), away(W, 1), away(X, 0), away(G, 0)


def mxfp4_sr():
    """arXiv 2502.20586, algorithm 1: the exponent of the block's amax, then 3/4 of the element, stochastically."""

    def q(v, axis, which, name):
        v = transformed(v, axis, random_signs(which, 64))
        scales = nf.decode(nf.encode(v, "mxfp4", axis=axis).scales, "e8m0").repeat(32, axis)
        elements = nf.quantize(v * np.float32(0.75) / scales, "e2m1", rounding="stochastic", overflow="saturate",
                               seed=words(which, name))
        return elements * scales

    return (rne(X, "bfloat16", -1), rne(W, "bfloat16", -1), q(G, 1, "dgrad", "grad"), q(W, 1, "dgrad", "rhs"),
            q(X, 0, "wgrad", "lhs"), q(G, 0, "wgrad", "grad"))


def nvfp4(forward="nvfp4"):
    w = nf.quantize(W, "nvfp4_16x16", axis=(1, 0))
    return (
        nf.quantize(X, forward, axis=1), w, random(G, "nvfp4", 1, "dgrad", "grad"), w,
        nf.quantize(transformed(X, 0, NVIDIA), "nvfp4", axis=0),
        random(transformed(G, 0, NVIDIA), "nvfp4", 0, "wgrad", "grad"),
    )


def fp4_all_the_way():
    return (
        nf.quantize(X, "nvfp4", axis=1), nf.quantize(W, "nvfp4", axis=0), random(G, "nvfp4", 1, "dgrad", "grad"),
        nf.quantize(W, "nvfp4", axis=1), random(X, "nvfp4", 0, "wgrad", "lhs"), random(G, "nvfp4", 0, "wgrad", "grad"),
    )


def deepseek(requantized=False):
    x = nf.quantize(X, "deepseek_fp8", axis=1)
    w = nf.quantize(W, "deepseek_fp8_128x128", axis=(1, 0))
    g = nf.quantize(G, "deepseek_fp8", axis=1)
    return x, w, g, w, nf.quantize(x if requantized else X, "deepseek_fp8", axis=0), nf.quantize(G, "deepseek_fp8", axis=0)


def switchback():
    row = "int8_axis"
    w = nf.quantize(W, "int8_tensor")
    return nf.quantize(X, row, axis=1), w, nf.quantize(G, row, axis=1), w, X, G


def jetfire():
    tile = "block(fixed(bits=8), scale=float16, size=32x32)"
    x, w = nf.quantize(X, tile), nf.quantize(W, tile)
    return x, w, nf.quantize(G, tile, rounding="stochastic", seed=words("dgrad", "grad")), w, x, nf.quantize(G, tile)


STATEMENT = {
    "bf16": lambda: same_everywhere("bfloat16"),
    "fp8_current": fp8_current,
    "mxfp8": lambda: same_everywhere("block(e4m3, scale=e8m0, size=32, rule=rceil)"),
    "mxfp8_hybrid": mxfp8_hybrid,
    "mxfp8_ocp": lambda: same_everywhere("block(e4m3, scale=e8m0, size=32, rule=floor)"),
    "mxfp6": lambda: same_everywhere("block(e2m3, scale=e8m0, size=32, rule=floor)"),
    "mxfp6_e3m2": lambda: same_everywhere("block(e3m2, scale=e8m0, size=32, rule=floor)"),
    "mxfp4": lambda: same_everywhere("block(e2m1, scale=e8m0, size=32, rule=floor)"),
    "mxfp4_microxcaling": microxcaling,
    "mxfp4_sr": mxfp4_sr,
    "nvfp4": nvfp4,
    "nvfp4_4over6": lambda: nvfp4("nvfp4_4over6"),
    "fp4_all_the_way": fp4_all_the_way,
    "deepseek_fp8": deepseek,
    "deepseek_fp8_requantized": lambda: deepseek(requantized=True),
    "int8": lambda: same_everywhere("int8_axis"),
    "switchback": switchback,
    "jetfire": jetfire,
}
SLOW = (
    "nvfp4_4over6", "fp4_all_the_way", "deepseek_fp8_requantized", "jetfire", "mxfp4_sr", "mxfp4_microxcaling", "mxfp6_e3m2",
)  # to compile
SLOTS = ("fprop.lhs", "fprop.rhs", "dgrad.grad", "dgrad.rhs", "wgrad.lhs", "wgrad.grad")


def test_every_recipe_has_a_statement():
    assert sorted(STATEMENT) == sorted(nj.list_recipes())


def assert_same(ours, expected):
    for slot, wanted in zip(SLOTS, expected, strict=True):
        assert np.array_equal(np.asarray(ours[slot]).view(np.uint32), wanted.view(np.uint32)), slot


@pytest.mark.parametrize("name", [
    pytest.param(n, marks=pytest.mark.nightly) if n in SLOW else n for n in nj.list_recipes()
])  # fmt: skip
def test_six_operands_are_those_of_the_statement(name):
    made = jax.jit(lambda x, w, g: nj.operands(x, w, g, DIMENSIONS, recipe=name, key=jax.random.key(SEED)))(X, W, G)
    assert_same(made, STATEMENT[name]())


@pytest.mark.parametrize("name", ["mxfp8", pytest.param("nvfp4", marks=pytest.mark.nightly)])
def test_the_weight_may_be_the_left_operand(name):
    key = jax.random.key(SEED)
    swapped = jax.jit(lambda w, x, g: nj.operands(w, x, g, DIMENSIONS, recipe=name, key=key, weight="lhs"))(W.T, X.T, G.T)
    plain = jax.jit(lambda x, w, g: nj.operands(x, w, g, DIMENSIONS, recipe=name, key=key))(X, W, G)
    for slot in SLOTS:
        operand = nj.get_recipe(name).slots()[slot]
        if operand.rounds is None or not operand.rounds.is_stochastic:  # random words follow the order of the operand as it is given
            assert np.array_equal(np.asarray(swapped[slot]).T, plain[slot]), slot


@pytest.mark.parametrize("name", [
    n if n in ("bf16", "mxfp8", "switchback", "mxfp4_sr") else pytest.param(n, marks=pytest.mark.nightly)
    for n in nj.list_recipes()
])  # fmt: skip
def test_products_are_those_of_the_operands(name):
    key = jax.random.key(SEED)

    @jax.jit
    def everything(x, w, g):
        y, back = jax.vjp(lambda x, w: nj.dot_general(x, w, DIMENSIONS, recipe=name, key=key), x, w)
        return y, back(g), nj.operands(x, w, g, DIMENSIONS, recipe=name, key=key)

    y, (dx, dw), made = everything(X, W, G)
    q = {slot: np.asarray(v, np.float64) for slot, v in made.items()}
    recipe = nj.get_recipe(name)
    scales = [float(np.prod([s.scale for s in (gemm.lhs, gemm.rhs) if s])) for gemm in (recipe.fprop, recipe.dgrad, recipe.wgrad)]
    exact = [
        q["fprop.lhs"] @ q["fprop.rhs"] / scales[0],
        q["dgrad.grad"] @ q["dgrad.rhs"].T / scales[1],
        q["wgrad.lhs"].T @ q["wgrad.grad"] / scales[2],
    ]
    for ours, wanted in zip((y, dx, dw), exact, strict=True):
        off = np.abs(np.asarray(ours, np.float64) - wanted).max()
        assert off <= 1e-5 * np.abs(wanted).max()  # float32 sums of at most 192 products, in lax's own order


def test_sources_and_names():
    for name in nj.list_recipes():
        recipe = nj.get_recipe(name)
        assert recipe.name == name
        assert recipe.source
    assert nj.get_recipe("NVFP4") is nj.get_recipe("nvfp4")
    with pytest.raises(ValueError, match="nearest: nvfp4"):
        nj.get_recipe("nvpf4")


def test_fixed_signs_and_random_signs():
    assert nj.get_recipe("nvfp4").wgrad.lhs.transform.signs == tuple(NVIDIA)
    assert nj.get_recipe("mxfp4_sr").dgrad.lhs.transform.is_random


def test_recipes_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="same, or none"):
        Gemm(Operand("e4m3", transform=nj.Hadamard(16)), Operand("e4m3"))
    with pytest.raises(ValueError, match=r"only dgrad\.rhs and wgrad\.lhs"):
        Recipe(fprop=Gemm(Operand("e4m3", source="forward")))
    with pytest.raises(ValueError, match="leave the slot None"):
        Recipe(fprop=Gemm(Operand(None)))
    with pytest.raises(ValueError, match="powers of two"):
        nj.Hadamard(24)
    with pytest.raises(ValueError, match="positive"):
        Operand("e4m3", scale=0)
    with pytest.raises(ValueError, match="no multiple of 16"):
        nj.operands(X[:100], W, G[:100], DIMENSIONS, recipe="nvfp4", key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"slot dgrad.grad is random"):
        nj.dot_general(X, W, DIMENSIONS, recipe="nvfp4")
