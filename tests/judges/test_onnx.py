"""Cast of ONNX's reference implementation, saturating (its default) and not."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import assert_explained
from tests.judges.operands import operands
from tests.judges.peers import PEERS, need

need("onnx")

HAS_NAN = [pair for pair in PEERS["onnx"].pairs() if pair[1].startswith("float8")]


@pytest.mark.parametrize(("source", "fmt"), PEERS["onnx"].pairs())
def test_codes_equal_saturating_casts(source, fmt):
    x = operands(fmt, source)
    assert_explained("onnx", source, fmt, x, need("onnx").cast(x, fmt, "", ""), platform="onnx")


@pytest.mark.parametrize(("source", "fmt"), HAS_NAN)
def test_codes_equal_casts_with_saturate_0(source, fmt):
    x = operands(fmt, source)
    theirs = need("onnx").cast(x, fmt, "", "nan")
    assert_explained("onnx", source, fmt, x, theirs, overflow="nan", platform="onnx")


@pytest.mark.parametrize("fmt", ["float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_infinity_into_fnuz_saturates_against_onnx_s_own_document(fmt):
    """docs/technical/float8.md says NaN even when saturating; the code clips first (formats.md 3.1)."""
    x = np.float32([np.inf, -np.inf])
    theirs = need("onnx").cast(x, fmt, "", "").tolist()
    assert theirs == nf.encode(x, fmt, platform="onnx").tolist() == [0x7F, 0xFF]
    assert nf.encode(x, fmt, overflow="nan").tolist() == [0x80, 0x80]  # as the document
