"""Block formats against the judge of spec/blocks.py: adversarial blocks, every rule, every layout."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import numfmt as nf
from numfmt.named_blocks import NAMED_BLOCKS
from spec import blocks as judge
from spec import oracle
from tests.support import without_twins

RULES = ["project", "absmax", "floor", "ceil", "even", "truncation_free", "rceil", "p3109", "deepgemm", "microxcaling"]
MX = ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8"]


def exactly(x):
    """The exact reals (or words) of a float array, flat."""
    read = oracle.from_float32_bits if x.dtype == np.float32 else oracle.from_float64_bits
    return [read(int(b)) for b in x.reshape(-1).view(f"uint{8 * x.dtype.itemsize}")]


def float_bits(x):
    """Binary32 patterns, all NaNs as one."""
    return np.where(np.isnan(x), 0x7FC00000, x.view(np.uint32)).reshape(-1).tolist()


def judged(x, name, axis=-1, platform=None, **options):
    """What the judge makes of an array: codes, scales, decoded patterns, zero points."""
    spec, place = judge.get_block(name), _place(name, axis)
    made = judge.encode_whole(exactly(x), x.shape, spec, place, **options)
    decoded = judge.decode_array(made, x.shape, spec, place, platform)
    return made, [0x7FC00000 if oracle.value(b, "binary32") == "nan" else b for b in decoded]


def stored_scales(q):
    """Scales as codes of their format."""
    return q.scales.view(f"uint{8 * q.scales.dtype.itemsize}").reshape(-1).tolist()


def same_scales(ours, theirs, fmt):
    """Scale codes that are equal, NaNs by class."""
    scale = fmt.scale_value_format
    as_values = [[nf.exact(c, scale) if nf.exact(c, scale) == "nan" else c for c in codes] for codes in (ours, theirs)]
    return as_values[0] == as_values[1]


def assert_judged(x, name, axis=-1, rounding=None, **options):
    """Codes, scales and values are the judge's."""
    fmt = nf.get_format(name)
    given = {} if rounding is None else {"rounding": rounding}
    if "random_bits" in options:
        n = options.get("random_bit_count", 32)
        judge_options = {**given, "randoms": options["random_bits"].reshape(-1).tolist(), "n": n}
        if rounding == "stochastic":
            judge_options.pop("n")
    else:
        judge_options = given
    q = nf.encode(x, name, axis=axis, **given, **options)
    made, decoded = judged(x, name, axis, **judge_options)
    assert q.scales.shape == judge.scales_shape(x.shape, judge.get_block(name), _place(name, axis))
    ours = float_bits(nf.decode(q))
    scales = stored_scales(q)
    bad = [i for i, (a, b) in enumerate(zip(ours, decoded, strict=True)) if a != b]
    where = "" if not bad else f"{name}: element {bad[0]} of {len(bad)}, x = {x.reshape(-1)[bad[0]]!r}"
    assert same_scales(scales, made.scales if q.nested is None else scales, fmt), (name, scales, made.scales)
    assert not bad, where
    if not any(m is None for m in made.codes):
        codes = q.codes.reshape(-1).tolist()
        wrong = [i for i, (a, b) in enumerate(zip(codes, made.codes, strict=True)) if a != b]
        assert not wrong, (name, wrong[:5], x.reshape(-1)[wrong[:5]], [codes[i] for i in wrong[:5]], [made.codes[i] for i in wrong[:5]])


def _place(name, axis):
    spec = judge.get_block(name)
    if spec.flat or spec.size == "tensor":
        return None
    return (-2, -1) if axis == -1 and isinstance(spec.size, tuple) and len(spec.size) == 2 else axis


def adversarial(name, k, seed=0, dtype=np.float32):
    """Blocks of k elements, one a row, whose amax and elements sit on and beside every boundary."""
    fmt = nf.get_format(name)
    rng = np.random.default_rng(seed)
    exponents = [-149, -148, -140, -130, -128, -127, -126, -125, -120, -60, -14, -10, -7, -1, 0, 1, 2, 3, 8, 9, 16, 60, 120, 125, 126, 127]
    heads = [1.0, 1.0 + 2**-23, 2 - 2**-23, 1.5, 1.5 + 2**-23, 1.5 - 2**-23, 1.75, 1.75 + 2**-23, 1.75 - 2**-23, 1.875, 1.9375, 1.9375 - 2**-23,
             1.984375, 127 / 64, 255 / 128]  # fmt: skip
    element = fmt.element
    values = sorted({v for v in (nf.exact(c, element) for c in range(2**min(element.bits, 8))) if isinstance(v, Fraction)})
    middles = [float((a + b) / 2) for a, b in pairwise(values)] + [float(v) for v in values]
    rows = []
    with np.errstate(all="ignore"):
        for e in exponents:
            for head in heads[seed % 2 :: 2]:
                amax = np.float32(np.ldexp(head, e))
                if not np.isfinite(amax):
                    continue
                scale = float(amax) / float(element.max)
                power = 2.0 ** (np.frexp(amax)[1] - 1 - int(np.frexp(float(element.max))[1]) + 1) if amax else 0.0
                for s in (scale, power):
                    row = (rng.choice(middles, k) * s).astype(np.float32)
                    near = rng.integers(-1, 2, k)
                    row = np.where(near > 0, np.nextafter(row, np.float32(np.inf)), np.where(near < 0, np.nextafter(row, np.float32(-np.inf)), row))
                    row = np.clip(row, -amax, amax).astype(np.float32)
                    row[rng.integers(k)] = amax * rng.choice([-1, 1])
                    rows.append(row)
    rows += [np.zeros(k), -np.zeros(k), np.full(k, 1e-45), np.full(k, 7.9999995), np.full(k, 127.99999), np.full(k, 3.4e38)]
    for bad in (np.nan, np.inf, -np.inf, -np.nan):
        row = rng.standard_normal(k)
        row[rng.integers(k)] = bad
        rows += [row, np.full(k, bad)]
    mixed = rng.standard_normal(k)
    mixed[: 2] = np.nan, np.inf
    rows += [mixed, rng.standard_normal(k) * 1e-3, rng.standard_normal(k) * 1e4]
    return np.array(rows).astype(dtype)


def size_of(fmt):
    """Elements of a block, for formats of one axis; a stand-in where that depends on the array."""
    return fmt.elements_per_block or 32


@pytest.mark.parametrize("name", without_twins(sorted(NAMED_BLOCKS)))
def test_named_formats_are_the_judges(name):
    fmt = nf.get_format(name)
    k = min(size_of(fmt), 48)
    rows = adversarial(name, k)
    if fmt.has_tensor_scale or fmt.block == () or len(fmt.block) == 2 or isinstance(fmt.scale, nf.BlockFormat):
        for start in range(0, len(rows), 5):  # small arrays: the tensor's amax varies
            assert_judged(np.ascontiguousarray(rows[start : start + 5]), name)
    else:
        rows = rows if k == size_of(fmt) or fmt.block == (-1,) else rows[:, : size_of(fmt)]
        assert_judged(rows, name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("element", ["e4m3fn", "e5m2", "e2m3", "e3m2", "e2m1", "s2f6", "int8", "e3m0"])
def test_rules_with_power_of_two_scales(element, rule):
    name = f"block({element}, scale=e8m0, size=8, rule={rule})"
    assert_judged(adversarial(name, 8, seed=1), name)


@pytest.mark.parametrize("scale", ["e4m3fn", "e5m2", "float32", "float16", "bfloat16", "ue4m3", "ue5m3"])
@pytest.mark.parametrize("element", ["e2m1", "e4m3fn", "int4", "int8", "nf4"])
def test_projected_scales(element, scale):
    name = f"block({element}, scale={scale}, size=8)"
    assert_judged(adversarial(name, 8, seed=2), name)


@pytest.mark.parametrize("scale", ["float32", "e5m2", "bfloat16"])
def test_powers_of_two_in_other_scale_formats(scale):
    for rule in ("floor", "power_of_two"):
        name = f"block(e4m3fn, scale={scale}, size=8, rule={rule})"
        assert_judged(adversarial(name, 8, seed=3), name)


@pytest.mark.parametrize("nonfinite", ["nan_scale", "propagate_elements", "saturate_inf"])
@pytest.mark.parametrize("element", ["e4m3fn", "e5m2", "e2m1", "s2f6"])
def test_blocks_that_hold_nan_and_infinity(element, nonfinite):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((60, 8)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.2] = np.inf
    x[rng.random(x.shape) < 0.1] = -np.inf
    assert_judged(x, f"block({element}, scale=e8m0, size=8, rule=floor, nonfinite={nonfinite})")


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mxint8", "block(e2m1, scale=e4m3fn, size=8)"])
@pytest.mark.parametrize("rounding", ["ties_to_away", "toward_zero", "toward_positive", "away_from_zero", "to_odd"])
def test_rounding_of_elements(name, rounding):
    assert_judged(adversarial(name, size_of(nf.get_format(name)), seed=5)[::4], name, rounding=rounding)


@pytest.mark.parametrize("name", ["mxfp4", "mxint8", "nvfp4", "block(e2m1, scale=e4m3fn, size=8)"])
def test_stochastic_rounding_of_elements(name):
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((5, 16)) * 3).astype(np.float32)
    for mode, n in (("stochastic", None), ("stochastic_a", 8), ("stochastic_b", 3), ("stochastic_c", 12)):
        bits = rng.integers(0, 2**32, x.shape, np.uint32)
        count = {} if n is None else {"random_bit_count": n}
        assert_judged(x, name, rounding=mode, random_bits=bits, **count)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("shape", [(5, 7, 9), (33, 2, 40), (2, 70, 3), (1, 1, 1), (0, 3, 4), (3, 0, 2), (3, 4, 0)])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "block(e4m3fn, scale=float32, size=5)", "int8_axis", "mx6"])
def test_every_axis_with_tails(name, axis, shape):
    x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    if name == "mx6" and x.size > 1000:
        x = x[:5]
    assert_judged(x, name, axis)


@pytest.mark.parametrize("axes", [(-2, -1), (0, 1), (1, 0), (0, 2), (2, 0)])
@pytest.mark.parametrize("size", ["2x3", "4x4", "16x16"])
def test_tiles_with_edges(size, axes):
    x = np.random.default_rng(8).standard_normal((5, 7, 6)).astype(np.float32)
    assert_judged(x, f"block(e2m1, scale=e8m0, size={size}, rule=floor)", axes)


@pytest.mark.parametrize("name", [*MX, "block(e2m1, scale=e4m3fn, size=8)", "block(e2m1, scale=float32, size=8)", "mxfp8_te"])
def test_binary64_operands(name):
    rng = np.random.default_rng(9)
    k = size_of(nf.get_format(name))
    x = adversarial(name, k, dtype=np.float64)[::6]
    x = np.nextafter(x, rng.choice([-np.inf, np.inf], x.shape))
    far = rng.standard_normal((6, k)) * np.array([1e300, 1e-300, 5e-324, 1e38, 1e39, 1e40])[:, None]
    assert_judged(np.concatenate([x, far]), name)
