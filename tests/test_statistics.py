"""Statistics against direct computations with whole arrays, and the engines against each other."""

import dataclasses
import math
import subprocess
import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt import statistics, statistics_parts
from numfmt.named_blocks import NAMED_BLOCKS
from numfmt.statistics import Statistics, measure
from tests.support import without_twins

SCALARS = ["e4m3fn", "e5m2", "e2m1", "int8", "q3.4", "nf4", "bf16", "float16", "tf32", "float32", "posit8"]
SCALARS = [name for name in SCALARS if name != "posit8"]
COUNTS = ["nan", "infinite", "nonfinite_results", "beyond", "at_end", "to_zero"]


@pytest.fixture
def numpy_only(monkeypatch):
    """No compiled loop."""
    monkeypatch.setattr(statistics, "counter_for", lambda element, size: statistics_parts.count_part)


def sample(shape, seed=0, spread=4.0):
    """Values over several binades, a block of zeros and some zeros elsewhere among them."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape))).astype(np.float32)
    flat = x.reshape(-1)
    flat[::7] = 0
    flat[:64] = 0
    return x


def element_values(fmt):
    """float64 values of all codes of a scalar format."""
    return nf.decode(np.arange(2**fmt.bits, dtype=np.uint32), fmt, dtype=np.float64)


def expanded(q, per_block):
    """One entry a block, as one an element."""
    if q.format.block == ():
        return np.broadcast_to(np.asarray(per_block).reshape(()), q.shape)
    if q.format.flat:
        k = q.format.block[0]
        return np.repeat(np.asarray(per_block).reshape(-1), k)[: q.size].reshape(q.shape)
    axes = q.axis if isinstance(q.axis, tuple) else (q.axis,)
    for axis, k in zip(axes, q.format.block, strict=True):
        k = q.shape[axis] if k == -1 else k
        per_block = np.repeat(per_block, k, axis=axis).take(range(q.shape[axis]), axis=axis)
    return per_block


def block_numbers(q):
    """The number of the block of every element."""
    return expanded(q, np.arange(q.scales.size).reshape(q.scales.shape)).reshape(-1)


def direct(x, q):
    """What `Statistics` counts, computed on whole arrays, for formats whose value is (code - zero) × scale."""
    x, y = x.astype(np.float64), nf.decode(q).astype(np.float64)
    element, scale_format = q.format.element, q.format.scale
    symmetric = getattr(element, "default_overflow", None) == nf.Overflow.SYMMETRIC
    low, high = (-float(element.max) if symmetric else float(element.min)), float(element.max)
    own = q.scales if q.scales.dtype.kind == "f" else nf.decode(q.scales, scale_format, dtype=np.float32)
    scale = expanded(q, own.astype(np.float64))
    if q.tensor_scale is not None:
        divides = q.format.rule == "compressed_tensors"
        scale = scale / float(q.tensor_scale) if divides else scale * float(q.tensor_scale)
    zero = np.zeros(x.shape)
    minimum = np.zeros(x.shape)
    if q.zero_points is not None:
        points = expanded(q, q.zero_points.astype(np.float64))
        zero, minimum = (points, minimum) if q.format.rule == "affine" else (zero, points)
    ends = np.stack([(e - zero) * scale + minimum for e in (low, high)])
    values = element_values(element)[q.codes]
    has_scale = scale != 0
    beyond = has_scale & ((x > ends.max(axis=0)) | (x < ends.min(axis=0)))
    at_end = has_scale & ((values == high) | ((values == low) & (low < 0)))
    error, numbers = np.abs(x - y), block_numbers(q)
    amax, worst = np.zeros(q.scales.size), np.zeros(q.scales.size)
    np.maximum.at(amax, numbers, np.abs(x).reshape(-1))
    np.maximum.at(worst, numbers, error.reshape(-1))
    used, size = amax > 0, np.abs(own.reshape(-1).astype(np.float64))
    return {
        "elements": x.size, "blocks": q.scales.size, "beyond": int(beyond.sum()), "at_end": int(at_end.sum()),
        "to_zero": int(((x != 0) & (y == 0)).sum()),
        "low_scales": int((used & (size <= float(scale_format.min_positive))).sum()),
        "high_scales": int((used & (size >= float(scale_format.max))).sum()),
        "xx": math.fsum((x * x).reshape(-1)), "xq": math.fsum((x * y).reshape(-1)),
        "ee": math.fsum(((x - y) ** 2).reshape(-1)), "max_error": error.max(), "amax": amax.max(),
        "max_relative_error": (worst[used] / amax[used]).max(),
    }  # fmt: skip


PLAIN = [name for name, entry in NAMED_BLOCKS.items() if not entry.format.micro and name != "nf4_double"]


@pytest.mark.parametrize("name", without_twins(PLAIN))
@pytest.mark.parametrize("engine", ["numpy", "default"])
def test_counts_and_sums_are_those_of_whole_arrays(name, engine, request):
    if engine == "numpy":
        request.getfixturevalue("numpy_only")
    x = sample((260, 300), spread=1.0)
    q = nf.encode(x, name)
    found = measure(x, q)
    for key, expected in direct(x, q).items():
        got = getattr(found, key)
        assert got == (pytest.approx(expected, rel=1e-12) if key in ("xx", "xq", "ee") else expected), key  # real-valued sums in another order


MICRO = [name for name, entry in NAMED_BLOCKS.items() if entry.format.micro]
TILES = "block(fixed(bits=5, sign_magnitude=yes), scale=e8m0, size=6x10, rule=micro, micro=2:1)"


def micro_factors(q):
    """2 to the sum of the micro-exponents of every element."""
    a, g = q.format.block if len(q.format.block) == 2 else (1, q.format.block[0])
    sign = 1 if q.format.scale_rule.micro_up else -1
    shifts = sum(
        np.repeat(level.astype(int), part, axis=-1) for (part, _), level in zip(q.format.micro, q.micro, strict=True)
    )
    tiles = shifts.reshape(*shifts.shape[:2], a, g).transpose(0, 2, 1, 3).reshape(shifts.shape[0] * a, -1)
    return np.ldexp(1.0, sign * tiles[: q.shape[0], : q.shape[1]])


@pytest.mark.parametrize("name", [*MICRO, TILES])
@pytest.mark.parametrize("engine", ["numpy", "default"])
def test_micro_exponents_move_the_ends_of_the_range(name, engine, request):
    if engine == "numpy":
        request.getfixturevalue("numpy_only")
    x = sample((260, 300), spread=1.0)
    q = nf.encode(x, name)
    found, y = measure(x, q), nf.decode(q).astype(np.float64)
    values = element_values(q.format.element)[q.codes]
    scale = nf.decode(q.scales, q.format.scale, dtype=np.float64)
    whole = expanded(q, scale) * micro_factors(q)
    assert np.array_equal(values * whole, y)
    top, wide = float(q.format.element.max), x.astype(np.float64)
    assert found.beyond == int((np.abs(wide) > top * whole).sum())
    assert found.at_end == int((np.abs(values) == top).sum())
    assert found.to_zero == int(((wide != 0) & (y == 0)).sum())
    assert found.ee == pytest.approx(math.fsum(((wide - y) ** 2).reshape(-1)), rel=1e-12)  # real-valued sums in another order
    assert found.max_error == np.abs(wide - y).max()
    amax = np.zeros(q.scales.size)
    np.maximum.at(amax, block_numbers(q), np.abs(wide).reshape(-1))
    relative = np.abs(wide - y).reshape(-1) / np.where(amax > 0, amax, 1)[block_numbers(q)]
    assert found.max_relative_error == relative.max()
    assert measure(
        x.T.copy(), nf.encode(x.T.copy(), name, axis=0 if len(q.format.block) == 1 else (1, 0))
    ) == pytest.approx(dict(found), rel=1e-9)  # real-valued sums in another order


@pytest.mark.parametrize("name", [*NAMED_BLOCKS, TILES, "block(e2m1, scale=e8m0, size=7)", "bfp(m=3, size=24x5)"])
def test_numpy_and_numba_give_the_same_bits(name, monkeypatch):
    x = sample((260, 300), seed=1)
    q = nf.encode(x, name)
    default = measure(x, q)
    one_thread = measure(x, q, threads=1)
    monkeypatch.setattr(statistics, "counter_for", lambda element, size: statistics_parts.count_part)
    assert default == one_thread == measure(x, q)


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_formats_are_one_block_of_scale_one(name, monkeypatch):
    fmt, x = nf.get_format(name), sample((300, 301))
    found, y = measure(x, name), nf.quantize(x.astype(np.float64), name, rounding=None).astype(np.float64)
    wide = x.astype(np.float64)
    finite = np.isfinite(y)
    assert (found.elements, found.blocks) == (x.size, 0)
    assert found.beyond == int(((wide > float(fmt.max)) | (wide < float(fmt.min))).sum())
    assert found.to_zero == int(((wide != 0) & (y == 0)).sum())
    assert found.nonfinite_results == int((~finite).sum())
    assert found.ee == pytest.approx(math.fsum((wide - y)[finite] ** 2), rel=1e-12)  # real-valued sums in another order
    assert found.max_error == np.abs(wide - y)[finite].max()
    assert found.max_relative_error == found.max_error / np.abs(wide).max()
    assert found.scale_clamped == 0
    monkeypatch.setattr(statistics, "counter_for", lambda element, size: statistics_parts.count_part)
    assert measure(x, name, codes=nf.encode(x, name)) == found


def test_saturates_and_in_the_last_bin_differ():
    """6.5 saturates nothing more than it rounds; 5.5 is in the last bin and saturates not (scaling.md 2.2)."""
    for x, beyond, at_end in ((5.0, 0, 0), (5.5, 0, 1), (6.0, 0, 1), (6.25, 1, 1), (7.9, 1, 1)):
        found = measure(np.float32([x]), "mxfp4")
        assert (found.beyond, found.at_end) == (beyond, at_end), x


@pytest.mark.parametrize(
    ("name", "least"), [("mxfp4", 0.75), ("mxfp8_e4m3", 0.875), ("mxfp6_e2m3", 0.9375), ("mxfp6_e3m2", 0.875)]
)
def test_layer_norm_weights_just_below_one_all_fall_into_the_last_bin(name, least):
    x = np.float32(0.95) + np.float32(0.01) * np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    found = measure(x, name)
    assert found.last_bin > 0.85
    assert found.saturated == np.mean(x > least)
    assert (
        measure(x, name.replace("mxfp4", "block(e2m1, rule=rceil)").replace("mxfp8_e4m3", "mxfp8_te")).saturated
        <= found.saturated
    )


def test_nan_and_infinity_are_counted_and_left_out_of_the_rest():
    x = np.float32([1, np.nan, 2, np.inf, -np.inf, 3, 1e-30, 0])
    found = measure(x, "e5m2")
    assert (found.nan, found.infinite, found.nonfinite_results, found.to_zero) == (1, 2, 0, 1)
    assert (found.xx, found.ee, found.amax) == (14.0, pytest.approx(1e-60), 3.0)  # 1e-30 squared in binary64
    over = measure(np.float32([1, 60000, 70000]), "e5m2")
    assert (over.nonfinite_results, over.beyond, over.at_end, over.xx) == (1, 2, 1, 1.0 + 60000.0**2)


def test_blocks_whose_scale_is_nan_have_no_end():
    x = np.ones((2, 32), np.float32)
    x[0, 3] = np.nan
    found = measure(x, "mxfp4")
    assert (found.nan, found.nonfinite_results, found.nan_scales, found.at_end) == (1, 31, 1, 0)
    assert found.sqnr_db == math.inf
    assert found.slope == 1.0


def test_scales_at_either_end_are_counted_apart_and_blocks_of_zeros_not():
    x = np.zeros((4, 32), np.float32)
    x[1], x[2], x[3] = 2.0**-140, 3e38, 1
    found = measure(x, "mxfp8_e4m3")
    assert (found.blocks, found.low_scales, found.high_scales) == (4, 1, 0)
    assert (found.scale_clamped_low, found.scale_clamped) == (0.25, 0.25)
    assert measure(np.float32([1.0]), "nvfp4").scale_clamped_high == 1.0
    assert measure(np.full(32, 2.0**200), "mxfp4").nan_scales == 1


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (-2, -1)])
def test_axes_and_tails(axis):
    x = sample((33, 5, 70), seed=2)
    name = "mxfp4" if isinstance(axis, int) else "nvfp4_16x16"
    q = nf.encode(x, name, axis=axis)
    found = measure(x, name, axis=axis)
    assert found == measure(x, q)
    for key, expected in direct(x, q).items():
        assert getattr(found, key) == pytest.approx(expected, rel=1e-12), key  # real-valued sums in another order
    strided = measure(np.asfortranarray(x), name, axis=axis)
    assert strided == found


def test_a_long_axis_is_one_block():
    x = sample((2, 70_001), seed=3)
    q = nf.encode(x, "int8_axis")
    found = measure(x, q)
    assert found.blocks == 2
    for key, expected in direct(x, q).items():
        assert getattr(found, key) == pytest.approx(expected, rel=1e-12), key  # real-valued sums in another order


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int32, ">f4"])
def test_operands_of_other_types_are_measured_as_their_values(dtype):
    x = (100 * np.random.default_rng(4).standard_normal((256, 512))).astype(dtype)
    assert measure(x, "mxfp4") == measure(x.astype(np.float64), "mxfp4")
    assert measure(x, "e4m3fn") == measure(x.astype(np.float64), "e4m3fn")


def test_parts_add_up_to_the_whole():
    x = sample((512, 64))
    for name in ("mxfp4", "e4m3fn", "int4_group32"):
        parts = [measure(part, name) for part in np.split(x, 4)]
        total, whole = parts[0] + parts[1] + parts[2] + parts[3], measure(x, name)
        for field in dataclasses.fields(Statistics):
            assert getattr(total, field.name) == pytest.approx(getattr(whole, field.name), rel=1e-12), field.name  # real-valued sums in another order


def test_statistics_are_a_mapping_of_names():
    found = measure(sample((4, 64)), "mxfp4")
    assert dict(found) == {name: getattr(found, name) for name in statistics.NAMES}
    assert {"saturated", "last_bin", "underflow", "scale_clamped_low", "scale_clamped_high", "sqnr_db", "slope",
            "max_error"} <= set(found)  # fmt: skip
    with pytest.raises(KeyError):
        found["xx"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.elements = 1


def test_nothing_lost_and_nothing_there():
    assert measure(np.float32([1, 2]), "float32").sqnr_db == math.inf
    empty = measure(np.zeros((0, 32), np.float32), "mxfp4")
    assert (empty.elements, empty.blocks, empty.saturated, empty.sqnr_db) == (0, 0, 0.0, math.inf)
    assert math.isnan(measure(np.zeros(32, np.float32), "mxfp4").slope)
    assert measure(1.5, "e4m3fn").elements == 1


def test_slope_and_sqnr_are_what_their_names_say():
    x = np.float32([6.5, -6.5, 1, 1])
    found = measure(x, "block(e2m1, size=4, rule=floor)")
    assert found.slope == float(Fraction(2 * 39 + 2) / (Fraction(169, 2) + 2))
    assert found.sqnr_db == pytest.approx(10 * math.log10(86.5 / 0.5))  # a logarithm


def test_what_makes_no_sense_is_refused():
    x = np.ones((2, 32), np.float32)
    with pytest.raises(ValueError, match="shape"):
        measure(x[0], nf.encode(x, "mxfp4"))
    with pytest.raises(ValueError, match="options"):
        measure(x, nf.encode(x, "mxfp4"), rounding="toward_zero")
    with pytest.raises(ValueError, match="codes"):
        measure(x, "mxfp4", codes=np.zeros(x.shape, np.uint8))
    with pytest.raises(ValueError, match="shape"):
        measure(x, "e4m3fn", codes=np.zeros(3, np.uint8))


def test_options_are_those_of_encode():
    x = sample((64, 64))
    for options in ({"rounding": "toward_zero"}, {"rounding": "stochastic", "seed": 3}):
        assert measure(x, "mxfp4", **options) == measure(x, nf.encode(x, "mxfp4", **options))
    assert measure(x, "mxint8", overflow="symmetric").beyond >= measure(x, "mxint8").beyond


def test_importing_statistics_does_not_load_numba():
    code = "import sys, numfmt.statistics; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
