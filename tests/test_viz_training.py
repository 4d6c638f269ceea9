"""Pictures of training runs and tables show the numbers that they are given; nothing warns."""

import numpy as np
import pytest

import numfmt as nf

matplotlib = pytest.importorskip("matplotlib", reason="drawing needs matplotlib; pip install 'numfmt-emulator[viz]'")
matplotlib.use("Agg")


from numfmt import viz  # noqa: E402
from tests.support import drawn  # noqa: E402


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_loss_gaps_are_percent_above_the_reference():
    plain = np.linspace(4, 2, 40)
    left, right = drawn(viz.loss_gaps({"float32": plain, "mxfp8": 1.01 * plain}, window=4)).axes
    gap = lines_of(right)["mxfp8"]
    assert gap.get_ydata() == pytest.approx(np.ones(37))  # what is drawn is a quotient of means
    assert list(gap.get_xdata()) == list(range(4, 41)), "a mean stands at the last of its steps"
    expected = [plain[i : i + 4].mean() for i in range(37)]
    assert lines_of(left)["float32"].get_ydata() == pytest.approx(expected)  # what is drawn is a quotient of floats
    assert np.all(lines_of(right)["float32"].get_ydata() == 0)


def test_several_runs_are_thin_lines_under_their_mean():
    plain = np.full(10, 2.0)
    runs = np.stack([plain * 1.01, plain * 1.03], axis=1)
    right = drawn(viz.loss_gaps({"float32": plain, "nvfp4": runs}, window=2)).axes[1]
    assert lines_of(right)["nvfp4"].get_ydata() == pytest.approx(np.full(9, 2.0))  # what is drawn is a quotient of floats
    thin = [line.get_ydata()[0] for line in right.lines if line.get_linewidth() == 0.5]
    assert thin == pytest.approx([1, 3])  # what is drawn is a quotient of floats


def test_a_window_longer_than_the_run_and_many_runs_are_drawn():
    figure = drawn(viz.loss_gaps({name: [3.0, 2.0] for name in "abcdefghi"}, reference="a"))
    assert len(lines_of(figure.axes[0])["a"].get_ydata()) == 1
    looks = {(line.get_color(), line.get_linestyle()) for line in lines_of(figure.axes[1]).values()}
    assert len(looks) == 9, "no two runs look alike"


def test_the_reference_must_be_one_of_the_runs():
    with pytest.raises(ValueError, match=r"reference='float32' is given; it is one of the runs: mxfp8"):
        viz.loss_gaps({"mxfp8": [1.0]})


@pytest.mark.parametrize("name", ["e2m1", "e4m3fn", "e5m2"])
def test_magnitudes_says_which_share_becomes_zero(name):
    x = np.random.default_rng(0).standard_normal(4096) * 2.0 ** np.random.default_rng(1).integers(-24, 4, 4096)
    ax = drawn(viz.magnitudes(x, [name]))
    share = np.mean(nf.quantize(x, name) == 0)
    assert ax.texts[0].get_text() == f"{share:.1%} to zero"


def test_magnitudes_draws_ranges_where_formats_have_them():
    fmt = nf.get_format("e4m3fn")
    subnormal, normal = drawn(viz.magnitudes([0.0, 1e-3, -2.0], ["e4m3fn"])).patches[:2]
    edges = [subnormal.get_x(), normal.get_x(), normal.get_x() + normal.get_width()]
    assert edges == pytest.approx([float(fmt.min_positive), float(fmt.min_normal), float(fmt.max)])  # of logarithms


def test_magnitudes_puts_the_largest_value_at_the_top():
    fmt = nf.get_format("e2m1")
    subnormal, normal = drawn(viz.magnitudes([0.5, 1.0], ["e2m1", "q3.4"], top=1)).patches[:2]
    assert normal.get_x() + normal.get_width() == pytest.approx(1)  # of a logarithm
    assert subnormal.get_x() == pytest.approx(float(fmt.min_positive / fmt.max))  # what is drawn is a quotient of floats


def test_magnitudes_of_zeros_alone_is_refused():
    with pytest.raises(ValueError, match="no element that is finite and not zero"):
        viz.magnitudes(np.zeros(4), ["e2m1"])


def test_verdicts_say_what_is_wrong():
    table = {
        "a": {"obvious": (3, 1000), "ours": (0, 4096)},
        "b": {"obvious": (1, 1), "ours": (0, 1)},
        "c": {"obvious": "error"},
    }
    ax = drawn(viz.verdicts(table))
    assert [text.get_text() for text in ax.texts] == ["3 of 1,000", "✓  4,096", "wrong", "✓", "error"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["obvious", "ours"]
    colors = [bar.get_facecolor()[:3] for bar in ax.patches]
    assert colors[0] == colors[2] == colors[4] != colors[1] == colors[3]
