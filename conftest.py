"""For examples in docstrings, which no other conftest reaches."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Closes what an example has drawn; from 21 open figures on matplotlib warns."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
