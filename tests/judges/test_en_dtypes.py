"""Value tables of en_dtypes 0.0.4."""

import csv

import numpy as np

import numfmt as nf
from tests.support import assert_same_bits


def test_e1m2_has_the_values_of_en_dtypes(golden):
    with golden("en_dtypes-value-tables", "float4_e1m2.csv").open(newline="", encoding="ascii") as lines:
        rows = list(csv.DictReader(lines))
    codes = [int(row["code"], 0) for row in rows]
    expected = np.float32([float.fromhex(row["value"]) for row in rows])
    assert sorted(codes) == list(range(16))
    assert_same_bits(nf.decode(codes, "float4_e1m2"), expected)
