"""Live peers of block formats: scales, codes and values are equal but where block_divergences.csv says why not.

GGUF's own formats in gguf, the MX formats in gfloat, verifloat (Python 3.12 and newer) and torchao, NVFP4 in verifloat and torchao.
"""

from fractions import Fraction
from math import log2

import numpy as np
import pytest

import numfmt as nf
from tests.judges import block_divergences, block_peers
from tests.judges.block_divergences import CLASSES, Blocks, Case, assert_explained, example_of, notation, rows
from tests.judges.block_peers import GGUF_TYPES, cases, need, patterns
from tests.support import assert_same_bits


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_peer_differs_exactly_where_rows_say_so(case):
    """No difference without a row, and no row that concerns the case without a difference."""
    need(case.peer)
    assert_explained(case)


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r.peer}-{r.mode}-{r.format}-{r.blocks}".replace(" ", "_"))
def test_a_row_of_the_table_is_true_of_the_installed_peer(row):
    installed = need(row.peer)
    case = next(c for c in cases() if row.concerns(c))
    assert (case.format, case.mode) == (row.format.split()[0], row.mode.split()[0])
    x = example_of(row, case)
    theirs, ours = case.theirs(x), case.ours(x)
    assert row.includes(Blocks(case, x, ours)).any()
    assert notation(row, case, theirs, "ValueError") == row.theirs, f"outdated? measured with {row.measured}, installed: {installed}"
    assert notation(row, case, ours) == row.ours


def test_rows_are_well_formed():
    for row in rows():
        assert row.blocks in CLASSES
        assert row.why
        assert row.theirs != row.ours
        assert any(row.concerns(case) for case in cases()), row


def test_the_comparison_sees_one_wrong_code_and_a_row_that_explains_nothing(monkeypatch):
    case = Case("gfloat", "some", "mxfp4", lambda: np.ones((3, 32), np.float32), lambda x: np.full((3, 33), 5), lambda x: np.full((3, 33), 5))
    assert assert_explained(case) == 99
    wrong = np.full((3, 33), 5)
    wrong[1, 7] = 4
    with pytest.raises(AssertionError, match="1 of 99 differ in 1 rows without a reason"):
        assert_explained(case._replace(theirs=lambda x: wrong))
    row = rows()[0]._replace(peer="gfloat", mode="some", blocks="zeros")
    monkeypatch.setattr(block_divergences, "rows", lambda: (row,))
    with pytest.raises(AssertionError, match="no difference in \\['zeros'\\]"):
        assert_explained(case)


def test_gguf_s_mxfp4_scale_is_the_floor_of_a_float32_logarithm_modulo_256():
    """So it is that of the rule microxcaling, but for the wrap."""
    need("gguf")
    x = block_peers.float_blocks("mxfp4", 32)
    amax = np.abs(x).max(axis=1)
    x = x[np.isfinite(amax) & (amax > 0)]
    theirs = block_peers.gguf_encoded(x, "mxfp4")[:, 0]
    ours = nf.encode(x, "block(e2m1, scale=e8m0, size=32, rule=microxcaling)", threads=1).scales[:, 0]
    logarithm = np.floor(np.log2(np.abs(x).max(axis=1))).astype(int)
    assert (theirs == (logarithm - 2 + 127) % 256).all()
    in_range = logarithm >= -125
    assert (ours[in_range] == theirs[in_range]).all()


@pytest.mark.parametrize("name", block_peers.TORCHAO_MX)
def test_torchao_s_rceil_is_one_too_small_just_above_powers_of_two_and_nowhere_else(name):
    need("torchao")
    case = next(c for c in cases() if (c.peer, c.mode, c.format) == ("torchao", "RCEIL", name))
    x = case.operands()
    below = case.ours(x)[:, 0] - case.theirs(x)[:, 0]
    assert set(below.tolist()) == {0, 1}
    largest = nf.get_format(name).element.max
    quotients = [Fraction(float(a)) / largest for a in np.abs(x[below == 1]).max(axis=1)]
    assert all(0 < q / Fraction(2) ** round(log2(q)) - 1 < Fraction(1, 2**17) for q in quotients)


@pytest.mark.parametrize("name", GGUF_TYPES)
def test_gguf_decodes_random_bytes_to_the_same_values(name):
    need("gguf")
    data = block_peers.gguf_bytes(name)
    scales, minimums, codes = block_peers.gguf_fields(data, name)
    q = nf.BlockArray(
        codes, scales.reshape(-1), None, nf.get_format(name), None, codes.shape,
        zero_points=None if minimums is None else minimums.reshape(-1),
    )  # fmt: skip
    theirs = block_peers._gguf("dequantize", data, name)
    assert_same_bits(patterns(nf.decode(q)), patterns(theirs), name)


@pytest.mark.parametrize("name", GGUF_TYPES)
@pytest.mark.parametrize("shape", [(64,), (3, 5, 96)])
def test_gguf_takes_blocks_from_rows_as_numfmt_does_from_the_flattened_array(name, shape):
    """The bytes of a whole array, in order."""
    need("gguf")
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    scales, minimums, codes = block_peers.gguf_fields(block_peers._gguf("quantize", x, name).reshape(x.size // 32, -1), name)
    q = nf.encode(x, name)
    assert_same_bits(q.codes.reshape(-1, 32), codes.astype(q.codes.dtype), name)
    assert_same_bits(q.scales, scales.reshape(-1), name)
    assert minimums is None or (q.zero_points == minimums.reshape(-1)).all()
    assert_same_bits(nf.decode(q), block_peers._gguf("dequantize", block_peers._gguf("quantize", x, name), name).reshape(shape), name)


@pytest.mark.parametrize("exponent", [-130, -100, -20, 0, 1, 60, 100])
def test_verifloat_s_nvfp4_is_the_exact_projection_under_any_tensor_scale(exponent):
    """y times a float32 tensor scale is exact in float64 and has that tensor scale where the amax of y is 2688."""
    need("verifloat")
    from verifloat import NVFP4, BlockTensor

    rng = np.random.default_rng(exponent + 200)
    y = (rng.standard_normal((40, 16)) * np.exp2(rng.uniform(-8, 8, (40, 1)))).clip(-2687, 2687).astype(np.float32)
    y[::5] = rng.choice([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0], (8, 16)) * 2.0 ** rng.integers(-9, 8, (8, 1))
    y[0], y[1, 3] = 0, 2688
    scale = np.float32(np.ldexp(rng.uniform(1, 2), exponent))
    theirs = BlockTensor.quantize((y.astype(np.float64) * np.float64(scale)).tolist(), NVFP4)
    assert float(theirs.tensor_scale) == scale
    ours = nf.encode(y, "block(e2m1, scale=e4m3fn, size=16, rule=project)")
    assert_same_bits(ours.scales, np.array(theirs.scale_raw, np.uint8), "scales")
    assert_same_bits(ours.codes, np.array(theirs.elem_raw, np.uint8), "codes")
    q = nf.BlockArray(ours.codes, ours.scales, scale, nf.get_format("nvfp4"), 1, y.shape)
    with np.errstate(over="ignore"):
        values = np.array(theirs.to_float()).astype(np.float32)  # 30 bits, exact in float64
    nonzero = values != 0  # Fractions have no -0
    assert_same_bits(nf.decode(q)[nonzero], values[nonzero], "values")


@pytest.mark.parametrize("name", ["mxfp4", "mxint8", "block(e4m3fn,scale=float32,size=16,rule=project)"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_verifloat_cuts_blocks_along_the_same_axes_with_short_tails(name, axis):
    need("verifloat")
    from verifloat import BlockTensor

    x = np.random.default_rng(5).standard_normal((5, 35, 18)).astype(np.float32)
    theirs = BlockTensor.quantize(x.tolist(), block_peers.verifloat_format(name), axis=axis)
    ours = nf.encode(x, name, axis=axis)
    mask = 2**ours.format.element.bits - 1
    assert np.array_equal(block_peers.canonical(ours.scales), np.array(theirs.scale_raw))
    assert np.array_equal(ours.codes, np.array(theirs.elem_raw) & mask)


@pytest.mark.parametrize("mode", block_peers.TORCHAO_MODES)
def test_torchao_quantizes_bfloat16_like_float32(mode):
    need("torchao")
    import ml_dtypes
    import torch

    x = np.random.default_rng(6).standard_normal((64, 96)).astype(ml_dtypes.bfloat16)
    config, *_, mx_tensor, _ = block_peers.torchao()
    given = torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
    scales, codes = mx_tensor.to_mx(given, torch.float8_e4m3fn, 32, config.ScaleCalculationMode[mode])
    q = nf.encode(x, f"block(e4m3fn, scale=e8m0, size=32, rule={mode.lower()})")
    assert_same_bits(q.scales, scales.view(torch.uint8).numpy(), mode)
    assert_same_bits(q.codes, codes.view(torch.uint8).numpy(), mode)
