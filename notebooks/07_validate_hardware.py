# %% [markdown]
# # 7 · Validate hardware
#
# **How do you know that a multiplier is right? And when it is wrong, what is wrong with it?**
#
# A multiplier of two `float16` numbers has 2³² pairs of operands. Eight bits can be tried exhaustively, sixteen hardly,
# thirty-two not at all. So one tries some pairs, and which ones decides what one finds. Here are a multiplier, five bugs, and
# vectors that find them.

# %%
import io
import os

import numpy as np

import numfmt as nf
from numfmt import arithmetic, vectors, viz

FAST = bool(os.environ.get("NUMFMT_FAST"))

# %% [markdown]
# ## A device
#
# This is what a small hardware multiplier does, in integers: significands of 11 bits make a product of 22; eleven of them
# are kept (fewer where the result is subnormal); of the others, the first is the *guard* bit and the rest, or-ed together,
# are one *sticky* bit. They and the last kept bit decide the rounding, to nearest even.


# %%
def parts(x):
    """Exponent field and significand of 11 bits; subnormals are shifted up."""
    field, fraction = x >> 10 & 31, x & 1023
    m = np.where(field > 0, fraction | 1024, fraction)
    shift = np.where(m == 0, 0, 11 - np.frexp(m.astype(float))[1])
    return np.maximum(field, 1) - shift, m << shift


def multiply(a, b, bug=None):
    sign = (a ^ b) & 0x8000
    (ea, ma), (eb, mb) = parts(a), parts(b)
    product = ma * mb
    large = product >> 21
    field, product = ea + eb - 15 + large, np.where(large, product, product << 1)

    drop = np.clip(12 - field, 11, 24)
    kept, guard, rest = product >> drop, product >> drop - 1 & 1, product & (1 << drop - 1) - 1
    sticky = rest >> 1 != 0 if bug == "lost sticky" else rest != 0
    up = guard & (1 if bug == "wrong tie" else sticky | kept & 1)
    code = (np.maximum(field, 1) - 1 << 10) + kept + up

    if bug == "flushes":
        code = np.where(field < 1, 0, code)
    code = np.where(product == 0, 0, np.minimum(code, 0x7BFF if bug == "saturates" else 0x7C00))
    size_a, size_b = a & 0x7FFF, b & 0x7FFF
    infinite = (size_a == 0x7C00) | (size_b == 0x7C00)
    code = np.where(infinite, 0x7C00, code)
    sign = np.where(code == 0, 0, sign) if bug == "sign of zero" else sign
    nan = (size_a > 0x7C00) | (size_b > 0x7C00) | infinite & ((size_a == 0) | (size_b == 0))
    return np.where(nan, 0x7E00, code | sign)


BUGS = ["wrong tie", "lost sticky", "flushes", "sign of zero", "saturates"]

# %% [markdown]
# ## A judge
#
# `numfmt.arithmetic` says what is right: the exact product, rounded once. Ask both for ten million random pairs.

# %%
rng = np.random.default_rng(0)
count = 10**6 if FAST else 10**7
a, b = rng.integers(0, 2**16, (2, count))
right = arithmetic.mul(a, b, "float16")
print(f"{count:,} pairs")
for bug in [None, *BUGS]:
    wrong = np.count_nonzero(multiply(a, b, bug) != right)
    print(f"{bug or 'no bug':13} {wrong:10,} wrong answers, {'none' if not wrong else f'one in {count // wrong:,}'}")

# %% [markdown]
# ## How long until the first wrong answer?
#
# A bug that shows in one pair of thousands is found by thousands of pairs. *Directed* vectors do not wait for luck: they
# start from the exact result, and look for operands whose product lies on a tie, just beside one, at either end of the
# subnormals, at the overflow threshold. The lines say how many of the random runs have found a bug after so many rows; the
# table says in which row the directed vectors, in the order in which they come, find it.

# %%
rows = next(vectors.generate("f16_mul", style="directed", level=1))
da, db = (column.astype(np.int64) for column in rows.operands)
runs, length = (40, 1 << 12) if FAST else (200, 1 << 14)
a, b = np.random.default_rng(1).integers(0, 2**16, (2, runs, length))
right = arithmetic.mul(a, b, "float16")


def first(wrong):
    """The number of the first row that is wrong; one more than there are where none is."""
    return np.where(wrong.any(axis=-1), wrong.argmax(axis=-1) + 1, wrong.shape[-1] + 1)


found = {bug: np.sort(first(multiply(a, b, bug) != right)) for bug in BUGS}
directed = {bug: multiply(da, db, bug) != rows.results for bug in BUGS}
n = np.unique(np.geomspace(1, length, 60).astype(int))
lines = {bug: (n, np.searchsorted(rows_needed, n, "right") / runs) for bug, rows_needed in found.items()}
ax = viz.curves(lines, log="x", xlabel="random rows", ylabel="runs that found it")
print(f"{len(rows):,} directed rows    first in row   in how many   random: median")
for bug in BUGS:
    median = int(np.median(found[bug]))
    shown = f"{median:,}" if median <= length else f"over {length:,}"
    print(f"{bug:26} {int(first(directed[bug])):8,} {np.count_nonzero(directed[bug]):13,} {shown:>17}")

# %% [markdown]
# ## What do vectors reach?
#
# The classes are those of the literature on floating-point verification, stated on the exact result. `nfmt vectors cover`
# counts them for any file. Random operands miss what is rare, and what is rare is where designs are wrong.

# %%
function = vectors.parse("f16_mul")


def as_file(a, b, results):
    """Rows as TestFloat writes them, without flags: what a device would answer."""
    return io.BytesIO("".join(f"{x:04X} {y:04X} {r:04X}\n" for x, y, r in zip(a, b, results, strict=True)).encode())


reached = {
    "random": vectors.cover(as_file(*(x[0, : len(rows)] for x in (a, b, right))), function)["f16_mul"],
    "directed": vectors.cover(as_file(da, db, rows.results), function)["f16_mul"],
}
for style, classes in reached.items():
    print(f"{len(rows):,} {style} rows reach {sum(map(bool, classes.values()))} of {len(classes)} classes")
print("random misses:", "; ".join(name for name, hits in reached["random"].items() if not hits))

# %% [markdown]
# ## What is wrong with it?
#
# A device writes its answers into a file, and `vectors.check` (`nfmt vectors check`) reads it. It does not stop at *wrong*: it
# recomputes each wrong row under the mistakes that designs are known to make, and says which of them gives exactly the
# device's answer.

# %%
reports = {}
for bug in BUGS:
    reports[bug] = vectors.check(as_file(da, db, multiply(da, db, bug)), function, flags=False)
    ((cause, times),) = reports[bug].causes.most_common(1)
    print(f"{bug:13} {reports[bug].mismatches:4} mismatches; of the first {reports[bug].classified}, {times}: {cause}")

# %% [markdown]
# ## From the vector back to the rule
#
# Here is the row that catches the lost sticky bit, in bits. The exact product has its guard bit set, and one more bit at the
# very end. The device's last wire is not connected: it took the product for a tie and went to the even neighbour. The rule
# (IEEE 754-2019, §4.3.1: *the floating-point number nearest to the infinitely precise result*) leaves no choice, for this is
# no tie.

# %%
example = next(e for e in reports["lost sticky"].examples if e.cause == "missing sticky")
print("\n".join(example.lines))

# %% [markdown]
# ## And the design without bugs
#
# Passing is no proof. But it is a much stronger statement than ten million random pairs: each class was reached.

# %%
passed = vectors.check(
    as_file(*(c := [col.astype(np.int64) for col in next(vectors.generate("f16_mul", level=2)).operands]), multiply(*c)),
    function, flags=False,
)  # fmt: skip
print(f"{passed.rows:,} directed rows of level 2, {passed.mismatches} mismatches")

# %% [markdown]
# On the command line the same is three steps, with the simulator, the board or the chip in the middle:
#
# ```sh
# nfmt vectors generate f16_mul --level 2 -o f16_mul.txt        # operands, results, flags; and a manifest
# ./my_device < f16_mul.txt > answers.txt                       # whatever drives your design
# nfmt vectors check answers.txt --function f16_mul             # exit code 1, and the reasons, if it is wrong
# ```
#
# `tests/rtl` has an FP8 multiplier and an MX dot product in Verilog, with such bugs planted, driven in Icarus Verilog.

# %% [markdown]
# ## What was claimed above

# %%
assert passed.mismatches == 0
assert all(directed[bug].any() for bug in BUGS)
assert all(reached["directed"].values())
assert not all(reached["random"].values())
causes = {bug: report.causes.most_common(1)[0][0] for bug, report in reports.items()}
assert causes["wrong tie"] == "wrong tie"
assert causes["lost sticky"] == "missing sticky"
assert causes["flushes"] == "flushed subnormal"
assert causes["sign of zero"] == "sign of zero"
assert causes["saturates"] == "saturation"
assert nf.exact(0x7BFF, "float16") == 65504
