"""Models of frameworks, unchanged: flax linen, flax nnx, equinox, haiku, parameters in dictionaries with optax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numfmt_jax import Gemm, Operand, Recipe, UnmatchedError, dot_general, emulate, paths, quantize, receipt

FP8 = Recipe(Gemm("e4m3fn", "e4m3fn"), Gemm("e5m2", "e4m3fn"), Gemm("e4m3fn", "e5m2"), name="fp8")
NOISY = Operand("e4m3fn", rounding="stochastic")
x = jax.random.normal(jax.random.key(0), (4, 8))


def same(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


# ---- parameters in dictionaries ----


def test_a_training_step_with_a_key_of_its_own():
    optax = pytest.importorskip("optax", reason="optax is not installed")
    params = {"up": jnp.ones((8, 16)) * 0.1, "down": jnp.ones((16, 1)) * 0.1}
    recipe = Recipe(FP8.fprop, Gemm(NOISY, "e4m3fn"), Gemm("e4m3fn", NOISY), name="noisy")
    traced = []

    def loss(params, x):
        traced.append(1)
        with jax.named_scope("up"):
            h = jax.nn.relu(x @ params["up"])
        with jax.named_scope("down"):
            return jnp.mean((h @ params["down"] - 1) ** 2)

    optimizer = optax.sgd(0.1)

    @jax.jit
    def step(params, state, x, key):
        value, gradients = jax.value_and_grad(emulate(loss, {"up/*": recipe, "down/*": None}, key=key))(params, x)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for i in range(5):
        params, state, value = step(params, state, x, jax.random.fold_in(jax.random.key(1), i))
        losses.append(float(value))
    assert losses[-1] < losses[0]
    assert len(traced) == 1


def test_haiku():
    haiku = pytest.importorskip("haiku", reason="haiku is not installed")

    def net(x):
        return haiku.Linear(3, name="head")(jax.nn.relu(haiku.Linear(16, name="up")(x)))

    model = haiku.without_apply_rng(haiku.transform(net))
    params = model.init(jax.random.key(0), x)
    listed = paths(model.apply, params, x)
    assert len(listed) == 2
    emulated = jax.jit(emulate(model.apply, FP8))
    by_hand = jax.nn.relu(_dense(x, params["up"])), params["head"]
    np.testing.assert_allclose(emulated(params, x), _dense(*by_hand), rtol=1e-5)  # float32 sums, compiled apart


def _dense(x, layer):
    product = dot_general(x, layer["w"], (((1,), (0,)), ((), ())), recipe=FP8)
    return product + layer["b"]


# ---- flax linen ----


def test_linen_names_its_layers():
    nn = pytest.importorskip("flax.linen", reason="flax is not installed")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm(name="ln")(x)
            x = x + nn.MultiHeadDotProductAttention(2, name="attention")(x)
            return nn.Dense(8, name="down")(nn.gelu(nn.Dense(16, name="up")(x)))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i in range(2):
                x = nn.remat(Block)(name=f"block{i}")(x)
            return nn.Dense(3, name="head")(x)

    model = Net()
    params = model.init(jax.random.key(0), x[None])
    listed = paths(model.apply, params, x[None])
    assert len(listed) == 2 * 8 + 1
    assert sum("up" in path for path in listed) == 2
    assert listed[-1] == "Net/head/dot_general"

    def loss(params, x):
        return jnp.sum(model.apply(params, x) ** 2)

    policy = {"*/up/*": FP8, "*/down/*": FP8, "*": None}
    plain = jax.jit(jax.grad(loss))(params, x[None])
    assert not same(jax.jit(jax.grad(emulate(loss, policy)))(params, x[None]), plain)
    assert same(jax.jit(jax.grad(emulate(loss, None)))(params, x[None]), plain)
    shown = receipt(loss, policy, params, x[None])
    assert sum(site.recipe == "fp8" for site in shown.sites) == 4
    assert {site.weight for site in shown.sites} == {"rhs"}
    with pytest.raises(UnmatchedError, match="the paths are Net/block0/up"):
        emulate(loss, {"Net/block0/upp/*": FP8, "*": None})(params, x[None])


def test_linen_scan_over_layers():
    nn = pytest.importorskip("flax.linen", reason="flax is not installed")

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.tanh(nn.Dense(8, name="fc")(x)), None

    model = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
    params = model.init(jax.random.key(0), x, None)
    (site,) = receipt(model.apply, FP8, params, x, None).sites
    assert site.times == 3
    assert site.path.endswith("fc/dot_general")
    assert site.weight == "rhs"
    emulated = emulate(lambda params, x: model.apply(params, x, None)[0], FP8)(params, x)
    assert emulated.shape == x.shape


# ---- flax nnx ----


def nnx_model():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.fc1 = nnx.Linear(8, 16, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.fc2 = nnx.Linear(16, 8, rngs=rngs)

        def __call__(self, x):
            return self.fc2(self.norm(self.drop(nnx.relu(self.fc1(x)))))

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([Block(rngs) for _ in range(2)])
            self.head = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    return nnx, Net(nnx.Rngs(0))


def nnx_loss(model, x):
    return jnp.mean(model(x) ** 2)


def test_nnx_gradients_and_what_a_call_changes():
    nnx, model = nnx_model()
    _, reference = nnx_model()
    for _ in range(2):
        value, gradients = nnx.jit(nnx.value_and_grad(emulate(nnx_loss, None)))(model, x)
        expected, gradients_expected = nnx.jit(nnx.value_and_grad(nnx_loss))(reference, x)
        np.testing.assert_allclose(value, expected, rtol=1e-5)  # float32 sums, compiled apart
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradients_expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # float32 sums, compiled apart
    counts = [m.layers[0].drop.rngs.count[...] for m in (model, reference)]
    assert counts[0] == counts[1] > 0
    np.testing.assert_allclose(model.layers[1].norm.mean[...], reference.layers[1].norm.mean[...], rtol=1e-5)  # float32 sums, compiled apart


def test_nnx_layers_get_names():
    nnx, model = nnx_model()
    assert paths(nnx_loss, model, x) == ("dot_general", *(f"dot_general_{i}" for i in range(1, 5)))
    from numfmt_jax.flax import named

    before = jax.tree.map(np.asarray, jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert named(model) is model
    assert paths(nnx_loss, model, x) == (
        "layers/0/fc1/dot_general",
        "layers/0/fc2/dot_general",
        "layers/1/fc1/dot_general",
        "layers/1/fc2/dot_general",
        "head/dot_general",
    )
    assert same(before, jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert isinstance(model.head, nnx.Linear)
    named(model)
    assert paths(nnx_loss, model, x)[0] == "layers/0/fc1/dot_general"


def test_nnx_training_step():
    optax = pytest.importorskip("optax", reason="optax is not installed")
    nnx, model = nnx_model()
    from numfmt_jax.flax import named

    named(model)
    optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        loss = emulate(nnx_loss, {"layers/*": FP8, "head/*": None})
        value, gradients = nnx.value_and_grad(loss)(model, x)
        optimizer.update(model, gradients)
        return value

    values = [float(step(model, optimizer, x)) for _ in range(8)]
    assert min(values[4:]) < values[0]
    graph, state = nnx.split(model)

    def functional(state, x):
        return nnx.merge(graph, state)(x)

    assert [site.weight for site in receipt(functional, FP8, state, x).sites] == ["rhs"] * 5
    assert paths(functional, state, x)[0] == "layers/0/fc1/dot_general"


def test_nnx_objects_that_share_variables_share_them_inside():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
    first = nnx.Linear(8, 8, use_bias=False, rngs=nnx.Rngs(0))

    class Counter(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.int32(0))

    counter = Counter()

    def function(pair, counters, x):
        counters[0].count[...] += 1
        counters[1].count[...] += 1
        return pair[1](pair[0](x)) * counters[0].count[...]

    out = emulate(function, None)((first, first), [counter, counter], x)
    assert counter.count[...] == 2
    np.testing.assert_allclose(out, first(first(x)) * 2, rtol=1e-6)  # float32 sums, compiled apart


# ---- equinox ----


def test_equinox_weights_are_left_operands():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    layer = eqx.nn.Linear(8, 3, key=jax.random.key(0))

    def apply(layer, x):
        return jax.vmap(layer)(x)

    (site,) = receipt(apply, FP8, layer, x).sites
    assert site.path == "eqx.nn.Linear/dot_general"
    sided = Recipe(Gemm("e4m3fn", "e5m2"), name="sided")
    expected = quantize(x, "e4m3fn") @ quantize(layer.weight, "e5m2", overflow="saturate").T + layer.bias
    np.testing.assert_allclose(emulate(apply, sided)(layer, x), expected, rtol=1e-6)  # float32 sums, compiled apart


def test_equinox_layers_get_names():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    from numfmt_jax.equinox import named

    class Net(eqx.Module):
        mlp: eqx.nn.MLP
        heads: list
        scale: float = 2.0

        def __call__(self, x):
            return [head(self.mlp(x)) * self.scale for head in self.heads]

    keys = jax.random.split(jax.random.key(0), 3)
    net = Net(eqx.nn.MLP(8, 8, 16, 1, key=keys[0]), [eqx.nn.Linear(8, 2, key=k) for k in keys[1:]])

    def loss(net, x):
        return sum(jnp.sum(y) for y in net(x))

    model = named(net)
    listed = paths(loss, model, x[0])
    assert [path.replace("eqx.nn.", "") for path in listed] == [
        "mlp/MLP/layers/0/Linear/dot_general",
        "mlp/MLP/layers/1/Linear/dot_general",
        "heads/0/Linear/dot_general",
        "mlp/MLP/layers/0/Linear/dot_general_1",
        "mlp/MLP/layers/1/Linear/dot_general_1",
        "heads/1/Linear/dot_general",
    ]
    assert same(jax.tree.leaves(eqx.filter(model, eqx.is_array)), jax.tree.leaves(eqx.filter(net, eqx.is_array)))
    assert isinstance(model.mlp, eqx.nn.MLP)
    assert [s.path for s in receipt(loss, FP8, named(model), x[0]).sites] == list(listed)

    policy = {"mlp/*": FP8, "heads/*": None}
    gradients = eqx.filter_jit(eqx.filter_grad(emulate(loss, policy)))(model, x[0])
    assert gradients.mlp.layers[0].weight.shape == (16, 8)
    for site in receipt(loss, policy, model, x[0]).sites:
        assert site.weight == "lhs"
    plain = eqx.filter_jit(eqx.filter_grad(emulate(loss, None)))(net, x[0])
    assert same(
        eqx.filter(plain, eqx.is_array), eqx.filter(eqx.filter_jit(eqx.filter_grad(loss))(net, x[0]), eqx.is_array)
    )


def test_equinox_dropout_and_state_are_arguments_like_others():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    layer, drop = eqx.nn.Linear(8, 8, key=jax.random.key(0)), eqx.nn.Dropout(0.5)

    def function(layer, x, drop, key, inference=None):
        return drop(layer(x), key=key, inference=inference)

    for options in ({}, {"inference": True}):
        got = emulate(function, None)(layer, x[0], drop, jax.random.key(1), **options)
        assert same(got, function(layer, x[0], drop, jax.random.key(1), **options))
