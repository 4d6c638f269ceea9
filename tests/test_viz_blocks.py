"""What pictures of block formats show equals what numfmt computes; nothing warns."""

import numpy as np
import pytest

import numfmt as nf
from numfmt.statistics import measure

matplotlib = pytest.importorskip("matplotlib", reason="drawing needs matplotlib; pip install 'numfmt-emulator[viz]'")
matplotlib.use("Agg")


from numfmt import viz  # noqa: E402
from tests.support import drawn  # noqa: E402

RULES = {"floor": "mxfp4"} | {rule: f"block(e2m1, rule={rule})" for rule in ("even", "rceil", "ceil")}


def photo(rows=40, columns=70):
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "format", ["mxfp4", "nvfp4", "nvfp4_16x16", "e4m3fn", "block(uint4, scale=float32, size=tensor)"]
)
def test_a_photo_is_quantized_color_by_color(format):
    image = photo()
    values = viz.posterized(image, format)
    assert values.shape == image.shape
    if format in ("mxfp4", "e4m3fn"):  # formats whose scales do not see the other colours
        for color in range(3):
            expected = nf.quantize(image[..., color].astype(np.float32), format)
            assert np.array_equal(values[..., color], expected)


@pytest.mark.parametrize("axis", [0, -1])
def test_blocks_of_a_photo_lie_along_the_axis(axis):
    gray = photo()[..., 0]
    expected = nf.quantize(gray.astype(np.float32), "mxfp4", axis=axis)
    assert np.array_equal(viz.posterized(gray, "mxfp4", axis=axis), expected)
    stacked = np.stack([gray] * 3, axis=-1)
    assert np.array_equal(viz.posterized(stacked, "mxfp4", axis=axis)[..., 1], expected)


def test_photo_panels_show_the_photo_and_its_quantized_pixels():
    image = photo()
    figure = drawn(viz.photo_panels(image, {"photo": None, "mxfp4": "mxfp4", "mxfp6": "mxfp6", "nvfp4": "nvfp4"}))
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in panels] == ["photo", "mxfp4", "mxfp6", "nvfp4"]
    assert np.array_equal(panels[0].images[0].get_array(), image)
    pixels = np.clip(np.rint(viz.posterized(image, "mxfp4")), 0, 255)
    assert np.array_equal(panels[1].images[0].get_array(), pixels)
    assert len(drawn(viz.photo_panels(image[..., 0], ["mxfp4"])).axes) == 1


@pytest.mark.parametrize(
    ("format", "axis"), [("mxfp4", -1), ("mxfp4", 0), ("nvfp4_16x16", (-2, -1)), ("nvfp4", -1), ("int8_axis", 1)]
)
def test_a_scale_map_shows_every_scale(format, axis):
    x = np.random.default_rng(1).normal(size=(50, 70)).astype(np.float32)
    q = nf.encode(x, format, axis=axis)
    ax = drawn(viz.scale_map(x, format, axis=axis))
    shown = ax.images[0].get_array()
    assert shown.shape == q.scales.shape
    scale = q.scales if q.scales.dtype.kind == "f" else nf.decode(q.scales, q.format.scale, dtype=np.float64)
    assert np.allclose(2.0**shown, scale.astype(np.float64) * (q.tensor_scale or 1), rtol=1e-12)  # what is drawn is a logarithm
    assert ax.images[0].get_extent() == [0, 70, 50, 0]
    assert np.array_equal(drawn(viz.scale_map(None, q, title="")).images[0].get_array(), shown)


def test_a_scale_map_wants_a_matrix_in_blocks_along_axes():
    for x, format in ((np.ones(64), "mxfp4"), (np.ones((8, 8)), "q4_0"), (np.ones((8, 8)), "int8_tensor")):
        with pytest.raises(ValueError, match="a map takes a matrix"):
            viz.scale_map(x.astype(np.float32), format)


def test_block_maximum_shows_what_the_largest_element_becomes():
    ax = drawn(viz.block_maximum(RULES, steps=101))
    lines = {line.get_label(): line for line in ax.lines if line.get_label() in RULES}
    assert list(lines) == list(RULES)
    for name, line in lines.items():
        x, ratio = line.get_data()
        expected = [nf.quantize(np.float32([v]), RULES[name])[0] / v for v in x]
        assert np.array_equal(ratio, np.float32(expected))
    assert lines["floor"].get_ydata()[-1] < 0.76
    assert lines["rceil"].get_ydata()[-1] > 0.99
    drawn(viz.block_maximum(["int8_tensor", "int8_axis"], steps=11))


def test_rule_bars_show_the_statistics():
    x = np.random.default_rng(2).normal(size=(16, 128)).astype(np.float32)
    figure = drawn(viz.rule_bars(x, {**RULES, "nvfp4_16x16": "nvfp4_16x16"}))
    left, right = figure.axes
    found = {name: measure(x, rule) for name, rule in RULES.items()}
    widths = [bar.get_width() for bar in left.patches][: 3 * len(RULES)]
    shares = [[100 * s[share] for share in ("saturated", "last_bin", "underflow")] for s in found.values()]
    assert widths == pytest.approx(np.ravel(shares))  # widths of bars on a screen
    slopes = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert slopes[: len(RULES)] == [s.slope for s in found.values()]


def test_rule_bars_take_the_options_of_encode():
    x = np.random.default_rng(2).normal(size=(4, 64)).astype(np.float32)
    figure = drawn(viz.rule_bars(x, ["mxfp4"], rounding="stochastic", seed=3))
    slope = next(line.get_xdata()[0] for line in figure.axes[1].lines if line.get_marker() == "o")
    assert slope == measure(x, "mxfp4", rounding="stochastic", seed=3).slope


def test_landing_shows_every_value_that_occurs():
    x = np.random.default_rng(3).normal(0.95, 0.01, 1024).astype(np.float32)
    ax = drawn(viz.landing(x, ["mxfp8_e4m3", "mxfp4", "q4_0"]))
    for row, name in enumerate(("mxfp8_e4m3", "mxfp4", "q4_0"), start=1):
        places = ax.collections[row - 1].get_offsets()
        assert np.array_equal(places[:, 0], np.unique(nf.quantize(x, name)))
        assert set(places[:, 1]) == {row}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "mxfp8_e4m3", "mxfp4", "q4_0"]


@pytest.mark.parametrize("draw", [viz.block_maximum, lambda names: viz.rule_bars(np.ones(32), names)])
def test_scalar_formats_are_refused(draw):
    with pytest.raises(ValueError, match="a block format is wanted"):
        draw(["e4m3fn"])


def test_heat_map_writes_its_numbers():
    ax = drawn(viz.heat_map([[1.25, 2], [3, 4]], rows=["a", "b"], columns=["c", "d"], digits=1, label="x"))
    assert [text.get_text() for text in ax.texts] == ["1.2", "2.0", "3.0", "4.0"]
    assert np.array_equal(ax.images[0].get_array(), [[1.25, 2], [3, 4]])
    assert len(drawn(viz.heat_map(np.eye(24))).texts) == 0


def test_scatter_and_dots_show_their_numbers():
    ax = drawn(viz.scatter({"a": ([0, 1], [0.5, 0.9]), "b": ([1], [2])}, xlabel="x"))
    assert [line.get_label() for line in ax.lines[:2]] == ["a", "b"]
    assert ax.get_xlim() == ax.get_ylim()
    ax = drawn(viz.dots({"p": {"u": 1.0, "v": 2.0}, "q": {"u": 3.0}}, line=1.5))
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[1, 3], [2]]
    assert list(ax.lines[1].get_ydata()) == [0]
    drawn(viz.dots({"p": {"u": 0.001}, "q": {"u": 0.5}}, log=True))
