"""Products of rounded operands: six slots, every dimension number, and lax itself where a slot is None."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import numfmt as nf
from numfmt_jax.conv import conv_general_dilated
from numfmt_jax.dots import bind, dot_general, operands
from numfmt_jax.recipe import Gemm, Hadamard, Operand, Recipe
from tests.jax.support import KEY, SEED, bfloat16, mesh, same

# lhs, rhs, ((contracted of lhs, of rhs), (batch of lhs, of rhs))
DIMENSIONS = {
    "plain": ((6, 10), (10, 7), (((1,), (0,)), ((), ()))),
    "transposed": ((10, 6), (7, 10), (((0,), (1,)), ((), ()))),
    "batched": ((3, 6, 10), (3, 10, 7), (((2,), (1,)), ((0,), (0,)))),
    "batch inside": ((6, 3, 10), (10, 7, 3), (((2,), (0,)), ((1,), (2,)))),
    "batches crossed": ((2, 3, 4, 5), (3, 5, 2, 6), (((3,), (1,)), ((0, 1), (2, 0)))),
    "two contracted": ((6, 4, 5), (4, 5, 7), (((1, 2), (0, 1)), ((), ()))),
    "two contracted, crossed": ((4, 6, 5), (5, 7, 4), (((2, 0), (0, 2)), ((), ()))),
    "rows of a batch": ((2, 3, 10), (10, 7), (((2,), (0,)), ((), ()))),
    "two contracted, from the last": ((4, 5, 6), (4, 5, 3, 2), (((1, 0), (1, 0)), ((), ()))),
    "two free on each side": ((2, 10, 3), (4, 10, 2), (((1,), (1,)), ((), ()))),
    "none contracted": ((4,), (5,), (((), ()), ((), ()))),
    "none contracted, batched": ((3, 4), (3, 5), (((), ()), ((0,), (0,)))),
    "vectors": ((8,), (8,), (((0,), (0,)), ((), ()))),
    "vector of a matrix": ((5, 8), (8,), (((1,), (0,)), ((), ()))),
}
PLAIN = DIMENSIONS["plain"]
FORMATS = {
    "fprop.lhs": "e2m1", "fprop.rhs": "int4", "dgrad.grad": "q2.2", "dgrad.rhs": "e3m2", "wgrad.lhs": "ternary", "wgrad.grad": "q1.3",
}  # fmt: skip


def recipe_of(slots, **fields):
    """A recipe from operands or formats by the names of its slots."""
    f, d, w = (
        Gemm(slots.get(a), slots.get(b), **fields)
        for a, b in (("fprop.lhs", "fprop.rhs"), ("dgrad.grad", "dgrad.rhs"), ("wgrad.lhs", "wgrad.grad"))
    )
    return Recipe(f, d, w)


SIX = recipe_of(FORMATS)


def exact(shape, seed, dtype="float32"):
    """Numbers of eight bits: products and sums of them are exact in float32, in any order."""
    numbers = np.random.default_rng(seed).integers(-127, 128, shape) / 32
    return np.asarray(jnp.asarray(numbers, jnp.float32).astype(dtype))


def letters(lhs_ndim, rhs_ndim, numbers):
    """The subscripts of einsum for both operands and the result."""
    (lc, rc), (lb, rb) = numbers
    names = iter("abcdefghijklmnop")
    lhs = [next(names) for _ in range(lhs_ndim)]
    rhs = [""] * rhs_ndim
    for i, j in zip((*lc, *lb), (*rc, *rb), strict=True):
        rhs[j] = lhs[i]
    rhs = [name or next(names) for name in rhs]
    out = [lhs[i] for i in lb]
    out += [name for i, name in enumerate(lhs) if i not in (*lc, *lb)]
    out += [name for j, name in enumerate(rhs) if j not in (*rc, *rb)]
    return "".join(lhs), "".join(rhs), "".join(out)


def contracted(subscripts, a, b, dtype):
    """numpy.einsum of exact operands, rounded once to the dtype."""
    y = np.einsum(subscripts, *(np.asarray(v, np.float64) for v in (a, b)))
    return np.asarray(y, np.float32).astype(dtype) + np.zeros((), dtype)


def product(shapes, seed, dtype):
    """Operands, the cotangent of their product, and the product with both gradients as one jitted function."""
    lhs, rhs = exact(shapes[0], seed, dtype), exact(shapes[1], seed + 1, dtype)
    out = jax.eval_shape(partial(lax.dot_general, dimension_numbers=shapes[2]), lhs, rhs)
    g = exact(out.shape, seed + 2, dtype)

    @partial(jax.jit, static_argnums=0)
    def passes(dot, lhs, rhs, g):
        y, back = jax.vjp(lambda lhs, rhs: dot(lhs, rhs, shapes[2]), lhs, rhs)
        return y, *back(g)

    return lhs, rhs, g, passes


def quantized(slots, lhs, rhs, g, weight="rhs"):
    """The six operands by numfmt."""
    x, w = (lhs, rhs) if weight == "rhs" else (rhs, lhs)
    given = {"fprop.lhs": x, "fprop.rhs": w, "dgrad.grad": g, "dgrad.rhs": w, "wgrad.lhs": x, "wgrad.grad": g}
    return {name: nf.quantize(given[name], fmt) if fmt else given[name] for name, fmt in slots.items()}


# ---- nothing is rounded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [None, Recipe()])
@pytest.mark.parametrize("dims", DIMENSIONS)
def test_without_slots_the_jaxpr_is_that_of_lax(dims, recipe):
    lhs, rhs, numbers = DIMENSIONS[dims]
    for dtype, options in (
        ("float32", {}),
        ("bfloat16", {"precision": "highest", "preferred_element_type": jnp.float32}),
    ):
        a, b = jnp.ones(lhs, dtype), jnp.ones(rhs, dtype)
        ours = lambda a, b: dot_general(a, b, numbers, **options, recipe=recipe)  # noqa: B023, E731
        theirs = lambda a, b: lax.dot_general(a, b, numbers, **options)  # noqa: B023, E731
        assert str(jax.make_jaxpr(ours)(a, b)) == str(jax.make_jaxpr(theirs)(a, b))
        gradients = [jax.make_jaxpr(jax.grad(lambda a, b: f(a, b).sum(), (0, 1)))(a, b) for f in (ours, theirs)]  # noqa: B023
        assert str(gradients[0]) == str(gradients[1])


def test_without_slots_other_dtypes_and_shardings_are_those_of_lax():
    a, b = jnp.ones((2, 3), jnp.int8), jnp.ones((3, 2), jnp.int8)
    same(dot_general(a, b, PLAIN[2], None, jnp.int32), lax.dot_general(a, b, PLAIN[2], None, jnp.int32))
    explicit = jax.make_mesh((2,), ("d",), (jax.sharding.AxisType.Explicit,), devices=mesh(2).devices.reshape(-1))
    with jax.set_mesh(explicit):
        spec = jax.sharding.PartitionSpec("d", None)
        x, w = jnp.ones((4, 3)), jnp.ones((3, 2))
        jaxprs = [
            str(jax.make_jaxpr(lambda a, b, f=f: f(a, b, PLAIN[2], out_sharding=spec))(x, w))
            for f in (dot_general, lax.dot_general)
        ]
    assert jaxprs[0] == jaxprs[1]


def test_without_slots_a_convolution_has_the_jaxpr_of_lax():
    x, w = jnp.ones((2, 4, 6, 6)), jnp.ones((8, 2, 3, 3))
    for options in ({}, {"lhs_dilation": (2, 1)}, {"precision": "highest", "preferred_element_type": jnp.float32}):
        jaxprs = [
            str(jax.make_jaxpr(lambda x, w, f=f, o=options: f(x, w, (1, 2), "SAME" if "lhs_dilation" not in o else [(1, 1), (0, 1)], feature_group_count=2, **o))(x, w))
            for f in (conv_general_dilated, lax.conv_general_dilated)
        ]  # fmt: skip
        assert jaxprs[0] == jaxprs[1]


# ---- six slots -------------------------------------------------------------------------------------------------


def agree(dims, dtype, weight="rhs"):
    shapes = DIMENSIONS[dims]
    lhs, rhs, g, passes = product(shapes, 3, dtype)
    dot = partial(dot_general, recipe=SIX, weight=weight)
    made = partial(operands, dimension_numbers=shapes[2], recipe=SIX, weight=weight)
    found, given = jax.jit(lambda *arrays: (passes(dot, *arrays), made(*arrays)))(
        lhs, rhs, g
    )  # XLA compiles each slot once
    q = quantized(FORMATS, lhs, rhs, g, weight)
    assert set(given) == set(FORMATS)
    for name, values in given.items():
        same(values, q[name], name)
    at_l, at_r, out = letters(lhs.ndim, rhs.ndim, shapes[2])
    if weight == "rhs":
        pairs = [(q["fprop.lhs"], q["fprop.rhs"]), (q["dgrad.grad"], q["dgrad.rhs"]), (q["wgrad.lhs"], q["wgrad.grad"])]
    else:
        pairs = [(q["fprop.rhs"], q["fprop.lhs"]), (q["wgrad.grad"], q["wgrad.lhs"]), (q["dgrad.rhs"], q["dgrad.grad"])]
    subscripts = [f"{at_l},{at_r}->{out}", f"{out},{at_r}->{at_l}", f"{at_l},{out}->{at_r}"]
    for what, pair, value in zip(subscripts, pairs, found, strict=True):
        same(np.asarray(value) + np.zeros((), value.dtype), contracted(what, *pair, value.dtype), what)


@pytest.mark.parametrize("dims", DIMENSIONS)
def test_product_and_gradients_contract_the_six_operands(dims):
    agree(dims, "float32")


@pytest.mark.parametrize("dims", ["plain", "batch inside", "two contracted, crossed"])
def test_products_of_bfloat16_round_the_exact_sum_once(dims):
    agree(dims, "bfloat16")


@pytest.mark.parametrize("dims", ["plain", "batches crossed", "two contracted, crossed"])
def test_the_weight_may_be_the_left_operand(dims):
    agree(dims, "float32", "lhs")


@pytest.mark.parametrize("slot", FORMATS)
def test_products_without_a_slot_are_those_of_lax_and_a_slot_alone_leaves_the_other_operand(slot):
    lhs, rhs, g, passes = product(DIMENSIONS["batch inside"], 5, "float32")
    rng = np.random.default_rng(0)
    lhs, rhs, g = (rng.standard_normal(a.shape).astype(np.float32) for a in (lhs, rhs, g))
    found = passes(partial(dot_general, recipe=recipe_of({slot: FORMATS[slot]})), lhs, rhs, g)
    q = quantized({name: FORMATS[name] if name == slot else None for name in FORMATS}, lhs, rhs, g)
    highest = partial(lax.dot_general, precision="highest")
    dot = {name: highest if slot.startswith(name) else lax.dot_general for name in ("fprop", "dgrad", "wgrad")}
    same(found[0], passes(dot["fprop"], q["fprop.lhs"], q["fprop.rhs"], g)[0], "product")
    same(found[1], passes(dot["dgrad"], lhs, q["dgrad.rhs"], q["dgrad.grad"])[1], "gradient of lhs")
    same(found[2], passes(dot["wgrad"], q["wgrad.lhs"], rhs, q["wgrad.grad"])[2], "gradient of rhs")


def test_products_of_bfloat16_without_slots_are_those_of_lax():
    lhs, rhs, g, passes = product(PLAIN, 5, "bfloat16")
    lhs, rhs, g = (bfloat16(np.random.default_rng(i).standard_normal(a.shape)) for i, a in enumerate((lhs, rhs, g)))
    found = passes(partial(dot_general, recipe=recipe_of({"wgrad.grad": "e5m2"})), lhs, rhs, g)
    for ours, theirs in list(zip(found, passes(lax.dot_general, lhs, rhs, g), strict=True))[:2]:
        same(ours, theirs)


# ---- what a slot may say ---------------------------------------------------------------------------------------


def test_every_stochastic_slot_has_words_of_its_own():
    shapes = ((32, 32), (32, 32), PLAIN[2])
    x = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    recipe = recipe_of({name: Operand("e2m1", rounding="stochastic") for name in FORMATS})
    given = jax.jit(partial(operands, dimension_numbers=shapes[2], recipe=recipe, key=KEY))(x, x, x)
    for name, values in given.items():
        words = (SEED, *(zlib.crc32(part.encode()) for part in name.split(".")))
        same(values, nf.quantize(x, "e2m1", rounding="stochastic", seed=words), name)
    distinct = {np.asarray(v).tobytes() for v in given.values()}
    assert len(distinct) == 6, "two slots share their noise"


def test_pre_scale_source_and_accumulation():
    lhs, rhs, g, _ = product(PLAIN, 7, "float32")
    x = lhs * np.float32(1.01)
    slots = {
        "fprop.lhs": Operand("e2m1", scale="3/4"), "dgrad.rhs": Operand(None, source="forward"), "fprop.rhs": Operand("int4"),
        "wgrad.lhs": Operand("e3m2", source="bf16"),
    }  # fmt: skip
    recipe = recipe_of(slots)
    made = operands(x, rhs, g, PLAIN[2], recipe=recipe)
    same(made["fprop.lhs"], nf.quantize(x * np.float32(0.75), "e2m1"))
    same(made["dgrad.rhs"], made["fprop.rhs"])
    same(made["wgrad.lhs"], nf.quantize(bfloat16(x).astype(np.float32), "e3m2"))
    q = (np.asarray(made["fprop.lhs"], np.float64) @ np.asarray(made["fprop.rhs"], np.float64)).astype(np.float32)
    same(jax.jit(partial(dot_general, dimension_numbers=PLAIN[2], recipe=recipe))(x, rhs), q * np.float32(4 / 3))

    narrow = Recipe(Gemm("e2m1", "int4", accumulate="bfloat16"))
    expected = lax.dot_general(nf.quantize(lhs, "e2m1"), nf.quantize(rhs, "int4"), PLAIN[2], "highest", jnp.bfloat16)
    same(dot_general(lhs, rhs, PLAIN[2], recipe=narrow), np.asarray(expected).astype(np.float32))


@pytest.mark.parametrize(("dims", "signs"), [
    (((6, 16), (16, 7), PLAIN[2]), "none"),
    (((6, 4, 4), (4, 7, 4), (((1, 2), (2, 0)), ((), ()))), "random"),
    (((4, 6, 4), (4, 4, 7), (((2, 0), (0, 1)), ((), ()))), (1, -1, -1, -1) * 4),
], ids=["one", "crossed", "apart"])  # fmt: skip
def test_a_hadamard_transform_leaves_the_exact_product_alone(dims, signs):
    slot = Operand("float32", transform=Hadamard(16, signs))
    lhs, rhs, _, _ = product(dims, 9, "float32")
    at_l, at_r, out = letters(lhs.ndim, rhs.ndim, dims[2])
    dot = partial(dot_general, dimension_numbers=dims[2], recipe=Recipe(Gemm(slot, slot)), key=KEY)
    same(np.asarray(jax.jit(dot)(lhs, rhs)) + 0, contracted(f"{at_l},{at_r}->{out}", lhs, rhs, np.float32))


@pytest.mark.parametrize(("which", "contracting", "free"), [("lhs", (1, 2), (0,)), ("rhs", (2, 0), (1,))])
@pytest.mark.parametrize("name", ["mxfp4", "block(e4m3, scale=e8m0, size=2x8, rule=ceil)"])
def test_blocks_run_along_the_contracted_axes_taken_as_one(name, which, contracting, free):
    numbers = (((1, 2), (2, 0)), ((), ()))
    lhs, rhs, g, _ = product(((6, 8, 12), (12, 7, 8), numbers), 11, "float32")
    lhs, rhs = (a * np.exp2(np.random.default_rng(1).integers(-9, 9, a.shape)).astype(np.float32) for a in (lhs, rhs))
    slot = Operand(name, rounding="stochastic")
    made = partial(operands, dimension_numbers=numbers, recipe=Recipe(Gemm(slot, slot)), key=KEY)
    found = jax.jit(made)(lhs, rhs, g)[f"fprop.{which}"]
    x = lhs if which == "lhs" else rhs
    order = (*free, *contracting)
    bits = nf.random_bits(
        (SEED, zlib.crc32(b"fprop"), zlib.crc32(which.encode())), x.shape
    )  # of the operand as it was given

    def merged(a):
        return a.transpose(order).reshape(a.shape[free[0]], -1)

    axis = 1 if name == "mxfp4" else (0, 1)
    q = nf.quantize(merged(x), name, axis=axis, rounding="stochastic", random_bits=merged(bits))
    back = np.argsort(order)
    same(found, q.reshape([x.shape[i] for i in order]).transpose(back))


# ---- transformations -------------------------------------------------------------------------------------------

RANDOM = recipe_of({name: Operand("e2m1", rounding="stochastic") for name in ("fprop.lhs", "dgrad.grad", "wgrad.grad")})


def test_vmap_scan_and_checkpoint_are_the_loop():
    lhs, rhs, g = exact((3, 6, 10), 1), exact((3, 10, 7), 2), exact((3, 6, 7), 3)
    keys = jax.vmap(partial(jax.random.fold_in, KEY))(jnp.arange(3))

    def passes(lhs, rhs, g, key):
        y, back = jax.vjp(lambda a, b: dot_general(a, b, PLAIN[2], recipe=RANDOM, key=key), lhs, rhs)
        return y, *back(g)

    def checkpointed(lhs, rhs, g, key):
        dot = jax.checkpoint(lambda a, b: dot_general(a, b, PLAIN[2], recipe=RANDOM, key=key))
        y, back = jax.vjp(dot, lhs, rhs)
        return y, *back(g)

    jitted = jax.jit(passes)
    looped = [jitted(lhs[j], rhs[j], g[j], keys[j]) for j in range(3)]
    mapped = jax.jit(jax.vmap(passes))(lhs, rhs, g, keys)
    _, scanned = lax.scan(lambda carry, each: (carry, checkpointed(*each)), 0, (lhs, rhs, g, keys))
    for j in range(3):
        for k in range(3):
            same(np.asarray(mapped[k][j]) + 0, np.asarray(looped[j][k]) + 0, "vmap")
            same(np.asarray(scanned[k][j]) + 0, np.asarray(looped[j][k]) + 0, "scan of checkpoint")


def test_sharded_operands_give_the_product_of_one_device():
    lhs, rhs, g, passes = product(((16, 24), (24, 8), PLAIN[2]), 3, "float32")
    dot = partial(dot_general, recipe=RANDOM, key=KEY)
    expected = passes(dot, lhs, rhs, g)
    place = lambda a, *spec: jax.device_put(a, jax.sharding.NamedSharding(mesh(8), jax.sharding.PartitionSpec(*spec)))  # noqa: E731
    for ours, theirs in zip(passes(dot, place(lhs, "d"), place(rhs, None, "d"), place(g, "d")), expected, strict=True):
        same(np.asarray(ours) + 0, np.asarray(theirs) + 0)


def test_second_derivatives_are_those_of_the_straight_through_product():
    recipe = recipe_of({"fprop.lhs": "e2m1", "dgrad.rhs": "e2m1", "dgrad.grad": "e5m2"})
    x, w = exact((1, 2), 1), exact((2, 1), 2)
    f = lambda x, w: dot_general(x, w, PLAIN[2], recipe=recipe).sum() ** 2  # noqa: E731
    y = (nf.quantize(x, "e2m1") @ w).item()
    q = nf.quantize(w, "e2m1")
    dx = jax.grad(f)(x, w)
    same(dx, nf.quantize(np.float32(2 * y), "e5m2") * q.T)
    hessian = jax.jacrev(jax.grad(f))(x, w)  # d/dx of e5m2(2 y) q(w)ᵀ: 2 q(w) rounded in dgrad again, q(w)
    first = np.array([nf.quantize(np.float32(2) * q[i, 0], "e5m2") for i in range(2)], np.float32)
    same(np.asarray(hessian)[0, :, 0], first[:, None] * q.T)


# ---- convolutions ----------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": ((2, 4, 6, 5), (8, 4, 3, 3), {"window_strides": (1, 1), "padding": "SAME"}),
    "strides and dilations": (
        (2, 4, 6, 5), (8, 4, 3, 2),
        {"window_strides": (2, 1), "padding": [(1, 2), (0, 1)], "lhs_dilation": (1, 2), "rhs_dilation": (2, 1)},
    ),
    "groups": ((2, 4, 5, 5), (6, 2, 3, 3), {"window_strides": (1, 1), "padding": "VALID", "feature_group_count": 2}),
    "other layout": (
        (2, 5, 4), (3, 4, 6), {"window_strides": (1,), "padding": "SAME", "dimension_numbers": ("NWC", "WIO", "NWC")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in CONVOLUTIONS), ("groups", "bfloat16")])
def test_convolutions_take_the_six_operands(name, dtype):
    of_x, of_w, options = CONVOLUTIONS[name]
    conv = partial(lax.conv_general_dilated, **options)
    x, w = exact(of_x, 1, dtype), exact(of_w, 2, dtype)
    g = exact(jax.eval_shape(conv, x, w).shape, 3, dtype)

    @jax.jit
    def passes(x, w, g):
        y, back = jax.vjp(lambda x, w: conv_general_dilated(x, w, **options, recipe=SIX), x, w)
        return y, *back(g)

    found = passes(x, w, g)
    q = {name: v.astype(np.float32) for name, v in quantized(FORMATS, x, w, g).items()}
    expected = (
        conv(q["fprop.lhs"], q["fprop.rhs"]),
        jax.vjp(lambda x: conv(x, q["dgrad.rhs"]), q["fprop.lhs"])[1](q["dgrad.grad"])[0],
        jax.vjp(lambda w: conv(q["wgrad.lhs"], w), q["fprop.rhs"])[1](q["wgrad.grad"])[0],
    )
    for ours, theirs in zip(found, expected, strict=True):
        same(np.asarray(ours) + np.zeros((), dtype), np.asarray(theirs).astype(dtype) + np.zeros((), dtype))


# ---- use and misuse --------------------------------------------------------------------------------------------


def test_bind_takes_the_arguments_that_layers_give():
    lhs, rhs, _, _ = product(PLAIN, 3, "bfloat16")
    expected = dot_general(lhs, rhs, PLAIN[2], None, jnp.float32, recipe=SIX)
    same(bind(SIX)(lhs, rhs, PLAIN[2], precision=None, preferred_element_type=jnp.float32, out_sharding=None), expected)
    left = bind(SIX, weight="lhs")(lhs, rhs, PLAIN[2])
    same(left, dot_general(lhs, rhs, PLAIN[2], recipe=SIX, weight="lhs"))
    same(bind(RANDOM, key=KEY)(lhs, rhs, PLAIN[2]), dot_general(lhs, rhs, PLAIN[2], recipe=RANDOM, key=KEY))


def test_what_is_wrong_is_refused_with_advice():
    x = jnp.ones((4, 4))
    with pytest.raises(ValueError, match="mxfp8"):
        dot_general(x, x, PLAIN[2], recipe="mxfp9")
    for call in (partial(dot_general, x, x, PLAIN[2]), partial(conv_general_dilated, x[None], x[None], (1,), "SAME")):
        with pytest.raises(ValueError, match=r"without a key; its slot fprop\.lhs is random: give key="):
            call(recipe=RANDOM)
    with pytest.raises(ValueError, match="without a key"):
        bind(RANDOM)
    with pytest.raises(ValueError, match="threefry2x32"):
        dot_general(x, x, PLAIN[2], recipe=RANDOM, key=jax.random.key(0, impl="rbg"))
    with pytest.raises(TypeError, match="float16, bfloat16 and float32"):
        dot_general(x.astype(jnp.int8), x, PLAIN[2], recipe=SIX)
    with pytest.raises(ValueError, match="'lhs' or 'rhs'"):
        dot_general(x, x, PLAIN[2], recipe=SIX, weight="left")
    slot = Operand("e2m1", transform=Hadamard(16))
    with pytest.raises(ValueError, match="no multiple of 16"):
        dot_general(x, x, PLAIN[2], recipe=Recipe(Gemm(slot, slot)))
