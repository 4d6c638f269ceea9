"""Training steps under a recipe as multiples of the float32 step, beside qwix where it is installed.

    python benchmarks/steps.py                        the table of BENCHMARKS.md
    python benchmarks/steps.py --rounds 5 --only mxfp8
    python benchmarks/steps.py --graph                operations inside a graph, as ratios to a memory copy

The model is a flax transformer; forward, backward and an SGD update are one jitted step, with its
parameters donated. Every contender is timed in turn, once a round, and medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import numfmt_jax as nj

DEPTH, WIDTH, HEADS, BATCH, CONTEXT, VOCABULARY = 4, 256, 4, 8, 256, 256


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        h = nn.LayerNorm(name="ln1")(x)
        q, k, v = jnp.split(nn.Dense(3 * WIDTH, use_bias=False, name="qkv")(h), 3, axis=-1)
        q, k, v = (t.reshape(*t.shape[:2], HEADS, -1) for t in (q, k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH // HEADS).astype(np.float32)
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, scores, -1e9)), v)
        x = x + nn.Dense(WIDTH, use_bias=False, name="out")(mixed.reshape(x.shape))
        h = nn.Dense(4 * WIDTH, use_bias=False, name="up")(nn.LayerNorm(name="ln2")(x))
        return x + nn.Dense(WIDTH, use_bias=False, name="down")(jax.nn.gelu(h))


class Transformer(nn.Module):
    """Byte-level language model."""

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        x = nn.Embed(VOCABULARY, WIDTH, name="embed")(tokens)
        for i in range(DEPTH):
            x = Block(name=f"block{i}")(x)
        return nn.Dense(VOCABULARY, use_bias=False, name="head")(nn.LayerNorm(name="ln")(x))


def loss_of(model: nn.Module) -> Callable[[Any, Any], Any]:
    def loss(params: Any, tokens: Any) -> Any:
        logits = model.apply({"params": params}, tokens[:, :-1])
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)
        return -picked.mean()

    return loss


LAYERS = ("*qkv*", "*out*", "*up*", "*down*")


def policy_of(recipe: Any) -> nj.Policy:
    """The recipe for the linear layers of the blocks; the rest stays as it is."""
    return nj.Policy({**dict.fromkeys(LAYERS, recipe), "*": None})


def stepper(loss: Callable[..., Any], policy: nj.Policy | None) -> Callable[..., Any]:
    @partial(jax.jit, donate_argnums=0)
    def step(params: Any, tokens: Any, key: Any) -> Any:
        run = loss if policy is None else nj.emulate(loss, policy, key=key)
        value, grads = jax.value_and_grad(run)(params, tokens)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), value

    return step


def stochastic_gradients(recipe: nj.Recipe) -> nj.Recipe:
    """The recipe with its gradients rounded stochastically."""
    from dataclasses import replace

    def random(operand: Any) -> Any:
        return replace(operand, rounding="stochastic")

    dgrad = replace(recipe.dgrad, lhs=random(recipe.dgrad.lhs))
    return replace(recipe, dgrad=dgrad, wgrad=replace(recipe.wgrad, rhs=random(recipe.wgrad.rhs)), name=recipe.name + "+sr")


def ours() -> dict[str, Callable[..., Any]]:
    loss = loss_of(Transformer())
    names = ("fp8_current", "mxfp8", "mxfp4", "nvfp4")
    made = {"float32": stepper(loss, None)}
    made |= {f"numfmt {name}": stepper(loss, policy_of(name)) for name in names}
    plain = nj.Gemm(nj.Operand("nvfp4"), nj.Operand("nvfp4"))  # what qwix's nvfp4 does: nearest, without Hadamard
    made["numfmt nvfp4 plain"] = stepper(loss, policy_of(nj.Recipe(plain, plain, plain, name="nvfp4 plain")))
    made["numfmt fp8_current+sr"] = stepper(loss, policy_of(stochastic_gradients(nj.get_recipe("fp8_current"))))
    return made


def qwix_steps(params: Any, tokens: Any) -> dict[str, Callable[..., Any]]:
    try:
        import qwix
    except ImportError:
        print("qwix is not installed: skipped")
        return {}
    made = {}  # its mxfp8 and nvfp4 do not take gradients (0.1.8): tiles of the element type with real scales stand in
    for name, fields in {
        "qwix mxfp8": {"weight_qtype": "mxfp8", "act_qtype": "mxfp8", "bwd_qtype": jnp.float8_e4m3fn, "tile_size": 32,
                       "bwd_weight_grad_tile_size": 32},
        "qwix nvfp4": {"weight_qtype": "nvfp4", "act_qtype": "nvfp4", "bwd_qtype": jnp.float4_e2m1fn, "tile_size": 16,
                       "bwd_weight_grad_tile_size": 16},
        "qwix fp8": {"weight_qtype": jnp.float8_e4m3fn, "act_qtype": jnp.float8_e4m3fn, "bwd_qtype": jnp.float8_e5m2},
    }.items():
        rule = qwix.QtRule(module_path=".*(qkv|out|up|down).*", **fields)
        model = qwix.quantize_model(Transformer(), qwix.QtProvider([rule]))
        made[name] = stepper(loss_of(model), None)
    return made


def interleaved(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def steps(rounds: int, only: str | None) -> None:
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 256, (BATCH, CONTEXT + 1)), jnp.int32)
    params = Transformer().init(jax.random.key(0), tokens[:, :-1])["params"]
    made = {**ours(), **qwix_steps(params, tokens)}
    states = {}
    for name in list(made):
        if only and name != "float32" and only not in name:
            del made[name]
            continue
        try:
            states[name] = made[name](jax.tree.map(jnp.copy, params), tokens, jax.random.key(1))[0]
        except Exception as error:  # a peer that fails is a line, not the end
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            del made[name]

    def run(name: str) -> Callable[[], Any]:
        def once() -> Any:
            states[name], value = made[name](states[name], tokens, jax.random.key(2))
            return value

        return once

    medians = interleaved({name: run(name) for name in made}, rounds)
    base = medians["float32"]
    print(f"step of a transformer: width {WIDTH}, {DEPTH} layers, {BATCH * CONTEXT} tokens; float32 {base * 1e3:.0f} ms")
    for name, median in medians.items():
        print(f"  {name:24} {median / base:5.2f}")


def graph(rounds: int) -> None:
    """Operations on 2**22 float32 inside a graph: eight in a chain, less the chain without them."""
    n, chain = 2048, 8
    x = jnp.asarray(np.random.default_rng(0).standard_normal((n, n)), jnp.float32)
    key = jax.random.key(0)
    operations: dict[str, Callable[[Any], Any]] = {
        "quantize e4m3fn": lambda x: nj.quantize(x, "e4m3fn"),
        "quantize e2m1": lambda x: nj.quantize(x, "e2m1"),
        "quantize bfloat16": lambda x: nj.quantize(x, "bfloat16"),
        "stochastic e4m3fn": lambda x: nj.quantize(x, "e4m3fn", rounding="stochastic", key=key),
        "mxfp8 last axis": lambda x: nj.quantize(x, "mxfp8_te"),
        "mxfp8 first axis": lambda x: nj.quantize(x, "mxfp8_te", axis=0),
        "mxfp4 last axis": lambda x: nj.quantize(x, "mxfp4"),
        "mxfp4 first axis": lambda x: nj.quantize(x, "mxfp4", axis=0),
        "nvfp4 last axis": lambda x: nj.quantize(x, "nvfp4"),
        "nvfp4 16x16": lambda x: nj.quantize(x, "nvfp4_16x16"),
        "words": lambda x: x + lax.bitcast_convert_type(nj.random_bits(key, x.shape) >> 9, jnp.float32),
        "jax.random.bits": lambda x: x + lax.bitcast_convert_type(jax.random.bits(key, x.shape, "uint32") >> 9, jnp.float32),
    }

    def chained(operation: Callable[[Any], Any]) -> Callable[[], Any]:
        jitted = jax.jit(lambda x: lax.fori_loop(0, chain, lambda _, y: operation(y) * np.float32(1.0001), x))
        jitted(x)
        return lambda: jitted(x)

    source, target = np.asarray(x).copy(), np.empty((n, n), np.float32)
    runs: dict[str, Callable[[], Any]] = {"np.copyto": lambda: np.copyto(target, source)}
    runs |= {name: chained(operation) for name, operation in {"nothing": lambda x: x, **operations}.items()}
    medians = interleaved(runs, rounds)
    copy, nothing = medians["np.copyto"], medians["nothing"]
    print(f"in a graph, 2**22 float32; np.copyto {copy * 1e3:.2f} ms, an empty step {nothing / chain * 1e3:.2f} ms")
    for name in operations:
        each = (medians[name] - nothing) / chain
        print(f"  {name:24} {each * 1e3:6.2f} ms   ratio to a copy {copy / each:5.2f}   with the empty step {copy * chain / medians[name]:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of interleaved timing (default 9)")
    parser.add_argument("--only", help="time only contenders whose name holds this, and float32")
    parser.add_argument("--graph", action="store_true", help="time operations inside a graph instead of steps")
    arguments = parser.parse_args()
    if arguments.graph:
        graph(arguments.rounds)
    else:
        steps(arguments.rounds, arguments.only)


if __name__ == "__main__":
    main()
