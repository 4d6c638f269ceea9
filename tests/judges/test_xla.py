"""XLA's casts under jit; the known differences are rows of divergences.csv."""

import numpy as np
import pytest

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

