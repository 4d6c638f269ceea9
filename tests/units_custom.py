"""Dot-product units that turn every parameter of DotUnit at least once in every kind where it is read."""

from numfmt.units import DotUnit

FP8, MIX = ("e4m3fn", "e5m2"), ("e5m2", "e4m3fn", "e2m3", "e2m1")
DETERMINISTIC = (
    "ties_to_even", "ties_to_away", "ties_to_zero", "ties_to_odd", "toward_zero", "toward_positive", "toward_negative",
    "away_from_zero", "to_odd",
)  # fmt: skip
STOCHASTIC = ("stochastic", "stochastic_a", "stochastic_b", "stochastic_c")


def aligned(**fields):
    return {"inputs": FP8, "kind": "aligned", "length": 4, "fraction": 10, **fields}


def late(**fields):
    return aligned(addend="late", **fields)


def chain(**fields):
    return {"inputs": "e5m2", "kind": "chain", "accumulator": "float16", **fields}


def tree(**fields):
    return {"inputs": "bfloat16", "kind": "tree", "length": 4, "product": "float32", "addend": "late", **fields}


def exact(**fields):
    return {"inputs": "float16", "kind": "exact", "length": 3, **fields}


def fixed(**fields):
    return {"inputs": ("int8", "uint8"), "kind": "fixed", "length": 4, "accumulator": "int16", **fields}


def kahan(**fields):
    return {"inputs": "bfloat16", "kind": "kahan", "accumulator": "bfloat16", **fields}


def neumaier(**fields):
    return kahan(kind="neumaier", **fields)


ALIGNED = {
    **{f"F={f}": aligned(fraction=f) for f in (0, 1, 3, 24, 40)},
    "F=52": aligned(fraction=52, inputs="e2m3"),
    "alignment toward_negative": aligned(alignment="toward_negative", fraction=4),
    "alignment ties_to_even": aligned(alignment="ties_to_even", fraction=3),
    "alignment to_odd": aligned(alignment="to_odd", fraction=5),
    **{f"rounding {r}": aligned(rounding=r, accumulator="float16", fraction=14) for r in DETERMINISTIC},
    **{f"overflow {o}": aligned(rounding="toward_zero", overflow=o, accumulator="e4m5", inputs="float16") for o in ("infinity", "saturate")},
    "no infinity": aligned(accumulator="e4m3fn", fraction=6),
    "length None": aligned(length=None, fraction=9),
    "length 1": aligned(length=1, fraction=12),
    "length 5 float16": aligned(length=5, inputs="float16", fraction=23),
    "odd inputs": aligned(inputs=("e4m3fnuz", "binary8p3se", "cfloat8_1_4_3", "e8m0", "ue4m3")),
    "fixed-point inputs": aligned(inputs=("int8", "e5m2", "q2.3")),
    "bfloat16 into bfloat16": aligned(inputs="bfloat16", accumulator="bfloat16", fraction=8),
    "float32 into float64": aligned(inputs="tf32", accumulator="float64", fraction=52, length=3),
    "zero_exponent low": aligned(zero_exponent=-20, inputs="e5m2", fraction=6),
    "zero_exponent high": aligned(zero_exponent=9, fraction=6),
    "zero positive": aligned(zero="positive", nan=0x7FFFFFFF),
    "zero positive downward": aligned(zero="positive", rounding="toward_negative"),
    "flush signed": aligned(flush_inputs="signed", accumulator="float16", fraction=16),
    "flush positive": aligned(flush_inputs="positive", flush_results=True, accumulator="float16", fraction=16),
    "product_limit": aligned(product_limit=7, accumulator="float16"),
    "addend_format float16": aligned(addend_format="float16", fraction=24),
    "addend_format float32": aligned(addend_format="float32", accumulator="e8m13", fraction=13, rounding="toward_zero"),
    "addend_format wider": aligned(addend_format="float32", accumulator="float16", fraction=20),
    "group": aligned(group=2, fraction=8, inputs=("e4m3fn", "e2m3")),
    "group of all": aligned(group=4, length=None, fraction=20, inputs=("e3m2", "e4m3fn")),
    "scales": aligned(scales="e8m0", scale_blocks=4, fraction=12),
    "scales with group": aligned(scales="ue4m3", scale_blocks=4, group=2, inputs="e2m1", fraction=7),
    "scales with a sign": aligned(scales="e4m3fn", scale_blocks=2, scale_signs=True, inputs="e2m1", fraction=12),
    "promotion": aligned(promote_every=6, accumulator="e8m13", fraction=13, rounding="toward_zero"),
    "promotion inside a step": aligned(promote_every=3, promoted="bfloat16", accumulator="float16"),
    "promotion of groups": aligned(promote_every=8, group=2, inputs="e4m3fn", scales="e8m0", scale_blocks=2, promoted="float64", nan=0x7FF8000000000001),
    **{f"rounding {r}": aligned(rounding=r, accumulator="float16", fraction=20) for r in STOCHASTIC},
}  # fmt: skip

LATE = {
    "late": late(),
    "late, two roundings": late(rounding="toward_zero", late_rounding="ties_to_even", fraction=25, inputs="float16"),
    "late, to a narrow one": late(rounding="to_odd", late_rounding="toward_negative", accumulator="float16", flush_results=True),
    "late, zero positive": late(zero="positive", zero_exponent=-8, overflow="infinity", accumulator="e4m5"),
    "late, fraction": late(late_fraction=14, inputs="float16"),
    "late, small fraction": late(late_fraction=5, fraction=9, zero_exponent=-4, rounding="toward_zero"),
    "late, reach": late(late_fraction=12, late_reach=11, product_limit=10),
    "late, reach 0": late(late_fraction=12, late_reach=0, zero_exponent=-3, alignment="to_odd"),
    "late, even and odd": late(order="even_odd", fraction=6),
    "late, even and odd, fraction": late(order="even_odd", late_fraction=17, late_reach=11, length=5, alignment="toward_negative"),
    "late, even and odd, zero_exponent": late(order="even_odd", zero_exponent=-6, fraction=5, late_rounding="away_from_zero"),
    "late, fraction of groups": late(late_fraction=14, group=2, inputs="e2m1"),
    "late, addend_format": late(addend_format="bfloat16", rounding="toward_zero", late_fraction=20, flush_inputs="signed"),
    "late, promotion": late(promote_every=8, accumulator="bfloat16"),
    "late, stochastic": late(rounding="stochastic_b", accumulator="float16", fraction=20),
    "late, stochastic once": late(rounding="stochastic_c", late_fraction=22, accumulator="bfloat16", fraction=20),
    "late, stochastic, late nearest": late(rounding="stochastic", late_rounding="ties_to_even", accumulator="bfloat16", fraction=20),
}  # fmt: skip

CHAIN = {
    "chain": chain(inputs="bfloat16", accumulator="float32"),
    "chain of float64": chain(inputs="float64", accumulator="float64"),
    **{f"chain {r}": chain(rounding=r) for r in DETERMINISTIC},
    **{f"chain {o}": chain(overflow=o, rounding="toward_zero", product="bfloat16") for o in ("infinity", "saturate")},
    "chain without infinity": chain(accumulator="e4m3fn", product="e4m3fn"),
    "chain, products": chain(product="float16", accumulator="bfloat16", product_rounding="toward_zero"),
    "chain, narrow products": chain(inputs="e4m3fn", product="e5m2", product_rounding="to_odd", flush_results=True, rounding="toward_positive"),
    "chain, tiny": chain(inputs="bfloat16", flush_results="tiny"),
    "chain, tiny upward": chain(inputs="e5m2", accumulator="float16", flush_results="tiny", rounding="toward_positive"),
    "chain, odd first": chain(order="odd_first", length=2, flush_inputs="signed", flush_results=True),
    "chain, odd first of 5": chain(order="odd_first", length=5, product="float16"),
    "chain, late": chain(addend="late", length=3, late_rounding="toward_zero"),
    "chain, late, odd first": chain(addend="late", length=4, order="odd_first"),
    "chain, even and odd": chain(addend="late", length=6, order="even_odd", rounding="away_from_zero", late_rounding="ties_to_away"),
    "chain, even and odd, products": chain(addend="late", length=5, order="even_odd", product="bfloat16", flush_results=True),
    "chain, length None": chain(addend="late", length=None, addend_format="float32", zero="positive"),
    "chain, addend_format": chain(addend_format="float32", nan=0xFE01),
    "chain, flush positive": chain(flush_inputs="positive", inputs=MIX),
    "chain, promotion": chain(promote_every=4, promoted="float32", accumulator="float16"),
    "chain, fixed-point inputs": chain(inputs=("q3.4", "e4m3fn")),
    "chain, zero positive downward": chain(zero="positive", rounding="toward_negative"),
    **{f"chain {r}": chain(rounding=r) for r in STOCHASTIC},
    "chain, stochastic, odd first": chain(rounding="stochastic_a", order="odd_first", length=4, product="float16"),
    "chain, stochastic, even and odd": chain(rounding="stochastic", order="even_odd", length=4, addend="late"),
    "chain, stochastic, promotion": chain(rounding="stochastic", promote_every=3, accumulator="bfloat16"),
}  # fmt: skip

OTHERS = {
    "tree": tree(),
    "tree of 5": tree(length=5, rounding="toward_zero", late_rounding="ties_to_even"),
    "tree of all": tree(length=None, inputs="e5m2", product="e5m7", accumulator="float16"),
    "tree to odd": tree(length=7, product="bfloat16", product_rounding="to_odd", rounding="to_odd", overflow="infinity"),
    "tree, flushed": tree(inputs="float16", product="float16", accumulator="float16", flush_inputs="positive", flush_results=True),
    "tree, addend_format": tree(zero="positive", nan=0x7FFFFFFF, addend_format="float16"),
    "tree, promotion": tree(inputs=FP8, accumulator="bfloat16", promote_every=8, overflow="saturate", rounding="toward_positive"),
    "exact": exact(),
    "exact of all": exact(length=None, inputs="bfloat16"),
    "exact, late": exact(addend="late", rounding="toward_zero", late_rounding="toward_negative"),
    "exact, narrow": exact(inputs=FP8, accumulator="e4m5", overflow="infinity", rounding="toward_zero", flush_results=True),
    "exact, saturated": exact(inputs=FP8, accumulator="e4m3fn", overflow="saturate", flush_inputs="signed", length=1),
    "exact, addend_format": exact(addend_format="float64", zero="positive", inputs="float32"),
    "exact, product_limit": exact(product_limit=17, addend="late", accumulator="bfloat16"),
    "exact, scales": exact(inputs="e2m1", scales="e4m3fn", scale_blocks=16, length=16),
    "exact, promotion": exact(inputs=FP8, accumulator="e5m7", promote_every=5, promoted="float16"),
    "exact, fixed-point inputs": exact(inputs=("int8", "q1.6", "e4m3fn"), accumulator="float16"),
    **{f"exact {r}": exact(rounding=r, accumulator="float16", inputs="e5m2") for r in STOCHASTIC},
    "exact, late, stochastic": exact(rounding="stochastic", addend="late", accumulator="bfloat16"),
    "fixed": fixed(),
    "fixed, wrap": fixed(overflow="wrap"),
    "fixed, saturate": fixed(overflow="saturate", length=1),
    "fixed of all": fixed(length=None, accumulator="q7.4", inputs=("q2.5", "q0.7"), overflow="wrap", product_rounding="toward_negative"),
    **{f"fixed, products {r}": fixed(inputs=("q2.5", "e2m3"), accumulator="q5.3", product_rounding=r) for r in DETERMINISTIC},
    "fixed, unsigned": fixed(inputs="uint8", accumulator="uint16"),
    "fixed, unsigned, wrap": fixed(inputs="uint8", accumulator="uint16", overflow="wrap", length=3),
    "fixed, coarse": fixed(inputs=("e2m3", "e3m2"), accumulator="int8", product_rounding="ties_to_away"),
    "fixed, scales": fixed(inputs="int8", accumulator="q15.16", scales="e4m3fn", scale_blocks=4, scale_signs=True, product_rounding="toward_zero"),
    "fixed, addend_format": fixed(addend_format="int8", accumulator="int32"),
    **{f"kahan {r}": kahan(rounding=r) for r in ("ties_to_even", "toward_zero", "toward_negative", "to_odd")},
    "kahan float16": kahan(accumulator="float16", inputs="e5m2", flush_results=True, flush_inputs="signed"),
    "kahan, infinity": kahan(accumulator="e4m5", inputs=FP8, overflow="infinity", zero="positive", addend_format="float16"),
    "kahan, promotion": kahan(promote_every=5, inputs="float16"),
    **{f"neumaier {r}": neumaier(rounding=r) for r in ("ties_to_even", "toward_zero", "toward_positive", "ties_to_away")},
    "neumaier float16": neumaier(accumulator="float16", inputs="e5m2", flush_results=True, nan=0x7FFF),
    "neumaier, saturate": neumaier(accumulator="e4m5", inputs=FP8, overflow="saturate", addend_format="float32"),
    "neumaier, promotion": neumaier(inputs="e5m2", promote_every=8, accumulator="float16", promoted="bfloat16"),
}  # fmt: skip

FIELDS = {**ALIGNED, **LATE, **CHAIN, **OTHERS}


def custom_unit(name):
    fields = {**FIELDS[name]}
    blocks = fields.get("scale_blocks", ())
    return DotUnit(**{**fields, "scale_blocks": (blocks,) if isinstance(blocks, int) else blocks})
