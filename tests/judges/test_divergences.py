"""divergences.csv: every row is still true of the installed peer, and there is no difference that has no row."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import CLASSES, Row, assert_explained, nan_codes, options, rows
from tests.judges.operands import operands
from tests.judges.peers import PEERS, Peer, need_format

CASTS = [(name, *pair) for name in ("ml_dtypes", "numpy", "xla", "torch", "onnx") for pair in PEERS[name].pairs()]


def answer(peer: Peer, row: Row) -> str:
    """What a peer gives for the example of a row, in the table's notation."""
    fmt = row.format.split()[0]
    try:
        codes = peer.cast(row.operand(), fmt, *row.modes())
    except Exception as error:
        return type(error).__name__
    if row.theirs == "nan" and nan_codes(codes, fmt).all():
        return "nan"
    return hex(int(codes[0]))


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r.peer}-{r.source}-{r.format}-{r.operands}".replace(" ", "_"))
def test_a_row_of_the_table_is_true_of_the_installed_peer(row):
    x, fmt = row.operand(), row.format.split()[0]
    peer = need_format(row.peer, fmt)
    rounding, overflow = row.modes()
    assert row.includes(x, fmt).all()
    assert answer(peer, row) == row.theirs, f"outdated? measured with {row.measured}, installed: {peer.version}"
    assert hex(int(nf.encode(x, fmt, **options(rounding, overflow))[0])) == row.ours
    if row.platform:
        assert hex(int(nf.encode(x, fmt, **options(rounding, overflow, row.platform))[0])) == row.theirs


def test_rows_are_well_formed():
    for row in rows():
        assert row.operands in CLASSES
        assert row.platform in ("", PEERS[row.peer].platform)
        assert row.why
        assert row.theirs != row.ours
        assert set(row.source.split()) <= set(PEERS[row.peer].sources)
        assert row.format.split()[0] in PEERS[row.peer].formats


@pytest.mark.parametrize(("name", "source", "fmt"), CASTS)
def test_a_peer_differs_from_the_defaults_exactly_where_rows_say_so(name, source, fmt):
    """No difference without a row, and no row that lists this format and source without a difference."""
    x = operands(fmt, source)
    theirs = need_format(name, fmt).cast(x, fmt, "", "")
    assert_explained(name, source, fmt, x, theirs)
    concerned = [row for row in rows() if row.concerns(name, source, fmt, "", "")]
    differs = theirs != nf.encode(x, fmt)
    idle = [row.operands for row in concerned if not np.any(differs & row.includes(x, fmt))]
    assert not idle
