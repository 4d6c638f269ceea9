# %% [markdown]
# # 2 · Rounding
#
# **When is the nearest value the wrong answer?**
#
# A number that is not in the format lies between two that are. Rounding picks one of them. The nearest has the least
# error, and for one rounding there is nothing better. But numbers are rounded again and again, and then what counts
# is how the errors *add up*. Three times on this page, the nearest value loses.

# %%
import os

import numpy as np

import numfmt as nf
from numfmt import viz

FAST = bool(os.environ.get("NUMFMT_FAST"))

# %% [markdown]
# ## The choices
#
# Results against operands in `e2m1`, whose positive values are 0.5, 1, 1.5, 2, 3, 4 and 6. Nearest modes switch at the
# midpoint, and differ only in *ties*: to the even code, so that about half of them go up, or away from zero. Directed
# modes switch at the values. *To odd* takes the inexact ones to the neighbour with an odd code. *Stochastic* tosses a
# coin whose probabilities are the two distances.

# %%
modes = ["ties_to_even", "ties_to_away", "toward_zero", "toward_positive", "to_odd", "stochastic"]
figure = viz.rounding_staircase("e2m1", modes, limits=(-4, 4))

# %% [markdown]
# ## The error of the nearest value
#
# At most half a quantum, and the quantum doubles with every binade: the relative error is a sawtooth between
# $2^{-p}$ and $2^{-p-1}$. Below the normal range the quantum stops shrinking and the error grows to 100 %.

# %%
ax = viz.relative_error(["e2m1", "e5m2", "e4m3fn", "float16"], limits=(2**-18, 2**9))

# %% [markdown]
# In percent, and without the formats that have less than one percent:

# %%
ax = viz.relative_error(["e2m1", "e5m2", "e4m3fn"], limits=(2**-8, 2**9), scale="linear")

# %% [markdown]
# ## Directed modes: bounds
#
# Their error is twice as large, but its sign is known. Down and up together enclose the true result, whatever
# happens in between: the basis of interval arithmetic. Here is a sum of 400 numbers, with every step in `bfloat16`.

# %%
numbers = np.random.default_rng(0).random(400)
sums = {"toward_positive": [0.0], "ties_to_even": [0.0], "toward_negative": [0.0]}
for mode, total in sums.items():
    for number in numbers:
        total.append(nf.quantize(total[-1] + number, "bfloat16", rounding=mode))
exact = np.concatenate([[0.0], np.cumsum(numbers)])
errors = {mode.replace("_", " "): (range(401), np.array(total) - exact) for mode, total in sums.items()}
ax = viz.curves(errors, xlabel="numbers added", ylabel="error of the sum")

# %% [markdown]
# ## Nearest loses, first time: rounding twice
#
# A value often reaches its format by way of another: float64 to float32 to bfloat16. Both steps are to nearest; the
# two together are not. Where the first step lands on a midpoint of the second, the second sees a tie that was none.
# Search a million numbers for a witness:

# %%
x = 1 + np.random.default_rng(1).random(2**20)


def differ(middle: str, target: str, rounding: str) -> np.ndarray:
    on_way = nf.quantize(x, middle, rounding=rounding)
    return np.flatnonzero(nf.quantize(on_way, target) != nf.quantize(x, target))


found = differ("float32", "bfloat16", "ties_to_even")
off = np.abs(x[found] - nf.quantize(x[found], "float32"))
witness = float(x[found[off.argmax()]])
print(f"{found.size} of {x.size}; one of them is {witness!r} = {witness.hex()}")

# %% [markdown]
# **To odd** is the repair. It never lands on a midpoint that was not one: an inexact value keeps an odd last digit, so
# the next rounding still sees on which side it was. Two digits more than the target are enough.

# %%
ax = viz.double_rounding(witness, "float32", "bfloat16")

# %% [markdown]
# The closer the two formats, the more often it happens:

# %%
pairs = [("float32", "bfloat16"), ("float32", "float16"), ("float16", "e4m3fn"), ("bfloat16", "e4m3fn")]
wrong = {pair: [differ(*pair, mode).size for mode in ("ties_to_even", "to_odd")] for pair in pairs}
for (middle, target), (nearest, odd) in wrong.items():
    print(f"{middle:8} → {target:8}  by ties to even {nearest:6} wrong ({nearest / x.size:.4%}),  by to odd {odd}")

# %% [markdown]
# ## Right on average: stochastic rounding
#
# Rounding up with probability $\nu$, the fraction of the quantum that is cut off, has the wrong answer every time
# and the right one on average: the mean of $N$ results approaches x as $\sqrt{\nu(1-\nu)/N}$ quanta. The mean of
# nearest results never moves.

# %%
target, quantum, nu = "e2m1", 0.5, 0.3
rows, columns = (16, 2**10) if FAST else (64, 2**14)
results = nf.quantize(np.full((rows, columns), 1 + nu * quantum), target, rounding="stochastic", seed=0)
n = 2 ** np.arange(columns.bit_length())
means = np.cumsum(results, axis=1)[:, n - 1] / n
rms = np.sqrt(np.mean((means - (1 + nu * quantum)) ** 2, axis=0))
theory = quantum * np.sqrt(nu * (1 - nu) / n)
lines = {"stochastic": (n, rms), "theory": (n, theory), "to nearest": (n, np.full(n.size, nu * quantum))}
ax = viz.curves(lines, log="xy", xlabel="N, results averaged", ylabel="error of the mean (rms)")

# %% [markdown]
# ## Random bits are expensive
#
# Hardware compares $\nu$ with only $N$ random bits, in one of three ways (IEEE P3109): StochasticA cuts $\nu$ to
# $N$ bits, B rounds it with ties up, C with ties to even. With few bits there is no need to sample: go through all
# $2^N$ of them, and the mean is exact. A is biased toward zero, by up to $2^{-N}$ quanta; B and C by half of it, to
# both sides.

# %%
steps = np.arange(257) / 256


def bias(kind: str, bits: int) -> np.ndarray:
    operand = np.broadcast_to(1 + steps[:, None] / 8, (257, 2**bits))  # the quantum of e4m3fn at 1 is 1/8
    options = {"random_bits": np.arange(2**bits), "random_bit_count": bits}
    every = nf.quantize(operand, "e4m3fn", rounding=f"stochastic_{kind}", **options)
    return 8 * (every - operand).mean(axis=1)


figure, axes = viz.panels(1, 4, sharey=True, width=10)
for bits, ax in zip((1, 2, 3, 4), axes, strict=True):
    three = {kind.upper(): (steps, bias(kind, bits)) for kind in "abc"}
    viz.curves(three, ax=ax, xlabel="ν", ylabel="bias, quanta" * (bits == 1), title=f"N = {bits}", labels=bits == 1)

# %%
for bits in (1, 2, 3, 4):
    table = [f"{k.upper()} {np.abs(bias(k, bits)).max():.3f} / {bias(k, bits)[:-1].mean():+.4f}" for k in "abc"]
    print(f"N = {bits}: max |bias| / mean bias   " + "     ".join(table))

# %% [markdown]
# ## Nearest loses, second and third time: small updates
#
# A weight in `bfloat16` starts at 0 and takes 2000 steps of 0.001. The weight should end at 2.
#
# To nearest it first runs ahead: between 0.25 and 0.5 a step is a little more than half a quantum, and each one is
# rounded up to a whole one. At 0.5 the quantum doubles, a step is less than half of it, and every update is lost: the
# weight is *swamped*. Stochastic rounding keeps the mean where it belongs (thin lines: single weights). Two random bits
# are too few: StochasticA stops at 1, where a step becomes less than a quarter of a quantum.


# %%
def walk(weights: int, **options: object) -> np.ndarray:
    path = np.zeros((2001, weights))
    for i in range(2000):
        seed = {"seed": (0, i)} if "rounding" in options else {}
        path[i + 1] = nf.quantize(path[i] + 0.001, "bfloat16", **options, **seed)
    return path


count = 16 if FAST else 32
step = np.arange(2001)
nearest = walk(1)
stochastic = walk(count, rounding="stochastic")
two_bits = walk(count, rounding="stochastic_a", random_bit_count=2)
paths = {
    "exact": step / 1000,
    "to nearest": nearest,
    "stochastic": stochastic,
    "stochastic A,\n2 random bits": two_bits,
}
lines = {name: (step, path) for name, path in paths.items()}
ax = viz.curves(lines, xlabel="updates of 0.001", ylabel="weight in bfloat16")

# %% [markdown]
# ## What was claimed above

# %%
down, up = np.array(sums["toward_negative"]), np.array(sums["toward_positive"])
assert np.all((down <= exact) & (exact <= up))

assert found.size > 0
assert all(nearest_wrong > odd == 0 for nearest_wrong, odd in wrong.values())

assert np.all(np.abs(np.log2(rms / theory)[1:]) < 1)  # the mean converges as theory says
assert set(np.unique(results)) == {1.0, 1.5}

for bits in (1, 2, 3, 4):  # exact: all of these are dyadic
    scaled, last = steps[:-1] * 2**bits, slice(0, -1)
    assert np.array_equal(bias("a", bits)[last], np.floor(scaled) / 2**bits - steps[last])
    assert np.array_equal(bias("b", bits)[last], np.floor(scaled + 0.5) / 2**bits - steps[last])
    assert np.array_equal(bias("c", bits)[last], np.round(scaled) / 2**bits - steps[last])

assert nearest[-1] == 0.5
assert np.all(two_bits[-1] == 1.0)
standard_error = stochastic[-1].std(ddof=1) / np.sqrt(count)
assert abs(stochastic[-1].mean() - 2.0) < 5 * standard_error
