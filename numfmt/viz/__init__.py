"""Drawing of formats and of rounding, in one style; needs matplotlib (the extra `viz`), which is imported on use.

Every function that draws one panel takes `ax` and returns the Axes; those of several panels return the Figure.

    >>> from numfmt import viz
    >>> ax = viz.number_line(["e2m1", "int4"])
    >>> figure = viz.rounding_staircase("e2m1", ["ties_to_even", "toward_zero"])
"""

from .blocks import block_maximum, dots, heat_map, landing, photo_panels, posterized, rule_bars, scale_map, scatter
from .errors import curves, double_rounding, relative_error, rounding_staircase
from .layout import bit_layout, code_map
from .lines import codes_per_binade, dynamic_range, number_line
from .style import CLASS_COLORS, FIELD_COLORS, SERIES_COLORS, STYLE, panels
from .training import loss_gaps, magnitudes, verdicts
from .values import Field, classes, fields

__all__ = [
    "CLASS_COLORS",
    "FIELD_COLORS",
    "SERIES_COLORS",
    "STYLE",
    "Field",
    "bit_layout",
    "block_maximum",
    "classes",
    "code_map",
    "codes_per_binade",
    "curves",
    "dots",
    "double_rounding",
    "dynamic_range",
    "fields",
    "heat_map",
    "landing",
    "loss_gaps",
    "magnitudes",
    "number_line",
    "panels",
    "photo_panels",
    "posterized",
    "relative_error",
    "rounding_staircase",
    "rule_bars",
    "scale_map",
    "scatter",
    "verdicts",
]
