"""ml_dtypes' and NumPy's casts. From float32, float16 and bfloat16 they are a judge; wider sources they round twice."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import assert_explained
from tests.judges.operands import INTEGERS, bits, every_pattern, is_nan, operands
from tests.judges.peers import ML_DTYPES, NARROW, PEERS, by_ml_dtypes, dtype, need
from tests.support import assert_same_bits

CASTS = [(source, fmt) for source in NARROW for fmt in (*ML_DTYPES, "float16") if source != fmt]
WIDTHS = {"float6_e2m3fn": 6, "float6_e3m2fn": 6, "float4_e2m1fn": 4, "bfloat16": 16, "float16": 16}


def every_code(name):
    """All codes of an ml_dtypes type, as an array of that type."""
    width = WIDTHS.get(name, 8)
    return np.arange(2**width, dtype=np.uint16 if width == 16 else np.uint8).view(dtype(name))


def castable(source, target):
    """Whether ml_dtypes has this cast; it lacks those from other 8-bit types to E8M0, for one."""
    try:
        np.ones(1, dtype(source)).astype(dtype(target))
    except TypeError:
        return False
    return source != target


BETWEEN = [(s, t) for s in (*ML_DTYPES, "float16") for t in (*ML_DTYPES, "float16") if castable(s, t)]


def payload_free(x, fmt):
    """NumPy's own cast to float16 keeps NaN payloads; the table has a row for it."""
    return x[~is_nan(x)] if fmt == "float16" and x.dtype != dtype("bfloat16") else x


@pytest.mark.parametrize(("source", "fmt"), CASTS)
def test_codes_equal_the_casts_with_nan_of_every_sign_and_payload(source, fmt):
    x = payload_free(operands(fmt, source), fmt)
    assert_same_bits(nf.encode(x, fmt, platform="ml_dtypes"), by_ml_dtypes(x, fmt), f"{source} → {fmt}")


@pytest.mark.parametrize(("source", "fmt"), CASTS)
def test_quantized_values_equal_the_values_of_the_casts(source, fmt):
    x = payload_free(operands(fmt, source), fmt)
    values = nf.quantize(x, fmt, platform="ml_dtypes")
    with np.errstate(all="ignore"):
        expected = x.astype(dtype(fmt)).astype(values.dtype)
        assert_same_bits(values, expected, f"{source} → {fmt}")  # NaN by class: quantize drops its sign


@pytest.mark.parametrize("name", [*ML_DTYPES, "float16"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_decoded_values_of_all_codes_are_those_of_the_type(name, wanted):
    codes = every_code(name)
    with np.errstate(invalid="ignore"):
        expected = codes.astype(wanted)
        assert_same_bits(nf.decode(bits(codes), name, dtype=wanted), expected, name)


@pytest.mark.parametrize(("source", "target"), BETWEEN)
def test_arrays_of_ml_dtypes_are_operands_as_their_values_are(source, target):
    x = every_code(source)
    assert_same_bits(nf.encode(x, target, platform="ml_dtypes"), by_ml_dtypes(x, target), f"{source} → {target}")


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_float16_from_numpy_differs_in_the_bits_of_nan_only(source):
    x = operands("float16", source)
    assert_explained("numpy", source, "float16", x, need("numpy").cast(x, "float16", "", ""))


def test_float32_from_numpy_differs_in_the_bits_of_nan_only():
    x = operands("float16", "float64")
    with np.errstate(all="ignore"):
        assert_same_bits(nf.encode(x, "float32").view(np.float32), x.astype(np.float32))


@pytest.mark.parametrize(("source", "fmt"), [p for p in PEERS["ml_dtypes"].pairs() if p[0] in ("float64", *INTEGERS)])
def test_wide_sources_are_rounded_to_float32_first_by_the_casts_and_never_here(source, fmt):
    """The model of every row about double rounding: with its first step, numfmt gives ml_dtypes' answer bit for bit."""
    x = operands(fmt, source)
    theirs = by_ml_dtypes(x, fmt)
    with np.errstate(all="ignore"):
        twice = nf.encode(x.astype(np.float32), fmt, platform="ml_dtypes")
    assert_same_bits(twice, theirs)
    assert_explained("ml_dtypes", source, fmt, x, theirs, platform="ml_dtypes")


@pytest.mark.nightly
@pytest.mark.parametrize(("source", "fmt"), [cast for cast in CASTS if cast[0] != "float32"])
@pytest.mark.parametrize("threads", [1, 2])
def test_long_arrays_of_all_16_bit_patterns_have_the_same_codes(source, fmt, threads):
    x = np.tile(payload_free(every_pattern(source), fmt), 64)  # long enough for the compiled engine
    assert_same_bits(nf.encode(x, fmt, platform="ml_dtypes", threads=threads), by_ml_dtypes(x, fmt))
