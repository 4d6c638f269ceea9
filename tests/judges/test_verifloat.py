"""verifloat (Python 3.12 and newer): codes and IEEE flags of its formats in each of its rounding modes."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import accepted, assert_explained
from tests.judges.operands import ties
from tests.judges.peers import IEEE_MODES, VERIFLOAT_FORMATS, need, verifloat_values
from tests.support import assert_same_bits

need("verifloat")

SIGNED = [name for name in VERIFLOAT_FORMATS if nf.get_format(name).signed]
SPECIALS = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 5e-324, -5e-324])


def tried(fmt, rounding, overflow):
    x = ties(fmt, "float64")
    x = np.concatenate([x[:: max(1, x.size // 4000)], SPECIALS])
    return accepted("verifloat", "float64", fmt, x, rounding, overflow)


def unsaturated(fmt):
    found = nf.get_format(fmt)
    return "infinity" if found.has_infinity or not found.has_nan else "nan"


@pytest.mark.parametrize("rounding", IEEE_MODES)
@pytest.mark.parametrize("fmt", list(VERIFLOAT_FORMATS))
def test_codes_are_equal(fmt, rounding):
    peer = need("verifloat")
    for overflow in ("saturate", unsaturated(fmt)):
        x = tried(fmt, rounding, overflow)
        assert_explained("verifloat", "float64", fmt, x, peer.cast(x, fmt, rounding, overflow), rounding, overflow)


@pytest.mark.parametrize("rounding", IEEE_MODES)
@pytest.mark.parametrize("tininess", ["after", "before"])
@pytest.mark.parametrize("fmt", SIGNED)
def test_flags_of_finite_operands_are_equal(fmt, rounding, tininess):
    x = tried(fmt, rounding, "saturate")
    x = x[np.isfinite(x)]
    for overflow in ("saturate", unsaturated(fmt)):
        theirs = [int(n.flags) for n in verifloat_values(x, fmt, rounding, overflow, tininess)]
        _, ours = nf.encode(x, fmt, rounding=rounding, overflow=overflow, return_flags=True, tininess=tininess)
        assert_same_bits(ours, np.array(theirs, np.uint8), f"{fmt} {rounding} {overflow} {tininess}")
