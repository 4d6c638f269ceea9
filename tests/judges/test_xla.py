"""XLA's casts under jit; the known differences are rows of divergences.csv."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import assert_explained
from tests.judges.operands import bits, operands
from tests.judges.peers import PEERS, dtype, need, need_format

need("xla")


@pytest.mark.parametrize(("source", "fmt"), PEERS["xla"].pairs())
def test_codes_equal_jitted_casts(source, fmt):
    x = operands(fmt, source)
    assert_explained("xla", source, fmt, x, need_format("xla", fmt).cast(x, fmt, "", ""), platform="xla")


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e8m0fnu", "bfloat16"])
def test_eager_casts_have_the_codes_of_jitted_ones(fmt):
    import jax.numpy as jnp

    x = operands(fmt, "float32")
    eager = bits(np.asarray(jnp.asarray(x).astype(dtype(fmt))))
    assert_explained("xla", "float32", fmt, x, eager, platform="xla")



@pytest.mark.parametrize(
    ("fmt", "trailing", "twice"),
    [("float16", 10, True), ("bfloat16", 7, True), ("float8_e4m3fn", 3, False), ("float8_e5m2", 2, False)],
)
def test_float64_is_rounded_twice_to_16_bits_and_once_to_8(fmt, trailing, twice):
    """With x64 enabled: why XLA is no judge of float64 sources. numfmt rounds once."""
    import jax
    import jax.numpy as jnp

    value = 1 + 2.0 ** -(trailing + 1) + 2.0**-40
    once = int(nf.encode(1 + 2.0**-trailing, fmt))
    with jax.enable_x64(True):
        x = jnp.asarray(np.array([value]))
        assert x.dtype == np.float64
        code = int(bits(np.asarray(jax.jit(lambda v: v.astype(dtype(fmt)))(x)))[0])
    assert code == once - twice
    assert nf.encode(value, fmt) == once
