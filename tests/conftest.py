"""Hypothesis profiles, and where the published golden files lie."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# The slow and obvious oracle is a legitimate reason for a slow example.
SLOW_JUDGE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, database=None, print_blob=True, max_examples=100, **SLOW_JUDGE)
settings.register_profile("deep", max_examples=5000, print_blob=True, **SLOW_JUDGE)
settings.load_profile("ci")  # --hypothesis-profile overrides it

ORIGINALS = {
    "berkeley-testfloat": "output of testfloat_gen of Berkeley TestFloat 3e (level 1, seed 1)",
    "en_dtypes-value-tables": "values of PyPI en_dtypes 0.0.4",
    "tensor-cores": "GitHub north-numerical-computing/MATLAB-tensor-core, folder model_validation",
}


def golden_path(folder: str, name: str = "") -> Path:
    """Path of a published golden file; skips the test, saying where the original comes from, if it is not here."""
    root = Path(os.environ.get("NUMFMT_GOLDEN") or ROOT.parent / "shared" / "golden")
    path = root / folder / name
    if not path.exists():
        pytest.skip(f"no {path}; NUMFMT_GOLDEN names the folder; the original: {ORIGINALS[folder]}")
    return path


@pytest.fixture(scope="session")
def golden() -> Callable[..., Path]:
    """`golden_path`, for tests that take it as an argument: golden("berkeley-testfloat", "f32_to_f16.odd.txt")."""
    return golden_path
