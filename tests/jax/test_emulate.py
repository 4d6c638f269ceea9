"""emulate: every construct of JAX, paths, what is refused, keys, schedules, receipts."""

import gc
import json
import re
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from numfmt_jax import (
    Gemm,
    Operand,
    Policy,
    Recipe,
    UnmatchedError,
    UnreachableError,
    Value,
    dot_general,
    emulate,
    paths,
    quantize,
    receipt,
)
from numfmt_jax.random import fold

FP8 = Recipe(Gemm("e4m3fn", "e4m3fn"), Gemm("e5m2", "e4m3fn"), Gemm("e4m3fn", "e5m2"), name="fp8")
NOISY = Operand("e4m3fn", rounding="stochastic")
STOCHASTIC = Recipe(Gemm(NOISY, NOISY), name="noisy")
INTO = (((1,), (0,)), ((), ()))
x = jax.random.normal(jax.random.key(0), (4, 4))
w = jax.random.normal(jax.random.key(1), (4, 4))


def same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(np.array_equal(np.asarray(p), np.asarray(q)) for p, q in zip(a, b, strict=True))


def fp8(a, b, **options):
    return dot_general(a, b, INTO, preferred_element_type=jnp.float32, recipe=FP8, **options)


def loss(w, x):
    """jit, scan, remat, custom_jvp, cond, while: a product in each."""
    with jax.named_scope("mlp"):
        h = jax.jit(lambda a, b: a @ b)(x, w)
    h, _ = lax.scan(lambda c, _: (jnp.tanh(c @ w), None), h, None, length=2)
    h = jax.checkpoint(lambda h: jax.nn.relu(h @ w))(h)
    h = lax.cond(h.sum() > 0, lambda h: h @ w, lambda h: h + 1, h)
    return jnp.sum(h**2)


def loss_by_hand(w, x, dot=fp8):
    h = dot(x, w)
    for _ in range(2):
        h = jnp.tanh(dot(h, w))
    h = jax.nn.relu(dot(h, w))
    h = lax.cond(h.sum() > 0, lambda h: dot(h, w), lambda h: h + 1, h)
    return jnp.sum(h**2)


# ---- nothing changes where nothing is to change ----


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_gradient_under_no_recipe_is_the_original_gradient(transform):
    assert same(transform(jax.grad(emulate(loss, None)))(w, x), transform(jax.grad(loss))(w, x))
    assert same(transform(jax.grad(emulate(loss, Policy({"*": Recipe()}))))(w, x), transform(jax.grad(loss))(w, x))


def test_jaxpr_under_no_recipe_is_the_original_jaxpr():
    """Variables are named by their order, so equal text is an equal program."""

    def text(f):
        return re.sub(r"\bname=\S+", "", str(jax.make_jaxpr(f)(w, x)))

    assert text(emulate(loss, None)) == text(loss)


def test_names_of_equations_survive():
    assert paths(emulate(loss, None), w, x) == paths(loss, w, x)
    assert paths(emulate(loss, None), w, x).values == paths(loss, w, x).values


# ---- every construct ----


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_emulated_function_equals_the_one_written_by_hand(transform):
    value, gradient = transform(jax.value_and_grad(emulate(loss, FP8)))(w, x)
    expected, gradient_expected = transform(jax.value_and_grad(loss_by_hand))(w, x)
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # float32 sums, compiled apart
    np.testing.assert_allclose(gradient, gradient_expected, rtol=1e-4, atol=1e-4)  # float32 sums, compiled apart
    assert not np.allclose(value, loss(w, x))  # far apart: the rounding is there


CONSTRUCTS = {
    "plain": (lambda w, x: x @ w, lambda w, x: fp8(x, w)),
    "jit": (lambda w, x: jax.jit(jnp.matmul)(x, w), lambda w, x: fp8(x, w)),
    "scan": (
        lambda w, x: lax.scan(lambda c, y: (c @ w, c * y), x, jnp.arange(3.0), reverse=True),
        lambda w, x: (fp8(fp8(fp8(x, w), w), w), jnp.stack([fp8(fp8(x, w), w) * 0, fp8(x, w), x * 2])),
    ),
    "scan of weights": (
        lambda w, x: lax.scan(lambda c, v: (c @ v, None), x, jnp.stack([w, w + 1]))[0],
        lambda w, x: fp8(fp8(x, w), w + 1),
    ),
    "while": (
        lambda w, x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] @ w), (0, x))[1],
        lambda w, x: fp8(fp8(x, w), w),
    ),
    "product in a condition": (
        lambda w, x: lax.while_loop(lambda s: (s * 1e-3 @ w)[0, 0] == (x * 1e-3 @ w)[0, 0], lambda s: s + 1e-4, x),
        lambda w, x: lax.while_loop(lambda s: fp8(s * 1e-3, w)[0, 0] == fp8(x * 1e-3, w)[0, 0], lambda s: s + 1e-4, x),
    ),
    "fori_loop": (lambda w, x: lax.fori_loop(0, 2, lambda i, c: c @ w, x), lambda w, x: fp8(fp8(x, w), w)),
    "cond": (
        lambda w, x: lax.cond(x[0, 0] > 9, lambda: x, lambda: x @ w),
        lambda w, x: fp8(x, w),
    ),
    "switch": (
        lambda w, x: lax.switch(jnp.int32(1), [lambda: x, lambda: x @ w, lambda: x + 1]),
        lambda w, x: fp8(x, w),
    ),
    "checkpoint": (
        jax.checkpoint(lambda w, x: x @ w, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False),
        lambda w, x: fp8(x, w),
    ),
    "map": (lambda w, x: lax.map(lambda r: r[None] @ w, x), lambda w, x: fp8(x, w)[:, None]),
    "vmap": (lambda w, x: jax.vmap(lambda r: r @ w)(x), lambda w, x: fp8(x, w)),
    "einsum": (lambda w, x: jnp.einsum("ij,jk->ik", x, w), lambda w, x: fp8(x, w)),
    "nested": (
        lambda w, x: jax.jit(lambda: lax.scan(jax.checkpoint(lambda c, _: (c @ w, None)), x, None, length=2)[0])(),
        lambda w, x: fp8(fp8(x, w), w),
    ),
    "bfloat16": (
        lambda w, x: x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16),
        lambda w, x: dot_general(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), INTO, recipe=FP8),
    ),
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_products_are_replaced_inside(name):
    function, by_hand = CONSTRUCTS[name]
    got, expected = jax.jit(emulate(function, FP8))(w, x), jax.jit(by_hand)(w, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-5, atol=1e-5)  # float32 sums, compiled apart
    assert not same(got, jax.jit(function)(w, x))


def test_convolutions_are_products():
    image, kernel = jnp.ones((1, 5, 5, 3)) * 1.1, jnp.ones((3, 3, 3, 2)) * 0.3

    def conv(k, i):
        with jax.named_scope("conv1"):
            return lax.conv_general_dilated(i, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert paths(conv, kernel, image) == ("conv1/conv_general_dilated",)
    rounded = conv(quantize(kernel, "e4m3fn"), quantize(image, "e4m3fn"))
    np.testing.assert_allclose(emulate(conv, FP8)(kernel, image), rounded, rtol=1e-6)  # float32 sums, compiled apart


def test_integer_products_are_exact_and_left_alone():
    assert paths(lambda a: a @ a, jnp.ones((3, 3), jnp.int32)) == ()


def test_a_custom_jvp_without_products_is_bound_as_it_is():
    assert str(jax.make_jaxpr(emulate(jax.nn.relu, None))(x)) == str(jax.make_jaxpr(jax.nn.relu)(x))


def test_a_custom_jvp_with_a_product_gives_the_emulated_value_and_its_own_rule():
    @jax.custom_jvp
    def product(a, b):
        return a @ b

    product.defjvp(lambda primals, tangents: (primals[0] @ primals[1], 7 * tangents[0] + 0 * tangents[1]))
    for recipe, key in ((FP8, None), (STOCHASTIC, jax.random.key(3))):
        emulated = emulate(product, recipe, key=key)
        value, back = jax.vjp(jax.jit(emulated), x, w)
        assert same(value, emulated(x, w))
        assert not same(value, x @ w)
        assert same(back(jnp.ones((4, 4))), (jnp.full((4, 4), 7.0), jnp.zeros((4, 4))))
    assert same(emulate(product, FP8)(x, w), fp8(x, w))
    assert receipt(product, FP8, x, w).sites[0].notes == ("gradient by the function's own jvp rule",)


def custom_vjp_product():
    @jax.custom_vjp
    def product(a, b):
        return a @ b

    product.defvjp(lambda a, b: (a @ b, (a, b)), lambda r, g: (g * 7, g * 0))
    return product


def test_a_product_in_a_custom_vjp_is_refused_left_or_rewritten():
    product = custom_vjp_product()
    with pytest.raises(UnreachableError, match=r"^dot_general: .*custom_vjp='rewrite'"):
        emulate(product, FP8)(x, w)
    left = emulate(product, {"*": None})
    assert same(jax.grad(lambda a: left(a, w).sum())(x), jnp.full((4, 4), 7.0))
    for rewritten in (
        emulate(product, FP8, custom_vjp="rewrite"),
        emulate(product, Policy({"*": FP8}, custom_vjp="rewrite")),
    ):
        assert same(rewritten(x, w), fp8(x, w))
        assert same(jax.grad(lambda a, f=rewritten: f(a, w).sum())(x), jax.grad(lambda a: fp8(a, w).sum())(x))
    assert same(emulate(product, FP8, strict=False)(x, w), x @ w)
    assert "custom_vjp" in receipt(product, FP8, x, w).unreached["dot_general"]


def test_a_function_that_holds_gradients_is_refused():
    for gradient in (jax.grad(loss), jax.jit(jax.grad(loss)), lambda w, x: jax.vjp(loss, w, x)[1](1.0)):
        with pytest.raises(UnreachableError, match="inside grad"):
            emulate(gradient, FP8)(w, x)
    assert same(jax.jit(emulate(jax.grad(loss), None))(w, x), jax.jit(jax.grad(loss))(w, x))


@pytest.mark.parametrize("kind", ["pure_callback", "io_callback"])
def test_callbacks_are_refused_unless_they_are_left_alone(kind):
    callback = jax.pure_callback if kind == "pure_callback" else jax.experimental.io_callback

    def function(w, x):
        with jax.named_scope("host"):
            return callback(lambda a: np.asarray(a), x, x) @ w

    assert paths(function, w, x) == (f"host/{kind}", "host/dot_general")
    with pytest.raises(UnreachableError, match=rf"^host/{kind}: .*None"):
        emulate(function, FP8)(w, x)
    assert same(emulate(function, {f"*/{kind}": None, "*": FP8})(w, x), fp8(x, w))


def test_debug_prints_are_kept(capfd):
    def function(w, x):
        jax.debug.print("sum {}", x.sum())
        return x @ w

    jax.block_until_ready(jax.jit(emulate(function, FP8))(w, jnp.ones((4, 4))))
    jax.effects_barrier()
    assert "sum 16.0" in capfd.readouterr().out


def test_pallas_kernels_are_refused():
    pallas = pytest.importorskip("jax.experimental.pallas")

    def kernel(a, b, out):
        out[...] = a[...] @ b[...]

    shape = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    function = pallas.pallas_call(kernel, out_shape=shape, interpret=True)
    with pytest.raises(UnreachableError, match=r"pallas_call.*plain JAX"):
        emulate(function, FP8)(x, w)
    assert same(emulate(function, {"*": None})(x, w), function(x, w))


def test_products_in_a_body_that_nobody_can_rewrite_are_refused():
    def function(w, x):
        return lax.custom_linear_solve(lambda v: w @ v, x[0], lambda _, b: b)

    with pytest.raises(UnreachableError, match=r"custom_linear_solve.*None"):
        emulate(function, FP8)(w, x)
    assert same(emulate(function, {"*": None})(w, x), function(w, x))


# ---- transformations, arguments, results ----


def test_vmap_is_the_loop():
    xs = jax.random.normal(jax.random.key(3), (3, 4, 4))
    mapped = jax.vmap(emulate(lambda w, x: x @ w, FP8), (None, 0))(w, xs)
    assert same(mapped, jnp.stack([fp8(each, w) for each in xs]))


def test_vmap_over_keys_is_the_loop():
    def function(x, key):
        return emulate(lambda w, x: x @ w, STOCHASTIC, key=key)(w, x)

    keys = jax.random.split(jax.random.key(3), 3)
    xs = jnp.stack([x, x, x])
    mapped = jax.vmap(function)(xs, keys)
    assert same(mapped, jnp.stack([function(x, key) for key in keys]))
    assert not same(mapped[0], mapped[1])


def test_value_and_grad_with_aux_and_results_that_are_no_arrays():
    def function(w, x):
        y = x @ w
        return y.sum(), {"y": y, "none": None, "name": "mlp", "n": 3, "x": x}

    (value, aux), gradient = jax.value_and_grad(emulate(function, FP8), has_aux=True)(w, x)
    assert aux["none"] is None
    assert (aux["name"], aux["n"]) == ("mlp", 3)
    assert same(aux["y"], fp8(x, w))
    assert same(aux["x"], x)
    assert value.shape == ()
    assert gradient.shape == w.shape


def test_static_and_keyword_arguments():
    def function(w, x, *, activation, times=1, flag=False):
        for _ in range(times):
            x = x @ w
        return activation(x) if flag else x

    emulated = emulate(function, FP8)
    assert same(emulated(w, x, activation=jnp.tanh), fp8(x, w))
    assert same(emulated(w, x, activation=jnp.tanh, times=2, flag=True), jnp.tanh(fp8(fp8(x, w), w)))
    assert same(emulated(w, x, activation=jnp.tanh, times=True, flag=1), jnp.tanh(fp8(x, w)))
    assert same(emulated(x=x, w=w, activation=[]), fp8(x, w))


def test_arguments_without_hash_are_no_obstacle():
    class Odd:
        __hash__ = None

    assert same(emulate(lambda w, x, odd: x @ w, FP8)(w, x, Odd()), fp8(x, w))


def test_closed_over_tracers():
    def outer(w, x):
        return emulate(lambda x: (x @ w).sum(), FP8)(x)

    def by_hand(w, x):
        return fp8(x, w).sum()

    assert same(jax.grad(outer)(w, x), jax.grad(by_hand)(w, x))
    assert same(jax.jit(jax.grad(outer))(w, x), jax.jit(jax.grad(by_hand))(w, x))
    stacked = jnp.stack([w, w + 1])
    mapped = jax.vmap(jax.grad(outer), (0, None))(stacked, x)
    np.testing.assert_allclose(mapped[1], jax.grad(by_hand)(w + 1, x), rtol=1e-6)  # float32 sums, compiled apart


def test_one_function_in_two_traces():
    """The cache holds no tracer of a trace that has ended."""
    held = {}

    def function(x):
        return x @ held["w"]

    def outer(v, x):
        held["w"] = v
        emulated = emulate(lambda x: function(x), FP8)
        return emulated(x).sum() + emulated(x + 1).sum()

    first = jax.grad(outer)(w, x)
    assert same(jax.grad(outer)(w, x), first)
    assert same(
        jax.jit(jax.grad(outer))(w, x), jax.jit(jax.grad(lambda v, x: fp8(x, v).sum() + fp8(x + 1, v).sum()))(w, x)
    )


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_donated_buffers():
    def step(w, x):
        return w - 0.1 * jax.grad(emulate(loss, FP8))(w, x)

    expected = jax.jit(step)(w, x)
    donated = jnp.array(w)
    assert same(jax.jit(step, donate_argnums=0)(donated, x), expected)
    assert donated.is_deleted()
    inner = jax.jit(lambda w, x: w + x @ w, donate_argnums=0)
    donated = jnp.array(w)
    assert same(emulate(inner, FP8)(donated, x), jax.jit(lambda w, x: w + fp8(x, w))(w, x))
    assert donated.is_deleted()


def test_a_second_call_does_not_trace_again():
    calls = []

    def function(w, x, n):
        calls.append(n)
        return (x @ w).sum()

    emulated = emulate(function, FP8)
    for _ in range(3):
        emulated(w, x, 1)
        emulate(function, FP8)(w, x, 1)
        emulate(function, STOCHASTIC, key=jax.random.key(1))(w, x, 1)
    assert calls == [1]
    emulated(w, x, 2)
    emulated(w, x[:2], 2)
    assert calls == [1, 2, 2]
    step = jax.jit(lambda w, x, key: jax.grad(emulate(function, STOCHASTIC, key=key))(w, x, 1))
    before = len(calls)
    for i in range(3):
        step(w, x, jax.random.key(i))
    assert len(calls) <= before + 1


def test_the_cache_does_not_keep_a_function_alive():
    def function(w, x):
        return x @ w

    emulate(function, FP8)(w, x)
    alive = weakref.ref(function)
    del function
    gc.collect()
    assert alive() is None


def test_jax_settings_are_part_of_the_trace():
    emulated = emulate(lambda w, x: x @ w, None)
    emulated(w, x)
    with jax.default_matmul_precision("bfloat16"):
        assert "BF16" in str(jax.make_jaxpr(emulated)(w, x)) or "precision" in str(jax.make_jaxpr(emulated)(w, x))


def test_second_derivatives_pass():
    """Of (1·w·1)², with every number on the grid: 2 · 16 · 16."""
    ones = jnp.ones((4, 4))
    emulated = emulate(lambda w: (ones @ w).sum() ** 2, FP8)
    assert same(jax.grad(lambda w: jax.grad(emulated)(w).sum())(ones), jnp.full((4, 4), 512.0))


def test_nothing_changes_under_disable_jit():
    with jax.disable_jit():
        assert same(emulate(loss, None)(w, x), loss(w, x))
        assert paths(net, [w, w], x)[0] == "net/block0/dot_general"


# ---- paths and strictness ----


def net(params, x):
    with jax.named_scope("net"):
        for i, v in enumerate(params):
            with jax.named_scope(f"block{i}"):
                x = jax.checkpoint(jax.jit(lambda v, x: jnp.tanh(x @ v) @ v))(v, x)
    return x @ params[0]


def test_paths_compose_through_every_body_and_are_unique():
    assert paths(net, [w, w], x) == (
        "net/block0/dot_general",
        "net/block0/dot_general_1",
        "net/block1/dot_general",
        "net/block1/dot_general_1",
        "dot_general",
    )
    assert "net/block0/tanh" in paths(net, [w, w], x).values
    every = paths(loss, w, x).values
    assert len(every) == len(set(every))


def test_paths_do_not_depend_on_transformations():
    plain = paths(net, [w, w], x)
    assert paths(jax.jit(net), [w, w], x) == plain
    assert paths(jax.vmap(net, (None, 0)), [w, w], x[None]) == plain
    assert paths(net, [jax.ShapeDtypeStruct((4, 4), "float32")] * 2, x) == plain


def test_one_jitted_function_called_twice_has_two_sites():
    layer = jax.jit(lambda w, x: x @ w)
    assert paths(lambda w, x: layer(w, layer(w, x)), w, x) == ("dot_general", "dot_general_1")


def test_a_typo_in_a_pattern_lists_the_paths():
    with pytest.raises(UnmatchedError, match=r"'net/blok0/\*' matches no product; the paths are net/block0") as caught:
        emulate(net, {"net/blok0/*": FP8, "*": None})([w, w], x)
    assert caught.value.paths == paths(net, [w, w], x)
    with pytest.raises(UnmatchedError, match="matches no result that can be rounded"):
        emulate(net, Policy({"*": None}, values={"*/tan": "bf16"}))([w, w], x)


def test_a_product_without_pattern_is_an_error():
    with pytest.raises(UnmatchedError, match=r"no pattern matches dot_general; .*'\*': None"):
        emulate(net, {"net/*": FP8})([w, w], x)


def test_a_function_without_products_is_an_error_under_a_recipe():
    with pytest.raises(UnmatchedError, match="the paths are none"):
        emulate(jnp.tanh, FP8)(x)
    assert same(emulate(jnp.tanh, None)(x), jnp.tanh(x))


def test_strict_false_raises_nothing_and_the_receipt_shows_it():
    policy = Policy({"net/blok0/*": None, "net/block1/*": FP8}, values={"*/cosh": "bf16"})
    emulate(net, policy, strict=False)([w, w], x)
    shown = receipt(net, policy, [w, w], x)
    assert shown.unmatched_patterns == ("net/blok0/*", "*/cosh")
    assert shown.unmatched_sites == ("net/block0/dot_general", "net/block0/dot_general_1", "dot_general")


def test_errors_at_a_site_say_which():
    with jax.enable_x64(True), pytest.raises(TypeError) as caught:
        emulate(net, FP8)([np.ones((4, 4))], np.ones((4, 4)))
    assert "net/block0/dot_general" in caught.value.__notes__[0]


# ---- weights ----


def test_the_weight_may_be_the_left_operand():
    tiles = Recipe(Gemm("e4m3fn", "e5m2"), Gemm("e5m2", "e4m3fn"), Gemm("e4m3fn", "e5m2"), name="sides")

    def function(params, x):
        return params["w"].T.reshape(4, 4) @ x + x @ params["w"]

    shown = receipt(function, tiles, {"w": w}, x)
    assert [site.weight for site in shown.sites] == ["lhs", "rhs"]
    left = dot_general(w.T, x, INTO, None, jnp.float32, recipe=tiles, weight="lhs")
    right = dot_general(x, w, INTO, None, jnp.float32, recipe=tiles)
    np.testing.assert_allclose(emulate(function, tiles)({"w": w}, x), left + right, rtol=1e-6)  # float32 sums, compiled apart
    assert [s.weight for s in emulate(function, tiles, weights=1).receipt({"w": w}, x).sites] == ["rhs", "lhs"]
    assert [s.weight for s in emulate(function, tiles, weights="x").receipt({"w": w}, x=x).sites] == ["rhs", "lhs"]
    assert [s.weight for s in emulate(function, tiles).receipt(x=x, params={"w": w}).sites] == ["lhs", "rhs"]


def test_weights_pass_through_loops_branches_and_remat():
    def function(w, x):
        h, _ = lax.scan(lambda c, v: (v @ c, None), x, jnp.stack([w, w]))
        h = lax.cond(h.sum() > 0, lambda v, h: v @ h, lambda v, h: v.T @ h, w, h)
        h = lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1], s[1] @ s[2]), (0, w, h))[2]
        h = jax.checkpoint(jax.jit(lambda v, h: v[:4] @ h))(w, h)
        return jnp.tanh(w) @ h

    assert [site.weight for site in receipt(function, FP8, w, x).sites] == ["lhs"] * 5 + ["rhs"]


def test_what_a_loop_changes_is_no_weight():
    def function(w, x):
        return lax.scan(lambda c, _: (jnp.tanh(c @ x), None), w, None, length=2)[0]

    assert receipt(function, FP8, w, x).sites[0].weight == "rhs"


def test_closed_over_arrays_are_weights():
    assert receipt(lambda x: w @ x, FP8, x).sites[0].weight == "rhs"  # both are
    assert emulate(lambda x: w @ x, FP8, weights=()).receipt(x).sites[0].weight == "lhs"


# ---- keys ----


def test_a_recipe_that_draws_needs_a_key():
    with pytest.raises(ValueError, match=r"noisy at dot_general draws .*key="):
        emulate(lambda w, x: x @ w, STOCHASTIC)(w, x)
    with pytest.raises(ValueError, match="key="):
        emulate(
            lambda w, x: x @ w, Policy({"*": None}, values={"dot_general": Value("e4m3fn", rounding="stochastic")})
        )(w, x)


def test_the_key_of_a_site_is_that_of_its_path():
    key = jax.random.key(5)

    def function(w, x):
        with jax.named_scope("fc1"):
            return x @ w

    expected = dot_general(x, w, INTO, None, jnp.float32, recipe=STOCHASTIC, key=fold(key, "fc1/dot_general"))
    assert same(emulate(function, STOCHASTIC, key=key)(w, x), expected)
    assert same(jax.jit(lambda key: emulate(function, STOCHASTIC, key=key)(w, x))(key), expected)
    assert not same(emulate(function, STOCHASTIC, key=jax.random.key(6))(w, x), expected)


LOOPS = {
    "scan": lambda w, x: lax.scan(lambda c, _: (c, x @ w), 0.0, None, length=4)[1],
    "nested scan": lambda w, x: lax.scan(
        lambda c, _: (c, lax.scan(lambda d, _: (d, x @ w), 0.0, None, length=2)[1]), 0.0, None, length=2
    )[1].reshape(4, 4, 4),
    "while": lambda w, x: lax.while_loop(
        lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1].at[s[0]].set(x @ w)), (0, jnp.zeros((4, 4, 4)))
    )[1],
    "layers": lambda w, x: jnp.stack([x @ w for _ in range(4)]),
    "jitted layers": lambda w, x: jnp.stack([jax.jit(jnp.matmul)(x, w) for _ in range(4)]),
    "remat in scan": lambda w, x: lax.scan(jax.checkpoint(lambda c, _: (c, x @ w)), 0.0, None, length=4)[1],
}


@pytest.mark.parametrize("name", LOOPS)
def test_no_two_layers_or_iterations_share_noise(name):
    out = np.asarray(jax.jit(emulate(LOOPS[name], STOCHASTIC, key=jax.random.key(5)))(w, x))
    assert len({each.tobytes() for each in out}) == 4


def test_scan_is_the_loop_with_the_same_keys():
    key = jax.random.key(5)
    out = emulate(LOOPS["scan"], STOCHASTIC, key=key)(w, x)
    for i in range(4):
        own = fold(fold(key, i), "dot_general")
        assert same(out[i], dot_general(x, w, INTO, None, jnp.float32, recipe=STOCHASTIC, key=own))


def test_gradients_of_a_noisy_model_repeat_under_remat():
    def plain(w, x):
        return jnp.tanh(x @ w).sum()

    first = jax.jit(jax.grad(emulate(plain, STOCHASTIC, key=jax.random.key(5))))(w, x)
    again = jax.jit(jax.grad(emulate(jax.checkpoint(plain), STOCHASTIC, key=jax.random.key(5))))(w, x)
    np.testing.assert_allclose(first, again, rtol=1e-6)  # float32 sums, compiled apart


# ---- schedules ----


def test_select_chooses_a_policy_without_compiling_again():
    compiled = []

    @jax.jit
    def step(i, w, x):
        compiled.append(1)
        return jax.value_and_grad(emulate(loss, [None, FP8, Policy({"mlp/*": FP8, "*": None})], select=i))(w, x)

    for i, policy in enumerate([None, FP8, Policy({"mlp/*": FP8, "*": None})]):
        expected = jax.jit(jax.value_and_grad(emulate(loss, policy)))(w, x)
        for a, b in zip(jax.tree.leaves(step(i, w, x)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # float32 sums, compiled apart
    assert same(step(99, w, x), step(2, w, x))
    assert same(step(-1, w, x), step(0, w, x))
    assert len(compiled) == 1


def test_sites_on_which_policies_agree_have_no_switch():
    text = str(jax.make_jaxpr(emulate(lambda w, x: x @ w, [FP8, FP8], select=0))(w, x))
    assert "cond[" not in text


def test_select_and_several_policies_go_together():
    with pytest.raises(ValueError, match="select"):
        emulate(loss, [FP8, None])
    with pytest.raises(ValueError, match="select"):
        emulate(loss, FP8, select=0)


# ---- values ----


def block(w, x):
    with jax.named_scope("ln"):
        x = x * w[0]
    with jax.named_scope("attention"):
        x = jax.nn.softmax(x @ w)
    with jax.named_scope("mlp"):
        return jax.nn.silu(x)


def test_results_outside_products_are_rounded():
    policy = Policy({"*": None}, values={"ln/mul": "bf16", "*/exp": "e4m3fn", "*/silu": "mxfp8_e4m3", "*": None})

    def by_hand(w, x):
        x = quantize(x * w[0], "bf16")
        logits = x @ w
        e = quantize(jnp.exp(logits - lax.stop_gradient(logits.max(-1, keepdims=True))), "e4m3fn")
        return quantize(jax.nn.silu(e / e.sum(-1, keepdims=True)), "mxfp8_e4m3")

    got = jax.jit(emulate(block, policy))(w, x)
    np.testing.assert_array_equal(got, jax.jit(by_hand)(w, x))
    gradient = jax.jit(jax.grad(lambda w: emulate(block, policy)(w, x).sum()))(w)
    expected = jax.jit(jax.grad(lambda w: by_hand(w, x).sum()))(w)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)  # float32 sums, compiled apart
    shown = receipt(block, policy, w, x)
    assert [site.path for site in shown.values] == ["ln/mul", "attention/exp", "mlp/silu"]


def test_a_result_that_its_dtype_cannot_hold_is_an_error():
    with pytest.raises(ValueError, match="bfloat16"):
        emulate(jnp.tanh, Policy(values={"tanh": "float16"}))(x.astype(jnp.bfloat16))


def test_products_may_have_a_recipe_and_a_rounded_result():
    both = emulate(lambda w, x: x @ w, Policy({"*": FP8}, values={"dot_general": "bf16"}))
    assert same(both(w, x), quantize(fp8(x, w), "bf16"))


def test_noise_of_rounded_results_differs_between_sites():
    policy = Policy(values={"*": Value("e4m3fn", rounding="stochastic")})
    out = emulate(lambda x: (jnp.tanh(x), jnp.tanh(x)), policy, key=jax.random.key(2))(x)
    assert not same(out[0], out[1])


# ---- receipts ----


def test_receipt_lists_every_site():
    def function(w, x):
        h, _ = lax.scan(
            lambda c, _: (lax.scan(lambda d, _: (d @ w, None), c, None, length=3)[0], None), x, None, length=2
        )
        h = lax.while_loop(lambda s: s.sum() < 3, lambda s: lax.map(lambda r: r[None] @ w, s)[:, 0], h)
        return lax.cond(h.sum() > 0, lambda: h @ w, lambda: h)

    shapes = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    shown = receipt(function, {"dot_general": FP8, "*": None}, shapes, shapes)
    assert [site.times for site in shown.sites] == [6, "dynamic", 1]
    assert shown.sites[2].notes == ("branch 2 of 2",)
    site = shown["dot_general"]
    assert (site.lhs, site.rhs, site.out) == ("float32[4,4]",) * 3
    assert (site.recipe, site.pattern, site.dimension_numbers) == ("fp8", "dot_general", str(INTO))
    assert site.slots["wgrad.grad"].format == "float8_e5m2"
    assert site.slots["wgrad.grad"].rounding == "ties_to_even"
    assert shown["dot_general_1"].recipe is None
    assert json.loads(shown.to_json()) == shown.as_dict()
    text = str(shown)
    assert "3 products, 1 with a recipe" in text
    assert "wgrad.grad" in text


def test_receipt_of_block_formats_has_rule_and_axis():
    big = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    slot = receipt(lambda w, x: x @ w, "mxfp8", big, big).sites[0].slots["fprop.rhs"]
    assert (slot.block, slot.axis) == ("32", "contracting")
    assert slot.rule


def test_receipts_of_several_policies():
    receipts = emulate(loss, [None, FP8], select=0).receipt(w, x)
    assert [shown.sites[0].recipe for shown in receipts] == [None, "fp8"]


# ---- several devices ----


def test_shard_map_is_rewritten_and_shards_draw_their_own_noise():
    devices = min(2, jax.device_count())
    mesh = jax.make_mesh((devices,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])

    def function(w, x):
        return jax.shard_map(lambda w, x: x @ w, mesh=mesh, in_specs=(P(), P("d")), out_specs=P("d"))(w, x)

    assert same(jax.jit(emulate(function, FP8))(w, x), jax.jit(fp8)(x, w))
    gradient = jax.jit(jax.grad(lambda w: emulate(function, FP8)(w, x).sum()))(w)
    np.testing.assert_allclose(gradient, jax.grad(lambda w: fp8(x, w).sum())(w), rtol=1e-5, atol=1e-5)  # float32 sums, compiled apart
    equal_rows = jnp.tile(x[:1], (4, 1))
    out = jax.jit(emulate(function, STOCHASTIC, key=jax.random.key(2)))(w, equal_rows)
    assert not same(out[:2], out[2:])
    assert "shard" in receipt(function, FP8, w, x).sites[0].notes[0]


def test_sharded_arguments_under_jit():
    if jax.device_count() < 2:
        pytest.skip("one device; XLA_FLAGS=--xla_force_host_platform_device_count=8 gives more")
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    sharded = jax.device_put(x, jax.NamedSharding(mesh, P("d")))
    step = jax.jit(jax.value_and_grad(emulate(loss, FP8)))
    for a, b in zip(jax.tree.leaves(step(w, sharded)), jax.tree.leaves(step(w, x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # float32 sums, compiled apart


def test_collectives_inside_vmap():
    def function(w, x):
        return lax.psum(x @ w, "i")

    got = jax.vmap(emulate(function, FP8), (None, 0), axis_name="i")(w, jnp.stack([x, x + 1]))
    np.testing.assert_allclose(got[0], fp8(x, w) + fp8(x + 1, w), rtol=1e-6)  # float32 sums, compiled apart


# ---- the canary ----


def test_jax_writes_programs_down_as_emulate_expects():
    """What moved, when JAX changes: names of primitives, of parameters, of parts of name stacks."""
    expected = {
        "jit": {"jaxpr", "name", "in_shardings", "out_shardings", "donated_invars", "keep_unused", "inline"},
        "scan": {"jaxpr", "length", "reverse", "unroll"},
        "while": {"cond_jaxpr", "body_jaxpr", "cond_nconsts", "body_nconsts"},
        "cond": {"branches"},
        "remat2": {"jaxpr", "prevent_cse", "policy"},
        "custom_jvp_call": {"call_jaxpr", "jvp_jaxpr_fun"},
        "custom_vjp_call": {"call_jaxpr", "bwd"},
        "shard_map": {"jaxpr", "mesh", "in_specs", "out_specs", "check_vma"},
        "dot_general": {"dimension_numbers", "precision", "preferred_element_type", "out_sharding"},
    }
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    makers = {
        "jit": jax.jit(jnp.sin),
        "scan": lambda x: lax.scan(lambda c, _: (c, c), x, None, length=2),
        "while": lambda x: lax.while_loop(lambda c: c.sum() < 1, lambda c: c + 1, x),
        "cond": lambda x: lax.cond(True, jnp.sin, jnp.cos, x),
        "remat2": jax.checkpoint(jnp.sin),
        "custom_jvp_call": jax.nn.relu,
        "custom_vjp_call": lambda x: custom_vjp_product()(x, x),
        "shard_map": jax.shard_map(jnp.sin, mesh=mesh, in_specs=P("d"), out_specs=P("d")),
        "dot_general": lambda x: x @ x,
    }
    for name, maker in makers.items():
        eqns = {str(eqn.primitive): eqn for eqn in jax.make_jaxpr(maker)(x).jaxpr.eqns}
        assert name in eqns, f"jax {jax.__version__} writes {sorted(eqns)} where {name} was"
        missing = expected[name] - set(eqns[name].params)
        assert not missing, f"jax {jax.__version__}: {name} lost {sorted(missing)}; it has {sorted(eqns[name].params)}"

    def scoped(x):
        with jax.named_scope("outer"):
            return jax.vmap(jnp.sin)(x)

    (eqn,) = jax.make_jaxpr(scoped)(x).jaxpr.eqns
    assert [type(part).__name__ for part in eqn.source_info.name_stack.stack] == ["Scope", "Transform"]
    back = jax.make_jaxpr(jax.grad(lambda x: (x @ x).sum()))(x).jaxpr.eqns[-1]
    assert any((type(p).__name__, p.name) == ("Transform", "transpose") for p in back.source_info.name_stack.stack)
    assert isinstance(eqn.primitive.get_bind_params(eqn.params), (dict, tuple))


def test_partial_functions_and_methods_are_functions():
    class Model:
        def __call__(self, w, x):
            return x @ w

        def method(self, w, x):
            return x @ w

    for function in (Model(), Model().method, partial(lambda w, x: x @ w)):
        assert same(emulate(function, FP8)(w, x), fp8(x, w))
    with pytest.raises(TypeError, match="takes a function"):
        emulate(3, FP8)
