"""Compares numfmt_jax with numfmt in the environment that it is started in; a test starts it with XLA flags and x64 of its own."""

import jax
import jax.numpy as jnp
import numpy as np

import numfmt as nf
from numfmt_jax.dots import dot_general
from numfmt_jax.quantize import decode, encode, quantize
from numfmt_jax.units import matmul
from tests.jax.support import KEY, SEED, every_value, matrix, same

ROUNDINGS = [
    ("e4m3fn", "ties_to_even"), ("bfloat16", "toward_negative"), ("e8m0", "ties_to_even"), ("q3.4", "to_odd"), ("nf4", "ties_to_even"),
    ("tf32", "stochastic"), ("mxfp8_e4m3", "stochastic"), ("nvfp4", None),
]  # fmt: skip


def agree(x, fmt, rounding):
    """Codes and values of one format, jitted, and under a gradient."""
    stochastic = rounding == "stochastic"
    options = {"rounding": rounding} | ({"key": KEY} if stochastic else {})
    reference = {"rounding": rounding} | ({"seed": SEED} if stochastic else {})
    values = nf.quantize(x, fmt, **reference)
    what = f"{fmt} {rounding} of {x.dtype}"
    found, back = jax.jit(
        lambda x: (quantize(x, fmt, **options), jax.vjp(lambda x: quantize(x, fmt, **options), x)[0])
    )(x)
    same(found, values, what)
    same(back, values, what)
    if not isinstance(nf.get_format(fmt), nf.BlockFormat):
        same(jax.jit(lambda x: encode(x, fmt, **options))(x), nf.encode(x, fmt, **reference), what)


def wide_operands():
    """float64 and 64-bit codes exist under x64 only."""
    x = matrix(8, 96).astype(np.float64) * np.float64(1 + 2**-30)
    for fmt, rounding in (
        ("e4m3fn", "ties_to_even"),
        ("bfloat16", "stochastic"),
        ("q3.4", "toward_zero"),
        ("nf4", "ties_to_even"),
    ):
        agree(x, fmt, rounding)
    agree(np.random.default_rng(0).integers(-(2**31), 2**31, 4096).astype(np.int32), "bfloat16", "ties_to_even")
    codes = every_value(np.uint8)
    same(decode(codes, "e5m2", dtype=np.float64), nf.decode(codes, "e5m2", dtype=np.float64))
    same(decode(codes.astype(np.int64) + 2**40, "e5m2"), nf.decode(codes, "e5m2", dtype=np.float32))


def main():
    """All comparisons; prints a line at the end."""
    with np.errstate(all="ignore"):
        for fmt, rounding in ROUNDINGS:
            agree(matrix(8, 96), fmt, rounding)
        agree(every_value(jnp.dtype("bfloat16")).reshape(-1, 128), "e4m3fn", "ties_to_even")
        agree(every_value(jnp.dtype("float16")).reshape(-1, 128), "e5m2", "stochastic")
        if jax.config.jax_enable_x64:
            wide_operands()
    a, b = matrix(3, 20, 2), matrix(5, 20, 3).T
    rounded = [nf.quantize(v, "bfloat16") for v in (a, b)]
    same(jax.jit(lambda a, b: matmul(a, b, unit="mi300.bf16"))(a, b), nf.matmul(*rounded, unit="mi300.bf16"))
    x, w = jnp.asarray(matrix(4, 32)[::2]), jnp.asarray(matrix(4, 32, 1)[::2])
    contracted = (((1,), (1,)), ((), ()))
    plain, ours = (
        str(jax.make_jaxpr(lambda a, b, f=f: f(a, b, contracted))(x, w)) for f in (jax.lax.dot_general, dot_general)
    )
    assert plain == ours
    print("x64", int(jax.config.jax_enable_x64), "agrees")


if __name__ == "__main__":
    main()
