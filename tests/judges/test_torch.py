"""PyTorch's CPU casts; NaN bits of bfloat16 depend on the path that torch takes, so NaN there is compared by class."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import assert_explained
from tests.judges.operands import is_nan, operands
from tests.judges.peers import PEERS, by_torch, need
from tests.support import assert_same_bits

need("torch")


@pytest.mark.parametrize(("source", "fmt"), PEERS["torch"].pairs())
def test_codes_equal_casts(source, fmt):
    x = operands(fmt, source)
    assert_explained("torch", source, fmt, x, need("torch").cast(x, fmt, "", ""), platform="torch")


@pytest.mark.parametrize("fmt", PEERS["torch"].formats)
def test_float64_is_rounded_to_float32_first_by_the_casts_and_never_here(fmt):
    x = operands(fmt, "float64")
    x = x[~is_nan(x)]
    with np.errstate(all="ignore"):
        twice = nf.encode(x.astype(np.float32), fmt, platform="torch")
    assert_same_bits(twice, by_torch(x, fmt))


@pytest.mark.parametrize("size", [1, 7, 8, 31, 33, 1000])
def test_short_and_long_arrays_take_the_same_rounding(size):
    """torch has a vectorised path and one for the rest; both are the judge."""
    fmt = "float8_e4m3fn"
    x = operands(fmt, "float32")[:: 50_000 // size][:size]
    assert_explained("torch", "float32", fmt, x, by_torch(x, fmt), platform="torch")
