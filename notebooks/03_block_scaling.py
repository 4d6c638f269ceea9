# %% [markdown]
# # 3 · Block scaling
#
# **What does one scale for 32 numbers buy, and what does it cost?**
#
# Four bits make sixteen values: ±0, 0.5, 1, 1.5, 2, 3, 4 and 6 in `e2m1`. That is no range to speak of. A *block format*
# gives every few elements a scale of their own, so that the sixteen values lie where the numbers are. The scale is
# nearly free: 8 bits for 32 elements are a quarter of a bit each. But it is shared, and somebody has to choose it.
#
# (The photo comes with scikit-learn: *Summer Palace, Beijing*, by Alpha.)

# %%
import os

import numpy as np
from sklearn.datasets import load_sample_image

import numfmt as nf
from numfmt import viz
from numfmt.statistics import measure

FAST = bool(os.environ.get("NUMFMT_FAST"))
photo = load_sample_image("china.jpg")

# %% [markdown]
# ## A photo in four bits
#
# Each colour of 32 neighbouring pixels of a row is a block. Where the pixels differ much, as in leaves and roofs, four
# bits are plenty. In the sky they are not, and one of these pictures has lost its sky altogether. It is the one by
# the rule of the OCP standard.

# %%
formats = {
    "photo": None,
    "uint4, one scale": "block(uint4, scale=float32, size=tensor)",
    "mxfp4: rule floor": "mxfp4",
    "mxfp4 with rule rceil": "block(e2m1, rule=rceil)",
    "nvfp4": "nvfp4",
    "mxfp6_e2m3": "mxfp6_e2m3",
}
figure = viz.photo_panels(photo, formats)

# %% [markdown]
# ## The scales
#
# An MXFP4 scale is a power of two, E8M0: only an exponent. NVFP4 has blocks of 16 (here its tiles of 16 × 16) and E4M3
# scales with three more bits of precision, under a single scale of the whole array that keeps them in range. The map of
# the scales is a blurred photo in itself.

# %%
gray = photo.mean(axis=-1, dtype=np.float32)
figure, (left, right) = viz.panels(1, 2, width=10, height=3.4)
for name, ax in {"mxfp4": left, "nvfp4_16x16": right}.items():
    viz.scale_map(gray, name, ax=ax)

# %% [markdown]
# ## Where the sky went
#
# The floor rule takes the exponent of the block's largest element and puts it into the top binade of `e2m1`, from 4 on.
# But `e2m1` ends at 6, not at 8. A block whose largest element lies in the upper half of its binade has elements beyond 6 × scale:
# they saturate. The sky has 200 to 255 in all colours, its scale is 32, and 6 × 32 is 192.
#
# Other rules spend one more exponent where it is needed: `even` from 1.75 on, where the maximum would round up to 2 if
# there were a 2; `rceil` as soon as something would saturate, from 1.5 on; `ceil` always, unless the maximum is a power
# of two. To the largest element itself the three do the same, so that their lines lie on one another; what differs is
# what the smaller elements of the block pay.

# %%
rules = {"floor": "mxfp4"} | {rule: f"block(e2m1, rule={rule})" for rule in ("even", "rceil", "ceil")}
ax = viz.block_maximum(rules)
print({name: float(nf.quantize(np.float32([200, 255]), rule).max()) for name, rule in rules.items()})

# %% [markdown]
# ## What a rule costs
#
# The same on Gaussian numbers. *Saturated* elements were beyond 6 × scale; the *last bin* holds all that became
# 6 × scale, those that only rounded to it too; *underflow* counts what became zero. No rule is best at
# all three: a larger scale clips less and loses more small elements. NVFP4's scales round to nearest, half of them down,
# so that it clips more elements than any other, each by a little.
#
# The **slope** is what is left of a signal: ⟨x, q⟩ / ⟨x, x⟩. Whatever is below 1 here is not noise, which would average
# out. It is a bias, and all of these have one: saturation makes numbers smaller, never larger, and so does rounding where
# the steps widen, on the whole: 2 takes everything from 1.75 to 2.5.

# %%
x = np.random.default_rng(0).standard_normal((1 << (8 if FAST else 11), 1024)).astype(np.float32)
named = rules | {"nvfp4": "nvfp4"}
figure = viz.rule_bars(x, named)

# %% [markdown]
# ## Is it the rounding?
#
# Partly. Stochastic rounding is right on average, so that with it the slope ought to be 1. With the floor rule it is not:
# what saturates is not rounded, and no random bit helps. Two repairs are used in training:
#
# - a rule that saturates nothing, such as `rceil`;
# - scale and elements from floor, but the elements times 3/4 before rounding, and times 4/3 after: 8 × 3/4 is 6.
#
# Both bring the slope to 1. NVFP4 would need room too: half of its scales are rounded down.


# %%
def three_quarters(x: np.ndarray, seed: int) -> np.ndarray:
    scales = np.repeat(nf.decode(nf.encode(x, "mxfp4").scales, "e8m0"), 32, axis=-1)
    return nf.quantize(x / scales * 0.75, "e2m1", rounding="stochastic", seed=seed) * scales / 0.75


def slope(q: np.ndarray) -> float:
    return float(np.vdot(x.astype(np.float64), q) / np.vdot(x.astype(np.float64), x))


slopes = {
    name: {
        "ties to even": measure(x, rule).slope,
        "stochastic": measure(x, rule, rounding="stochastic", seed=0).slope,
    }
    for name, rule in named.items()
}
slopes["floor, × 3/4"] = {"stochastic": slope(three_quarters(x, seed=0))}
ax = viz.dots(slopes, line=1.0, xlabel="slope ⟨x, q⟩ / ⟨x, x⟩")

# %% [markdown]
# ## Weights that all fall into the last bin
#
# A layer norm multiplies by weights that start at 1 and stay near it. Let them be 0.95 ± 0.01. All 32 of a block lie in
# the upper part of the binade from 1/2 to 1, all of them saturate, and all become the same number. Not a rare block here
# and there: the whole tensor, with a bias of −8 % in MXFP8 and −21 % in MXFP4. With one exponent more in the scale, as
# `rceil` has it, −1 % and +5 % are left. NVFP4 saturates nothing here, and still everything is in the last bin: all elements
# round up to the largest one of their block. (A bar of x: one weight; a dot: the weights that became its value.)

# %%
gamma = np.random.default_rng(1).normal(0.95, 0.01, 4096).astype(np.float32)
norms = {name: name for name in ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4")} | {
    "mxfp8 with rceil": "mxfp8_te", "mxfp4 with rceil": "block(e2m1, rule=rceil)", "nvfp4": "nvfp4",
}  # fmt: skip
ax = viz.landing(gamma, norms)

# %%
found = {name: measure(gamma, rule) for name, rule in norms.items()}
for name, s in found.items():
    print(
        f"{name:16}  saturated {s.saturated:6.1%}   last bin {s.last_bin:6.1%}   slope {s.slope:.4f}   {s.sqnr_db:5.1f} dB"
    )

# %% [markdown]
# ## One percent, thirty-two times
#
# A slope of 0.98 sounds harmless. But networks are deep: let a signal pass 32 layers, each of which quantizes it and
# then turns it by an orthogonal matrix, which itself loses nothing. What is left of the signal falls like slope$^L$.
# Noise does not do that: stochastic rounding makes more of it than rounding to nearest, and two of its lines stay at 1.


# %%
layers, rng = 32, np.random.default_rng(2)
start = rng.standard_normal((64 if FAST else 512, 256)).astype(np.float32)
turns = [np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32) for _ in range(layers)]


def surviving(quantize) -> list[float]:
    exact, signal, left = start, start, [1.0]
    for layer, turn in enumerate(turns):
        exact, signal = exact @ turn, quantize(signal, layer) @ turn
        left.append(float(np.vdot(exact, signal) / np.vdot(exact, exact)))
    return left


ways = {
    "floor, ties to even": lambda s, i: nf.quantize(s, "mxfp4"),
    "floor, stochastic": lambda s, i: nf.quantize(s, "mxfp4", rounding="stochastic", seed=i),
    "rceil, ties to even": lambda s, i: nf.quantize(s, rules["rceil"]),
    "nvfp4, stochastic": lambda s, i: nf.quantize(s, "nvfp4", rounding="stochastic", seed=i),
    "rceil, stochastic": lambda s, i: nf.quantize(s, rules["rceil"], rounding="stochastic", seed=i),
    "floor × 3/4, stochastic": three_quarters,
}
left = {name: surviving(way) for name, way in ways.items()}
lines = {name: (range(layers + 1), share) for name, share in left.items()}
ax = viz.curves(lines, xlabel="layers", ylabel="signal that is left")

# %% [markdown]
# ## What was claimed above

# %%
assert np.mean(photo[:100, 300:] > 192) > 0.98  # the sky
assert viz.posterized(photo, "mxfp4").max() == 192
assert viz.posterized(photo, rules["rceil"]).max() == 256

statistics = {name: measure(x, rule) for name, rule in named.items()}
assert (
    statistics["rceil"].beyond
    == statistics["ceil"].beyond
    == 0
    < statistics["even"].beyond
    < statistics["floor"].beyond
)
assert (
    statistics["floor"].underflow
    < statistics["even"].underflow
    < statistics["rceil"].underflow
    < statistics["ceil"].underflow
)
assert statistics["nvfp4"].saturated > statistics["floor"].saturated
assert all(s.saturated <= s.last_bin for s in statistics.values())

assert all(0.975 < slopes[name]["ties to even"] < 0.997 for name in named)
assert abs(slopes["floor"]["stochastic"] - 0.99) < 0.004
assert all(abs(slopes[name]["stochastic"] - 1) < 0.001 for name in ("rceil", "ceil", "floor, × 3/4"))

assert found["mxfp8_e4m3"].last_bin == found["mxfp4"].last_bin == 1.0
assert abs(nf.quantize(gamma, "mxfp8_e4m3").mean() / gamma.mean() - (1 - 0.079)) < 0.002
assert abs(nf.quantize(gamma, "mxfp4").mean() / gamma.mean() - (1 - 0.21)) < 0.002
assert abs(found["mxfp8 with rceil"].slope - 1) < 0.015
assert found["nvfp4"].saturated == 0 < found["nvfp4"].last_bin == 1.0

noisier = measure(x, rules["rceil"], rounding="stochastic", seed=0)
assert noisier.sqnr_db < statistics["rceil"].sqnr_db - 2
assert left["floor, ties to even"][-1] < 0.65
assert left["floor, stochastic"][-1] < 0.85
assert all(abs(left[name][-1] - 1) < 0.06 for name in ("rceil, stochastic", "floor × 3/4, stochastic"))
