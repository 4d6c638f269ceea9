"""What is drawn equals the exact values; nothing warns; colours are one palette."""

import math
import re
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import numfmt as nf

matplotlib = pytest.importorskip("matplotlib", reason="drawing needs matplotlib; pip install 'numfmt-emulator[viz]'")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402

from numfmt import viz  # noqa: E402
from numfmt.carriers import floor_log2  # noqa: E402
from numfmt.named import NAMED  # noqa: E402
from numfmt.viz.layout import derivation  # noqa: E402
from numfmt.viz.style import spread  # noqa: E402
from numfmt.viz.values import number_text  # noqa: E402
from tests.support import drawn  # noqa: E402

SMALL = [
    "e2m1", "e3m0fn", "e3m2", "e4m3fn", "float8_e4m3", "e5m2", "e4m3fnuz", "e4m3b11fnuz", "ue4m3", "e8m0",
    "hif4_scale_e6m2",
    "cfloat8_1_4_3", "binary8p3se", "binary8p1uf", "binary6p6ue", "binary5p2sf", "float(e=4, m=3, subnormals=none)",
    "int4", "int8", "uint8", "uq0.8", "q3.4", "ap_fixed<8,-2>", "ap_fixed<4,7>", "fixed(bits=8, sign_magnitude=yes)",
    "nf4", "fp4_bnb", "ternary", "binary",
]  # fmt: skip
LARGE = ["e5m6", "uq4.8"]  # 12 bits: of 16 bits the drawing takes seconds
HUGE = [
    "bfloat16",
    "float16",
    "dlfloat16",
    "int16",
    "float32",
    "float64",
    "tf32",
    "x87_extended",
    "binary128",
    "binary256",
    "int32",
]


def numbers(name: str) -> list[Fraction]:
    table = [Fraction(0) if v == "-0" else v for v in nf.value_table(name)]
    return sorted({v for v in table if not isinstance(v, str)})


def ticks_on(ax, row: int) -> list[float]:
    """Where the vertical strokes of a row of a number line stand."""
    strokes = [segment for collection in ax.collections for segment in collection.get_segments()]
    return sorted(float(s[0, 0]) for s in strokes if math.isclose(s[:, 1].mean(), -row, abs_tol=1e-9))


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_number_line_has_a_tick_for_every_value(name):
    ax = drawn(viz.number_line(["e2m1", name]))
    assert ticks_on(ax, 0) == [float(v) for v in numbers("e2m1")]
    assert ticks_on(ax, 1) == [float(v) for v in numbers(name)]


@pytest.mark.parametrize("name", ["e2m1", "e5m2", "e8m0", "binary8p1uf", "q3.4", "uq0.8", "nf4", "ternary"])
@pytest.mark.parametrize("scale", ["log", "symlog"])
def test_number_line_draws_on_logarithmic_axes(name, scale):
    ax = drawn(viz.number_line(name, scale=scale))
    assert ticks_on(ax, 0) == [float(v) for v in numbers(name) if scale == "symlog" or v > 0]


def test_number_line_keeps_to_its_limits():
    ax = viz.number_line("e4m3fn", limits=(1, 2))
    assert ticks_on(ax, 0) == [1 + k / 8 for k in range(9)]


def test_number_line_marks_subnormals():
    ax = viz.number_line("e4m3fn")
    orange = next(c for c in ax.collections if to_rgb(c.get_color()[0]) == to_rgb(viz.CLASS_COLORS["subnormal"]))
    assert sorted(s[0, 0] for s in orange.get_segments()) == [k / 512 for k in range(-7, 8) if k]


def test_number_line_refuses_a_logarithm_of_zero():
    with pytest.raises(ValueError, match="positive"):
        viz.number_line("e2m1", scale="log", limits=(0, 1))


@pytest.mark.parametrize("name", SMALL + LARGE + HUGE)
def test_bit_layout_draws_a_box_for_every_bit(name):
    f = nf.get_format(name)
    code = ((1 << (f.bits - 1)) | 5) % 2**f.bits
    ax = drawn(viz.bit_layout(name, code))
    drawn(viz.bit_layout(name))
    colors = [to_rgb(patch.get_facecolor()) for patch in ax.patches]
    expected = [to_rgb(viz.FIELD_COLORS[field.kind]) for field in viz.fields(name) for _ in range(field.width)]
    assert colors == expected if f.bits <= 34 else set(colors) == set(expected)
    assert ax.texts[-1].get_text() == derivation(f, code)
    digits = [text.get_text() for text in ax.texts if text.get_text() in "01" and text.get_color() == "white"]
    if f.bits <= 34:
        assert "".join(digits) == f"{code:0{f.bits}b}"


@pytest.mark.parametrize("name", SMALL + LARGE + HUGE)
def test_fields_fill_the_code(name):
    assert sum(field.width for field in viz.fields(name)) == nf.get_format(name).bits
    assert {field.kind for field in viz.fields(name)} <= set(viz.FIELD_COLORS)


def terms_value(text: str) -> Fraction:
    """The number that a derivation of a float says: ± significand × power."""
    sign, leading, digits, power = re.match(r"\$([+−]?)\\,(?:(\d)\.(\d+)_2 × )?2\^\{(.+?)\}\$", text).groups()
    significand = Fraction(int((leading or "1") + (digits or ""), 2), 2 ** len(digits or ""))
    value = significand * Fraction(2) ** sum(int(n) for n in re.findall(r"[+-]?\d+", power.replace("−", "-")))
    return -value if sign == "−" else value


@pytest.mark.parametrize("name", [n for n in SMALL if isinstance(nf.get_format(n), nf.FloatFormat)])
def test_derivation_is_exact_for_every_code(name):
    for code, value in enumerate(nf.value_table(name)):
        text = derivation(nf.get_format(name), code)
        if isinstance(value, str) or value == 0:
            assert text == {"nan": "NaN", "inf": "∞", "-inf": "−∞", "-0": "−0"}.get(value, "0")
        else:
            assert terms_value(text) == value


@pytest.mark.parametrize("name", [n for n in SMALL if not isinstance(nf.get_format(n), nf.FloatFormat)])
def test_fixed_and_listed_codes_end_with_their_value(name):
    for code, value in enumerate(nf.value_table(name)):
        assert derivation(nf.get_format(name), code).endswith(number_text(value, 9))


@pytest.mark.parametrize("name", SMALL)
def test_classes_agree_with_the_values(name):
    f, found = nf.get_format(name), viz.classes(name)
    for code, (kind, value) in enumerate(zip(found, nf.value_table(name), strict=True)):
        match kind:
            case "zero":
                assert value in (0, "-0")
            case "infinity":
                assert value in ("inf", "-inf")
            case "nan" | "unused":
                assert value == "nan"
            case "subnormal":
                assert 0 < abs(value) < f.min_normal
            case "normal":
                assert value != 0
        assert kind in viz.CLASS_COLORS, code


def test_codes_of_missing_subnormals_are_unused():
    assert viz.classes("float(e=4, m=3, subnormals=none)").count("unused") == 14
    assert viz.classes("ternary") == ["normal", "zero", "normal", "unused"]
    assert viz.classes("e4m3fn").count("nan") == 2


@pytest.mark.parametrize("name", SMALL)
def test_code_map_has_a_square_for_every_code(name):
    figure = drawn(viz.code_map([name, "e2m1"]))
    mesh = figure.axes[0].collections[0]
    order = list(viz.CLASS_COLORS)
    assert [order[int(i)] for i in np.ravel(mesh.get_array())] == viz.classes(name)


def test_code_map_refuses_long_codes():
    with pytest.raises(ValueError, match="at most 12"):
        viz.code_map("float16")


def test_dynamic_range_draws_every_named_format():
    ax = drawn(viz.dynamic_range())
    labels = {label.get_text() for label in ax.get_yticklabels()}
    assert labels >= set(NAMED)


@pytest.mark.parametrize("name", [n for n in SMALL + LARGE if isinstance(nf.get_format(n), nf.FloatFormat)])
def test_dynamic_range_bars_meet_the_least_normal_and_largest_value(name):
    f = nf.get_format(name)
    subnormal, normal = viz.dynamic_range([name]).patches
    ends = [
        subnormal.get_x(),
        subnormal.get_x() + subnormal.get_width(),
        normal.get_x(),
        normal.get_x() + normal.get_width(),
    ]
    values = (f.min_positive, f.min_normal, f.min_normal, f.max)
    assert np.allclose(ends, [math.log2(v) for v in values], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_codes_per_binade_counts_every_positive_value(name):
    ax = drawn(viz.codes_per_binade(name))
    level = {int(x[0]): int(y[0]) for x, y in (line.get_data() for line in ax.lines) if x[0] != x[1]}
    exponents = [math.frexp(v)[1] - 1 for v in map(float, numbers(name)) if v > 0]
    assert level == {e: exponents.count(e) for e in set(exponents)}


MODES = [m.value for m in nf.Rounding]


FLOAT_MODES = [m for m in MODES if m not in ("ties_to_positive", "ties_to_negative")]  # the two are for fixed point


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in ("e2m1", "e3m2", "binary5p2sf", "ternary") for mode in FLOAT_MODES]
    + [("int4", mode) for mode in MODES],
)
def test_staircase_steps_and_ties_are_what_the_mode_says(name, mode):
    ax = drawn(viz.rounding_staircase(name, [mode])).axes[0]
    values = {float(v) for v in numbers(name)}
    lines = {line.get_label(): line.get_data() for line in ax.lines}
    assert {x for x, y in zip(*lines["values"], strict=True) if x == y} == values
    if mode.startswith("stochastic"):
        x, y = lines["sample"]
        assert y.tolist() == nf.quantize(x, name, rounding=mode, seed=0).tolist()
        return
    for (start, y), (stop, _) in next(c for c in ax.collections if c.get_label() == "steps").get_segments():
        assert nf.quantize((start + stop) / 2 + (stop - start) / 8, name, rounding=mode) == y
        assert nf.quantize((start + stop) / 2 - (stop - start) / 8, name, rounding=mode) == y
    if mode.startswith("ties"):
        ordered = sorted(values)
        middles = [(a + b) / 2 for a, b in pairwise(ordered)]
        assert lines["ties"][0].tolist() == middles
        assert lines["ties"][1].tolist() == nf.quantize(middles, name, rounding=mode).tolist()


def test_staircase_refuses_limits_without_two_values():
    with pytest.raises(ValueError, match="has values from -6 to 6"):
        viz.rounding_staircase("e2m1", limits=(10, 20))


@pytest.mark.parametrize("name", [*SMALL, "bfloat16", "float32"])
def test_relative_error_draws(name):
    drawn(viz.relative_error(name))


def test_relative_error_draws_percents():
    drawn(viz.relative_error(["e2m1", "e8m0", "int8", "nf4"], scale="linear", limits=(2**-8, 2**8)))


@pytest.mark.parametrize("name", ["e2m1", "e4m3fn", "e5m2", "e4m3fnuz", "binary8p3se", "ue4m3", "q3.4", "nf4"])
@pytest.mark.parametrize("mode", ["ties_to_even", "toward_zero", "to_odd"])
def test_relative_errors_are_exact_and_below_the_worst_case(name, mode):
    f = nf.get_format(name)
    ax = viz.relative_error(name, rounding=mode, limits=(float(f.min_positive), float(f.max)))
    x, error = ax.lines[0].get_data()
    places, worst = ax.lines[1].get_data()
    assert error.tolist() == (np.abs(nf.quantize(x, f, rounding=mode) - x) / x).tolist()
    values = [float(v) for v in numbers(name) if v > 0]
    assert set(values) <= set(x)
    assert np.all(error[np.isin(x, values)] == 0)
    for low, high in pairwise(values):
        inside, near = (x > low) & (x < high), (places > low) & (places < high)
        bound = (worst * places)[near]
        assert np.all((error * x)[inside] <= bound.max(initial=high - low) * (1 + 1e-12))


def test_relative_error_reaches_half_a_quantum():
    x, error = viz.relative_error("e4m3fn", limits=(1, 2)).lines[0].get_data()
    assert error.max() == (1 / 16) / (1 + 1 / 16)
    assert x[error.argmax()] == 1 + 1 / 16


@pytest.mark.parametrize("limits", [(0, 1), (2, 1), (-1, 1)])
def test_relative_error_refuses_limits(limits):
    with pytest.raises(ValueError, match="positive and ascending"):
        viz.relative_error("e2m1", limits=limits)


@pytest.mark.parametrize("x", [1 + 2**-8 + 2**-25, -1 - 2**-8 - 2**-25, 1 + 3 * 2**-8 - 2**-26])
def test_double_rounding_shows_the_way_that_goes_wrong(x):
    ax = drawn(viz.double_rounding(x, "float32", "bfloat16"))
    arrows = {round(a.xy[1]): a for a in ax.texts if isinstance(a, matplotlib.text.Annotation) and abs(a.xy[0]) == 3}
    sides = [arrows[y].xy[0] for y in (2, 1, 0)]
    direct, twice = nf.quantize(x, "bfloat16"), nf.quantize(nf.quantize(x, "float32"), "bfloat16")
    assert direct != twice
    assert sides == [
        math.copysign(3, direct - twice),
        math.copysign(3, twice - direct),
        math.copysign(3, direct - twice),
    ]
    assert arrows[1].arrow_patch.get_edgecolor() != arrows[0].arrow_patch.get_edgecolor()


def test_double_rounding_refuses_a_value_of_the_target():
    with pytest.raises(ValueError, match="between two"):
        viz.double_rounding(1.5, "float32", "bfloat16")


def test_curves_draws_single_lines_and_means():
    x, many = np.arange(1, 5), np.arange(8.0).reshape(4, 2)
    ax = drawn(viz.curves({"one": (x, x**2), "many": (x, many)}, xlabel="x", ylabel="y", log="xy"))
    assert ax.lines[0].get_ydata().tolist() == [1, 4, 9, 16]
    assert ax.lines[-1].get_ydata().tolist() == many.mean(axis=1).tolist()
    assert {text.get_text() for text in ax.texts} == {"one", "many"}


def test_drawing_goes_into_given_axes_and_leaves_the_style():
    before = dict(plt.rcParams)
    figure, (left, right) = viz.panels(1, 2)
    assert viz.number_line("e2m1", ax=left) is left
    assert viz.relative_error("e2m1", ax=right) is right
    assert len(plt.get_fignums()) == 1
    assert dict(plt.rcParams) == before
    drawn(figure)


def test_labels_do_not_overlap():
    for positions in ([0.0, 0.0, 0.0], [0.0, 0.05, 0.5, 0.52, 0.9], [0.3]):
        placed = spread(positions, 0.1)
        assert np.all(np.diff(placed) >= 0.1 - 1e-12)
        assert math.isclose(sum(placed), sum(positions))


def luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_white_digits_are_readable_in_every_field():
    for name, color in viz.FIELD_COLORS.items():
        assert 1.05 / (luminance(color) + 0.05) >= 3, name  # WCAG 2.2 §1.4.3, large bold text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(-13, 2), "−6.5"),
        (Fraction(1, 3), "≈ 0.3333333"),
        (Fraction(2) ** -50, "$2^{−50}$"),
        (3 * Fraction(2) ** 99, "1.5 × $2^{100}$"),
        (-(Fraction(2) ** 1024 - Fraction(2) ** 971), "≈ −$2^{1024}$"),
        ("-inf", "−∞"),
        ("-0", "−0"),
    ],
)
def test_numbers_as_text(value, text):
    assert number_text(value) == text


def test_exponent_is_exact_beside_powers_of_two():
    for e in (-300, -1, 0, 1, 300):
        power, least = Fraction(2) ** e, Fraction(2) ** -2000
        assert [floor_log2(power - least), floor_log2(power), floor_log2(power + least)] == [e - 1, e, e]
