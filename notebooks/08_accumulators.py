# %% [markdown]
# # 8 · Accumulators
#
# **64,000 ones add up to 16,384. Does a training step notice?**
#
# A matrix unit multiplies numbers of eight bits and adds the products. How it adds, no format says: how many products at
# once, how many bits of each, rounded where and how. `numfmt` has these sums bit for bit, those of every chip that somebody
# has taken apart. Here is one of them from the inside: what it drops, what that costs, what helps, and whether it matters.
#
# needs jax: pip install 'numfmt-emulator[notebooks]'
# needs optax: pip install 'numfmt-emulator[notebooks]'

# %%
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bit_rows import bit_rows

import numfmt as nf
import numfmt_jax as nj
from numfmt import viz

FAST = bool(os.environ.get("NUMFMT_FAST"))
rng = np.random.default_rng(0)

# %% [markdown]
# ## 64,000 ones
#
# The sum of 64,000 products 1 · 1 is known. This is what an H100 makes of it with FP8 operands. Below it is the same unit
# with its sum moved to a float32 register after every 128 products, as DeepSeek-V3 has it (arXiv 2412.19437, §3.3.2).

# %%
ones = np.ones(64_000)
uniform = nf.quantize(rng.random((2, 64_000)), "e4m3fn")
both, trace = nf.dot(np.stack([ones, uniform[0]]), np.stack([ones, uniform[1]]), unit="h100.e4m3", trace=True)
promoted = nf.dot(ones, ones, unit="h100.e4m3.promote128")
print(f"h100.e4m3             {both[0]:8,.0f}")
print(f"h100.e4m3.promote128  {promoted:8,.0f}")

# %% [markdown]
# `trace=True` returns every step as well. A step takes 32 products. For 512 steps the accumulator grows by 32, and from
# then on by nothing. Ones are a kind example, for they are lost all at once, and at a round number. Random numbers from 0
# to 1 (right) are lost one by one, the small ones first, and nothing in the result says so.

# %%
exact = np.cumsum(np.stack([ones, uniform[0] * uniform[1]]), axis=-1)[:, 31::32]  # binary64 holds them
lost = trace.lost[0].reshape(-1, 32)
print("step    E  bits lost of a one  accumulator")
for i in (510, 511, 512, 513):
    print(f"{i + 1:4} {trace.exponent[0, i]:4} {lost[i, 0]:19} {trace.accumulator[0, i]:12,.0f}")

products = 32 * np.arange(1, 2001)
figure, axes = viz.panels(1, 2, width=10.4, height=3.2)
for row, title in enumerate(("64,000 ones", "64,000 products of numbers from 0 to 1")):
    lines = {"exact": (products, exact[row]), "h100.e4m3": (products, trace.accumulator[row])}
    viz.curves(lines, xlabel="products added", ylabel="accumulator", title=title, ax=axes[row])

# %% [markdown]
# ## One step, digit by digit
#
# The unit looks for the largest exponent $E$ among its 32 products and the accumulator $c$. Each of them is cut off below
# $2^{E-13}$: what lies to the right of the line is not rounded, it is gone. What is left are integers, and their sum is
# exact. Here is the step in which the ones get lost (three of the 32):


# %%
def step(a, b, c):
    """A step of h100.e4m3 in digits; its result and its trace."""
    result, trace = nf.dot(a, b, c, unit="h100.e4m3", trace=True)
    last = int(trace.exponent[0]) - nf.get_unit("h100.e4m3").fraction
    unrounded = np.trunc(np.array([c, *(a * b)]) * 2.0**-last).sum() * 2.0**last
    terms = [(f"c = {c:.9g}", c, "")]
    for x, y, bits, swamped in zip(a, b, trace.lost, trace.swamped, strict=True):
        terms.append((f"{x:.4g} · {y:.4g}", x * y, "swamped" if swamped else f"{bits} lost" if bits else ""))
    results = [("their sum", unrounded, ""), ("result", float(result), "" if result == unrounded else "cut off")]
    bit_rows(terms, last, results)
    return float(result), trace


stalled, _ = step(np.ones(3), np.ones(3), 16384.0)

# %% [markdown]
# And a step with other numbers (signs are not drawn). The largest exponent is that of a product: $3.5 \cdot 3.25$ counts as
# $2^1 \cdot 2^1$, though its own first digit stands one place in front of that. E4M3 has four digits and a product eight,
# so that products of like size lose nothing. Smaller ones lose their last digits, and much smaller ones all of them: they
# are *swamped*. The sum is cut off once more, for the accumulator, E8M13, has 14 digits and no more.

# %%
a = np.array([3.5, -2.75, 0.46875, 0.203125, 0.0859375, 0.01953125])
b = np.array([3.25, 0.8125, 0.34375, 0.34375, 0.1015625, 0.021484375])
c = 5.17041015625
result, of_step = step(a, b, c)
print(f"exact {(a * b).sum() + c:.9f}, result {result:.9f}")

# %% [markdown]
# The sum at which more ones change nothing follows from such pictures, and `stall_point` finds it by trying. PTX calls the
# accumulators of all these Tensor Cores `.f32`. Those of FP16, and of FP8 on B200, do at least as well as float32 one by
# one; those of FP8 on Hopper and Ada do not.

# %%
for name in "bf16 fp16 h100.e4m3 ada.e4m3 fp32 v100.fp16 h100.fp16 b200.e4m3 h100.e4m3.promote128".split():
    stop = nf.stall_point(name)
    print(f"{name:22} {stop:15,.0f} = 2^{np.log2(stop):.0f}")

# %% [markdown]
# ## Swamping
#
# The longer the sum, the larger the accumulator, and the more is cut off. Here are products of Gaussian E4M3 numbers, whose
# signs cancel (top), and of their magnitudes, as after a ReLU (bottom). All units get the same operands. Left is the share
# of products of which nothing was left, right the median error in units of the last place (ulp) of float32, the type of all
# results.
#
# Where signs cancel, an H100 loses one or two products in a hundred. Where they are equal, it loses one in three, and much
# of the sum with them. Its FP16 unit truncates too, but at 25 bits and not at 13, which costs some dozens of ulps.
# *Promoted* is flat, for no stretch is longer than 128. The exact sum, rounded once, errs by a quarter of an ulp.

# %%
lengths = 2 ** np.arange(5, 12 if FAST else 14, 2)
a, b = nf.quantize(rng.standard_normal((2, 16, lengths[-1])), "e4m3fn")
a, b = np.stack([a, np.abs(a)]), np.stack([b, np.abs(b)])
units = {"h100.e4m3": "h100.e4m3", "h100.e4m3.promote128": "promoted, 128", "h100.fp16": "h100.fp16",
         "fp32": "fp32, one by one", "exact": "exact"}  # fmt: skip
swamped, error = {}, {}
for unit, name in units.items():
    shares, errors = [], []
    for k in lengths:
        found, of_sum = nf.dot(a[..., :k], b[..., :k], unit=unit, trace=True)
        products = a[..., :k] * b[..., :k]
        exactly = products.sum(axis=-1)  # in binary64, which holds it
        shares.append(of_sum.swamped.sum(axis=(1, 2)) / np.count_nonzero(products, axis=(1, 2)))
        errors.append(np.median(np.abs(found - exactly) / np.spacing(np.abs(exactly).astype(np.float32)), axis=1))
    swamped[name], error[name] = np.transpose(shares), np.transpose(errors)

figure, axes = viz.panels(2, 2, width=10.4, height=6.4)
signs = ("signs cancel", "equal signs")
for row, ((left, right), title) in enumerate(zip(axes, signs, strict=True)):
    aligned = {name: (lengths, 100 * swamped[name][row]) for name in ("h100.e4m3", "promoted, 128", "h100.fp16")}
    viz.curves(aligned, log="x", xlabel="K, products", ylabel="swamped products, %", title=title, ax=left)
    lines = {name: (lengths, np.maximum(found[row], 1 / 8)) for name, found in error.items()}
    viz.curves(lines, log="xy", xlabel="K, products", ylabel="error, ulp (0 is drawn at 1/8)", title=title, ax=right)

print(f"K = {lengths[-1]:,}; error, ulp" + "".join(f"{title:>16}" for title in signs))
for name, found in error.items():
    print(f"{name:24}" + "".join(f"{last:16,.2f}" for last in found[:, -1]))

# %% [markdown]
# ## Why it is a bias
#
# To cut off is to round toward zero. Each positive product loses, none makes up for it, and the error grows with every
# step. No chip of `nf.list_units()` aligns to nearest, but a unit is data, and two fields of it can be replaced. It is the
# alignment that does the damage, 32 times a step; how the sum is rounded hardly matters. With alignment to nearest the
# error is a twentieth. It is not zero: what is less than half of the last digit is lost to it as well.

# %%
h100 = nf.get_unit("h100.e4m3")
ways = {
    "as it is": h100,
    "sum to nearest": replace(h100, rounding="ties_to_even"),
    "alignment to nearest": replace(h100, alignment="ties_to_even"),
    "both to nearest": replace(h100, alignment="ties_to_even", rounding="ties_to_even"),
}
a, b = nf.quantize(rng.random((2, 32, lengths[-1])), "e4m3fn")
bias = {}
for name, unit in ways.items():
    sums = {k: (nf.dot(a[:, :k], b[:, :k], unit=unit), (a[:, :k] * b[:, :k]).sum(axis=-1)) for k in lengths}
    bias[name] = np.array([np.mean(found / exact - 1) for found, exact in sums.values()])
    print(f"{name:21} {bias[name][-1]:+.2%} at K = {lengths[-1]:,}")
marks = {"as it is,\nsum to nearest": bias["as it is"], "alignment to nearest,\nboth": bias["alignment to nearest"]}
ax = viz.curves({name: (lengths, 100 * y) for name, y in marks.items()}, log="x", xlabel="K, products of numbers from 0 to 1",
                ylabel="mean relative error, %")  # fmt: skip

# %% [markdown]
# How large is the error, then? DeepSeek-V3's report speaks of nearly 2 % at most for two random matrices with K =
# 4,096. It does not say which ones, and that decides:

# %%
draw = {"Gaussian": rng.standard_normal, "from 0 to 1": rng.random}
of_matrices = {}
for name, numbers in draw.items():
    a, b = (nf.quantize(numbers(shape), "e4m3fn") for shape in ((128, 4096), (4096, 128)))
    for unit in ("h100.e4m3", "h100.e4m3.promote128", "h100.fp16"):
        of_matrices[name, unit] = np.linalg.norm(nf.matmul(a, b, unit=unit) - a @ b) / np.linalg.norm(a @ b)
        print(f"{name:12} {unit:21} {of_matrices[name, unit]:.5%}")

# %% [markdown]
# ## Toward zero, or down
#
# AMD's CDNA3 (MI300) aligns its accumulator downward: it is *floored*, not truncated. For positive numbers that is the
# same, for negative ones it is not, and so $f(-a) \neq -f(a)$. The least example has one product, 1 · 1, and for $c$ three
# quarters of an ulp of the result, $1.5 \cdot 2^{-24}$:

# %%
for name in ("mi300.fp16", "h100.fp16", "exact"):
    up, down = (nf.dot([sign * 1.0], [1.0], sign * 1.5 * 2.0**-24, unit=name) for sign in (1, -1))
    print(f"{name:10}  1·1 + c = {up.view(np.uint32):08X}   −1·1 − c = {down.view(np.uint32):08X}", end="   ")
    print("mirrored" if up == -down else "not mirrored")

# %% [markdown]
# In bits, $c$ is $0.11_2$ ulp. Floored to halves of an ulp it is $0.10_2$, and $-c$ is $-1.00_2$. The first makes a tie,
# which goes to the even neighbour, 1; the second is a whole ulp.
#
# Now many such steps, one product from 1 to 2 and a small $c$ each. Errors of truncation point to zero: to the left for
# positive sums, to the right for negative ones. Over numbers of both signs they cancel. Those of a floor point to the left
# on average, whatever the sign.

# %%
count = 20_000 if FAST else 100_000
a, b = nf.quantize(rng.uniform(1, 1.4, (2, count, 1)), "float16")
c = nf.quantize(rng.uniform(2.0**-9, 2.0**-8, count), "float32")
edges = np.linspace(-1.05, 1.05, 43)
shift = {}
figure, axes = viz.panels(1, 3, width=10.4, height=3.0, sharey=True)
for name, ax in zip(("h100.fp16", "mi300.fp16", "exact"), axes, strict=True):
    by_sign = {"sums > 0": nf.sum_error(a, b, c, unit=name), "sums < 0": nf.sum_error(-a, b, -c, unit=name)}
    shift[name] = [float(found.mean()) for found in by_sign.values()]
    lines = {sign: (edges[:-1] + 0.025, 100 * np.histogram(found, edges)[0] / count) for sign, found in by_sign.items()}
    viz.curves(lines, xlabel="error, ulp", ylabel="share, %" * (ax is axes[0]), title=name, labels=False, ax=ax)
    print(f"{name:11} mean error of sums > 0: {shift[name][0]:+.3f} ulp, of sums < 0: {shift[name][1]:+.3f} ulp")
_ = axes[2].legend(frameon=False, fontsize=9)

# %% [markdown]
# Such steps are rare, for a product has to be well above the accumulator. Of sums of 64 Gaussian products, some in a
# hundred come out otherwise when all signs are changed, and not a single one on other chips.

# %%
a, b = nf.quantize(rng.standard_normal((2, 4000, 64)), "float16")
mirrored = {name: float(np.mean(nf.dot(-a, b, unit=name) == -nf.dot(a, b, unit=name)))
            for name in ("mi300.fp16", "mi250.fp16", "a100.fp16", "h100.fp16", "exact")}  # fmt: skip
print(", ".join(f"{name} {share:.2%}" for name, share in mirrored.items()), "mirrored")

# %% [markdown]
# ## What helps
#
# All this happens sooner in a shorter accumulator: `bfloat16`, eight digits, stalls at 256 times what it adds. Products are
# those of numbers from 0 to 1, and every sum begins and ends in `bfloat16`, so that none errs less than a single rounding,
# 0.2 %.
#
# - **One by one** stalls where half a quantum is more than a product.
# - **Stochastic rounding** makes larger errors, but of both signs: they grow with the root of K.
# - **Chunks** (of 64 products; their sums are added in `bfloat16` too) need nothing but a second register. It is what
#   promotion does.
# - **A tree** adds pairs, then pairs of pairs: a number goes through log₂ K roundings instead of K.
# - **Kahan** takes what an addition dropped into the next one: four additions instead of one.
# - **Neumaier** keeps it in a second sum beside the first. That is good as long as this one does not stall: it has eight
#   digits, too.
# - **Exact** (Kulisch) keeps every digit that there can be, and rounds once.

# %%
one_by_one = replace(nf.get_unit("bf16"), product=None)
remedies = {
    "one by one": one_by_one,
    "stochastic": replace(one_by_one, rounding="stochastic"),
    "Neumaier": replace(nf.get_unit("neumaier.fp32"), accumulator="bfloat16"),
    "chunks of 64": one_by_one.promotion(64, to="bfloat16"),
    "tree": replace(nf.get_unit("pairwise.fp32"), product="bfloat16", accumulator="bfloat16"),
    "Kahan": nf.get_unit("kahan.bf16"),
    "exact": replace(nf.get_unit("exact"), accumulator="bfloat16"),
}
counts = 2 ** np.arange(5, 10 if FAST else 12, 2)
a, b = nf.quantize(rng.random((2, 24, counts[-1])), "e4m3fn")
helped = {}
for name, unit in remedies.items():
    seed = {"seed": 0} if unit.is_stochastic else {}
    sums = {k: (nf.dot(a[:, :k], b[:, :k], unit=unit, **seed), (a[:, :k] * b[:, :k]).sum(axis=-1)) for k in counts}
    helped[name] = np.array([np.asarray(found, float) / exact - 1 for found, exact in sums.values()])
rms = {name: np.sqrt(np.mean(error**2, axis=1)) for name, error in helped.items()}

shown = [int(np.flatnonzero(counts == k)[0]) for k in (32, 512, counts[-1])]
print("relative error       " + "".join(f"{f'rms, K = {counts[i]:,}':>18}" for i in shown) + "     mean")
for name in remedies:
    print(f"{name:21}" + "".join(f"{rms[name][i]:18.2%}" for i in shown) + f"{helped[name][-1].mean():+9.2%}")
lines = {name: (counts, 100 * error) for name, error in rms.items()}
ax = viz.curves(lines, log="xy", xlabel="K, products of numbers from 0 to 1", ylabel="relative error, %, rms")

# %% [markdown]
# ## The order
#
# Instructions of x86 and Arm add `bfloat16` products in float32, and round after each product or pair. But rounded
# additions are not associative, so that their *order* decides the last bits. Here are 500 dot products of 256 `bfloat16`
# numbers, and what NumPy makes of them, which depends on library and machine:

# %%
a, b = nf.quantize(rng.standard_normal((2, 500, 256)), "bf16").astype(np.float32)
by_numpy = np.array([np.dot(x, y) for x, y in zip(a, b, strict=True)])
names = "fp32 pairwise.fp32 x86.vdpbf16ps amx.bf16 arm.bfdot arm.bfmmla.ebf1 a100.bf16 h100.bf16 mi300.bf16 exact"
bits = {"np.dot here": by_numpy} | {name: nf.dot(a, b, unit=name) for name in names.split()}
print("                 first sum    of 500: those of np.dot    rounded rightly")
for name, found in bits.items():
    same, right = np.count_nonzero(found == by_numpy), np.count_nonzero(found == bits["exact"])
    print(f"{name:16} {found[0].view(np.uint32):08X}     {same:12}             {right:12}")

# %% [markdown]
# The order can be read from answers alone (FPRev, arXiv 2411.00442). One product is $2^{64}$, one is $-2^{64}$, all others
# are ones. A one that is added to either of them before they meet is gone; those that come later count. An accumulator that
# adds one by one is done with both when the later of the two has come. An H100 adds 16 at once. And NumPy?
#
# `nf.reveal(fn, inputs="bf16")` asks all this and more, for bits, roundings and specials, and says which unit a function is.

# %%
size = 32
masks = np.ones((size, size, size), np.float32)
first, second = np.indices((size, size))
masks[first, second, first], masks[first, second, second] = 2.0**64, -(2.0**64)
masks[np.arange(size), np.arange(size)] = 1
one = np.ones(size, np.float32)
left_over = {"np.dot on this machine": np.array([[np.dot(mask, one) for mask in row] for row in masks])}
left_over |= {name: nf.dot(masks, one, unit=name) for name in ("fp32", "h100.bf16")}
figure, axes = viz.panels(1, 3, width=11.5, height=3.4)
for (name, found), ax in zip(left_over.items(), axes, strict=True):
    viz.heat_map(found, label="ones that count", limits=(0, size), ax=ax)
    ax.set_title(name, loc="left", fontsize=11)
    ax.set(xlabel="place of $-2^{64}$", ylabel="place of $2^{64}$", aspect="equal")
    ax.set_xticks(range(0, size, 8), range(0, size, 8))
    ax.set_yticks(range(0, size, 8), range(0, size, 8))

# %% [markdown]
# ## A gradient
#
# Which sums of a training step are long? Those of activations are as long as a layer is wide. The gradient of a *weight* is
# a sum over all examples, all tokens of all sequences: its K is the batch. Here is a small network with 16 inputs from 0 to
# 1, 32 ReLUs and one output, and the gradient of its first matrix, $x^T g$, both operands in E4M3.

# %%
INPUTS, HIDDEN = 16, 32
BATCH, STEPS = (2048, 20) if FAST else (16384, 40)
SCALE = 16  # of the gradient of one example: it puts it into E4M3's range
keys = jax.random.split(jax.random.key(0), 4)


def examples(count, seed):
    x = jax.random.uniform(jax.random.key(seed), (count, INPUTS))
    waves = jnp.sin(x @ jax.random.normal(keys[0], (INPUTS, 8)))
    return x, waves @ jax.random.normal(keys[1], (8,)) / 2


def ending(weights, z, y):
    return jnp.mean(((jax.nn.relu(z) @ weights["out"])[:, 0] - y) ** 2)


def loss(weights, x, y):
    return ending(weights, x @ weights["in"], y)


start = {"in": jax.random.normal(keys[2], (INPUTS, HIDDEN)) * INPUTS**-0.5,
         "out": jax.random.normal(keys[3], (HIDDEN, 1)) * HIDDEN**-0.5}  # fmt: skip

# %% [markdown]
# To round the operands to FP8 is an error, too; in a single product it is the only one. But such errors have both signs,
# and the more examples, the better they cancel. Those of the accumulator all point to zero, and the more examples, the
# worse. At two thousand examples both are equal.
#
# Most of the error lies along the gradient: it is too short. With its length mended, a fifth of the error of large batches
# is left.

# %%
batches = 2 ** np.arange(8, 15 if FAST else 18)
x, y = examples(int(batches[-1]), seed=1)
g = SCALE * len(x) * jax.grad(ending, argnums=1)(start, x @ start["in"], y)  # of each example
x, g = np.asarray(x, float), np.asarray(g, float)
x8, g8 = nf.quantize(x, "e4m3fn"), nf.quantize(g, "e4m3fn")
parts = {name: [] for name in ("FP8 operands", "h100.e4m3", "h100.e4m3,\nlength mended", "promoted, 128")}
shorter = []
for n in batches:
    rounded = x8[:n].T @ g8[:n]
    sums = [nf.matmul(x8[:n].T, g8[:n], unit=unit).astype(float) for unit in ("h100.e4m3", "h100.e4m3.promote128")]
    length = np.vdot(sums[0], rounded) / np.vdot(rounded, rounded)
    shorter.append(1 - length)
    errors = rounded - x[:n].T @ g[:n], sums[0] - rounded, sums[0] - length * rounded, sums[1] - rounded
    for found, name in zip(errors, parts, strict=True):
        parts[name].append(np.linalg.norm(found) / np.linalg.norm(rounded))
for i in range(0, len(batches), 3):
    print(f"{batches[i]:7,} examples: error by FP8 operands {parts['FP8 operands'][i]:.2%}, by h100.e4m3 {parts['h100.e4m3'][i]:.2%},",
          f"which makes the gradient {shorter[i]:.2%} too short")  # fmt: skip

# %% [markdown]
# ## A training run
#
# `numfmt_jax` takes a unit as the accumulator of a product: `Gemm(…, accumulate="h100.e4m3")`. All runs start from the same
# weights and use all 16,384 examples in every step. All but one have FP8 operands everywhere, and among these only the sums
# of weight gradients differ. (Other sums have at most 32 products, one step of the unit, and are left in float32.) The
# losses are those of the weights as they are, without FP8.

# %%
x, y = examples(BATCH, seed=2)


def recipe(accumulate):
    value, gradient = nj.Operand("e4m3fn"), nj.Operand("e4m3fn", scale=SCALE * BATCH)
    wgrad = nj.Gemm(value, gradient, accumulate=accumulate)
    return nj.Recipe(nj.Gemm(value, value), nj.Gemm(gradient, value), wgrad)


def compiled(accumulate):
    """The gradient; of the loss as it is, without FP8, if nothing is said."""
    emulated = loss if accumulate is None else nj.emulate(loss, recipe(accumulate))
    return jax.jit(jax.grad(emulated)).lower(start, x, y).compile()


reached = jax.jit(loss)  # without FP8, for all


def train(gradient, optimizer):
    @jax.jit
    def update(weights, state, found):
        change, state = optimizer.update(found, state, weights)
        return optax.apply_updates(weights, change), state

    weights, state, losses = start, optimizer.init(start), []
    for _ in range(STEPS):
        losses.append(float(reached(weights, x, y)))
        weights, state = update(weights, state, gradient(weights, x, y))
    return np.array(losses)


sums = {"without FP8": None, "float32": "float32", "h100.e4m3": "h100.e4m3", "promoted": "h100.e4m3.promote128"}
with ThreadPoolExecutor(2) as pool:
    gradients = dict(zip(sums, pool.map(compiled, sums.values()), strict=True))
optimizers = {"SGD": optax.sgd(0.015, momentum=0.9), "Adam": optax.adam(0.01)}
runs = [(name, "SGD") for name in sums] + [(name, "Adam") for name in ("float32", "h100.e4m3")]
losses = {run: train(gradients[run[0]], optimizers[run[1]]) for run in runs}
gaps = {run: 100 * (values / losses["float32", run[1]] - 1) for run, values in losses.items()}
for (name, optimizer), values in losses.items():
    path = " → ".join(f"{values[i]:.4f}" for i in (0, STEPS // 4, STEPS // 2, -1))
    print(f"{optimizer:5} {name:12} {path}   mean {gaps[name, optimizer].mean():+.2f} % above float32 sums")

# %% [markdown]
# ## Does a training step notice?
#
# The step does (left): with 16,384 examples its gradient is 7.5 % too short, with 131,072 more than 40 %. The accumulator's
# error is then more than 50 and more than 400 times that of FP8 operands. Promoted, it is less than theirs.
#
# The run hardly does (right). With SGD its loss lies half a percent higher on average, as with a learning rate that is a
# little too low; with Adam, which divides by the size of gradients, as often lower as higher. For scale: a run without FP8
# swings by most of a percent around the one with it. Promoted sums give the run of float32 sums, almost digit by digit.
#
# So a small run forgives a gradient that is too short. It does not show that a large one would: there the sums of
# activations are long, too, steps are many, and what is a hundredth here may be what a recipe is about. Promotion is one
# more addition for 128 products, and there is nothing left to forgive.

# %%
figure, (left, right) = viz.panels(1, 2, width=10.4, height=3.8)
lines = {name: (batches, 100 * np.array(values)) for name, values in parts.items()}
viz.curves(lines, log="xy", xlabel="examples of a batch = K", ylabel="error of the weight gradient, %", ax=left)
del gaps["float32", "SGD"], gaps["float32", "Adam"]
lines = {", ".join(run): (np.arange(STEPS), gap) for run, gap in gaps.items()}
ax = viz.curves(lines, xlabel=f"step (batch {BATCH:,})", ylabel="loss, % above float32 sums", ax=right)

# %% [markdown]
# ## What was claimed above

# %%
assert both[0] == 16384 == nf.stall_point("h100.e4m3")
assert promoted == 64000
assert both[1] < 0.6 * exact[1, -1]
assert np.flatnonzero(np.diff(trace.accumulator[0]) == 0)[0] == 511
assert stalled == 16384
assert of_step.swamped.tolist() == [False] * 5 + [True]

assert error["exact"].max() <= 0.5
assert swamped["h100.e4m3"][1, -1] > 10 * swamped["h100.e4m3"][0, -1]
assert swamped["promoted, 128"].max() < 0.02

assert np.all(bias["as it is"] < 0)
assert all(nf.get_unit(name).alignment.value in ("toward_zero", "toward_negative") for name in nf.list_units())
assert abs(bias["alignment to nearest"][-1]) < abs(bias["as it is"][-1]) / 10
assert of_matrices["Gaussian", "h100.e4m3"] < 0.002 < 0.06 < of_matrices["from 0 to 1", "h100.e4m3"]
assert mirrored["mi300.fp16"] < 1
assert np.all(np.abs(np.array(shift["mi300.fp16"]) + 0.25) < 0.02)
assert abs(shift["h100.fp16"][0] + 0.5) < 0.02
assert abs(shift["h100.fp16"][1] - 0.5) < 0.02
assert all(share == 1 for name, share in mirrored.items() if name != "mi300.fp16")

later = np.maximum(first, second)
assert np.array_equal(left_over["fp32"], np.where(first == second, size, size - 1 - later))
assert np.array_equal(left_over["h100.bf16"], np.where(first == second, size, np.where(later < 16, 16, 0)))

assert rms["one by one"][-1] > 5 * rms["chunks of 64"][-1]
assert rms["Kahan"][-1] < 2 * rms["exact"][-1]
assert rms["tree"][-1] < 2 * rms["exact"][-1]

assert np.all(np.diff(parts["h100.e4m3"]) > 0)
assert parts["h100.e4m3"][0] < parts["FP8 operands"][0]
assert parts["h100.e4m3"][-1] > 10 * parts["FP8 operands"][-1]
assert max(parts["promoted, 128"]) < 0.001
assert max(abs(gap.mean()) for gap in gaps.values()) < 3
