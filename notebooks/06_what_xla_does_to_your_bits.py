# %% [markdown]
# # 6 · What XLA does to your bits
#
# **Which of the roundings that you wrote are those that you get?**
#
# XLA may change arithmetic: leave out a rounding, merge two, take zero for a number that is almost zero. For most programs
# that is fine. For an emulator of number formats it is not: there the bits are the result. Each of these liberties has a
# cell here, with what one writes, what comes out, what is right, and what `numfmt_jax` does instead.
#
# needs jax: pip install 'numfmt-emulator[notebooks]'

# %%
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax
from jax.experimental import pallas

import numfmt as nf
import numfmt_jax as nj
from numfmt import viz

print(f"jax {jax.__version__} on {jax.devices()[0].platform}")
rng = np.random.default_rng(0)
a, b, c = (rng.standard_normal(4096).astype(np.float32) for _ in range(3))

# %% [markdown]
# Two results are the same if their bits are; of NaN we ask only that both are. A cell counts the results that are not
# right and shows the first of them. Where a release of JAX has mended something, its cell says so.

# %%
table = {}


def wrong(found, right):
    """Where the bits differ."""
    found, right = np.ravel(found), np.ravel(right).astype(np.asarray(found).dtype)
    bits = f"u{found.dtype.itemsize}"
    return (found.view(bits) != right.view(bits)) & ((found == found) | (right == right))


def compare(hazard, naive, ours, right):
    """Counts what is wrong, for the table at the end; prints the answers where the obvious code is wrong first."""
    ways = {"obvious code": naive, "numfmt_jax": ours}
    table[hazard] = {way: (int(wrong(found, right).sum()), np.size(right)) for way, found in ways.items()}
    at = int(wrong(naive, right).argmax())
    print(f"{'right':13}{np.ravel(right)[at]!s:>16}")
    for way, (bad, count) in table[hazard].items():
        print(f"{way:13}{np.ravel(ways[way])[at]!s:>16}   {bad:,} of {count:,} wrong")
    if table[hazard]["obvious code"][0] == 0:
        print(f"jax {jax.__version__} has mended this")


# %% [markdown]
# ## Numbers that are zero
#
# On a CPU, XLA takes subnormal numbers for zero, and makes zeros of results that would be subnormal; in products, sums and
# maxima, even in `==`. Here is a rounding to `bfloat16` in float arithmetic, free of error in NumPy. The same source in JAX
# makes zeros.
#
# What XLA leaves alone are integers. `numfmt_jax` takes the bits of a float, computes with integers and gives bits back;
# between the two there is no float that could be flushed.


# %%
def by_floats(x, xp=jnp):
    q = xp.maximum(xp.frexp(x)[1], -125) - 8  # exponent of the quantum
    return xp.ldexp(xp.round(xp.ldexp(x, -q)), q)


def ours(x):
    return nj.quantize(x, "bfloat16")


tiny = np.arange(1, 2**23, 2**17 + 1, dtype=np.uint32).view(np.float32)  # from 2^-149 to almost 2^-126
right = nf.quantize(tiny, "bfloat16")
print("equal to zero:", int((jnp.asarray(tiny) == 0).sum()), "of", tiny.size)
print("wrong in NumPy:", int(wrong(by_floats(tiny, np), right).sum()))
print("wrong in JAX without jit:", int(wrong(by_floats(tiny), right).sum()))
compare("subnormals to bfloat16", jax.jit(by_floats)(tiny), jax.jit(ours)(tiny), right)

# %% [markdown]
# A callback to NumPy does not help: it runs with XLA's setting of the processor, and there NumPy flushes too. A Pallas kernel,
# interpreted, flushes as well.

# %%
shape = jax.ShapeDtypeStruct(tiny.shape, np.float32)


def in_callback(f):
    return jax.jit(lambda x: jax.pure_callback(lambda x: f(np.asarray(x)), shape, x))(tiny)


def in_kernel(f):
    def kernel(x, y):
        y[...] = f(x[...])

    return pallas.pallas_call(kernel, out_shape=shape, interpret=True)(tiny)


compare(
    "… in a callback", in_callback(lambda x: by_floats(x, np)), in_callback(lambda x: nf.quantize(x, "bfloat16")), right
)

# %%
compare("… in a Pallas kernel", in_kernel(by_floats), in_kernel(ours), right)

# %% [markdown]
# Casts between float64 and float32 flush in both directions.

# %%
wide = tiny.astype(np.float64)
with jax.enable_x64(True):
    found = jax.jit(lambda x: x.astype(jnp.float32))(wide), jax.jit(lambda x: nj.quantize(x, "float32"))(wide)
compare("… from float64", *map(np.asarray, found), tiny)

# %% [markdown]
# A block of small gradients has a small scale. Divided by it they are of usual size, but multiplied by it they are zero
# again. The smallest scale of all, E8M0 code 0, is $2^{-127}$: subnormal itself, so that its blocks become $0 / 0$.


# %%
def blocks_by_floats(x, scales):
    return (x / scales).clip(-57344, 57344).astype(jnp.float8_e5m2).astype(jnp.float32) * scales


def blocks_from(top):
    x = (rng.uniform(1, 2, (64, 32)) * 2.0 ** (top - rng.integers(0, 24, (64, 32)))).astype(np.float32)
    q = nf.encode(x, "mxfp8_e5m2")
    scales = nf.decode(q.scales, "e8m0", dtype=np.float32)
    return jax.jit(blocks_by_floats)(x, scales), jax.jit(lambda x: nj.quantize(x, "mxfp8_e5m2"))(x), q.decode()


compare("blocks of small numbers", *blocks_from(-108))

# %%
compare("blocks with scale $2^{-127}$", *blocks_from(-112))

# %% [markdown]
# ## Divisions that are products
#
# Division by a constant, or by one scale for a row, becomes multiplication by its reciprocal, which has been rounded
# before it is used. One result in three is off by an ulp. Random numbers do not show what that does to codes; numbers on a
# coarse grid do, because they have ties, and there an ulp decides. `numfmt_jax` divides significands as integers.

# %%
grid = (rng.integers(-2048, 2048, (4096, 16)) / 64).astype(np.float32)
name = "block(e2m1, scale=float32, size=16)"
blocks, right = jax.jit(lambda x: nj.encode(x, name))(grid), nf.encode(grid, name)
compare(
    "scales: amax / 6", jax.jit(lambda x: abs(x).max(axis=-1, keepdims=True) / 6)(grid), blocks.scales, right.scales
)

# %%
quotients = jax.jit(lambda x: x / (abs(x).max(axis=-1, keepdims=True) / 6))(grid)
print("quotients:", f"{int(wrong(quotients, grid / right.scales).sum()):,} of {grid.size:,} wrong")
compare("codes of x / scale", nf.encode(np.asarray(quotients), "e2m1"), blocks.codes, right.codes)

# %% [markdown]
# ## Roundings that are left out
#
# `--xla_allow_excess_precision` is on by default: what is to be rounded to bfloat16 and used in float32 may skip the
# rounding. It is skipped for results of a sum, and in some releases for those of a matrix product. Integer code has
# nothing to skip.

# %%
a16 = a.astype(ml_dtypes.bfloat16)
naive = jax.jit(lambda a: (a * a + a).astype(jnp.float32))


@jax.jit
def squared_and_added(a):
    a = a.astype(jnp.float32)
    return nj.quantize(nj.quantize(a * a, "bfloat16") + a, "bfloat16")


compare("bf16(bf16(a·a) + a)", naive(a16), squared_and_added(a16), (a16 * a16 + a16).astype(np.float32))

# %%
m16, n16 = (ml_dtypes.bfloat16(rng.integers(-64, 64, (32, 32)) / 16) for _ in range(2))
exact = m16.astype(np.float64) @ n16.astype(np.float64)
product = jax.jit(lambda m, n: nj.quantize(jnp.matmul(m, n, preferred_element_type=jnp.float32), "bfloat16"))
compare("bf16(m @ n)", jax.jit(lambda m, n: (m @ n).astype(jnp.float32))(m16, n16), product(m16, n16),
        exact.astype(ml_dtypes.bfloat16).astype(np.float32))  # fmt: skip

# %% [markdown]
# A product and a sum become one instruction that rounds once. Sometimes that is more exact, but it is not what was written.
# Rounding the product to float32, which it already is, makes them two again.

# %%
compare("a · b + c", jax.jit(lambda a, b, c: a * b + c)(a, b, c),
        jax.jit(lambda a, b, c: nj.quantize(a * b, "float32") + c)(a, b, c), a * b + c)  # fmt: skip

# %% [markdown]
# To add $1.5 \times 2^{23}$ and to subtract it again rounds to an integer, an old trick. An optimizer that knows algebra
# knows better.

# %%
x, magic = 30 * a, np.float32(1.5 * 2**23)
compare("(x + C) − C", jax.jit(lambda x: (x + magic) - magic)(x) + 0,
        jax.jit(lambda x: nj.quantize(x, "int8"))(x) + 0, np.rint(x) + 0)  # fmt: skip

# %% [markdown]
# ... and it knows that a root undoes a square, whatever has become of the square. (This has been mended in newer releases.)

# %%
extreme = np.concatenate([a * np.float32(1e30), a * np.float32(1e-30), a])
with np.errstate(over="ignore"):
    right = np.sqrt(np.square(extreme))
compare("√(x²)", jax.jit(lambda x: jnp.sqrt(jnp.square(x)))(extreme),
        jax.jit(lambda x: jnp.sqrt(nj.quantize(jnp.square(x), "float32")))(extreme), right)  # fmt: skip

# %% [markdown]
# ## Powers of two that are none
#
# The scale of a block is a power of two, so one writes `exp2(floor(log2(amax)))`. `exp2` of an integer is seldom a power
# of two here, `log2` is off by one next to them, `ldexp` ends where subnormals begin. An exponent is a field of bits: take
# it from there, put it there.

# %%
exponents = np.arange(-126, 128)
powers = np.ldexp(np.float32(1), exponents)
print("exp2(13) =", float(jnp.exp2(13.0)))
compare("exp2(integer)", jnp.exp2(exponents.astype(np.float32)),
        jax.jit(lambda e: nj.decode(e + 127, "e8m0"))(exponents), powers)  # fmt: skip

# %%
around = powers[16:] * np.array([[1 - 2.0**-24], [1], [1 + 2.0**-23]], np.float32)  # each power and its neighbours
amax = np.repeat(around.reshape(-1, 1), 32, axis=1)
compare("floor(log2(amax))", jax.jit(lambda x: jnp.floor(jnp.log2(x)).astype(np.int32))(amax[:, 0]),
        jax.jit(lambda x: nj.encode(x, "mxfp8_e4m3").scales.astype(np.int32))(amax)[:, 0] - 127 + 8,
        np.frexp(amax[:, 0])[1] - 1)  # fmt: skip

# %%
low = np.arange(-133, -120)
codes = nf.encode(np.ldexp(1.0, low), "bfloat16")
compare("ldexp(1, e)", jnp.ldexp(np.float32(1), low),
        jax.jit(lambda codes: nj.decode(codes, "bfloat16"))(codes), np.ldexp(np.float32(1), low))  # fmt: skip

# %% [markdown]
# ## Casts
#
# A cast to float8 rounds as it should. But its gradient is a cast too: cotangents are rounded to float8, where 1000 is NaN and
# 0.0001 is zero. In `numfmt_jax` a gradient is rounded only where one asks for it.

# %%
g = np.float32([500, 1000, 1e-3, 1e-4])
native = jax.vjp(lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float32), jnp.ones(4))[1](g)[0]
print(g, "→", native)
compare("gradient of a cast", native, jax.vjp(lambda x: nj.quantize(x, "e4m3fn"), jnp.ones(4))[1](g)[0], g)

# %% [markdown]
# The usual way around, a straight-through estimator with `stop_gradient`, has values of its own: it forgets the sign
# of zeros, makes NaN of infinity, and of a number far beyond the range, 0 instead of the largest value.


# %%
def straight_through(x):
    return x + lax.stop_gradient(nj.quantize(x, "e2m1") - x)


x = np.concatenate([a, np.float32([np.inf, -np.inf, 1e12])])
y = np.float32([-0.1, np.inf, 1e12])
print(straight_through(y), "should be", nf.quantize(y, "e2m1"))
compare("straight through", straight_through(x), nj.quantize(x, "e2m1"), nf.quantize(x, "e2m1"))

# %% [markdown]
# `reduce_precision` sounds like the very thing. It has IEEE's formats only: E4M3 ends at 240 with it, and it has no
# subnormal numbers.

# %%
x = (a * 2.0 ** rng.integers(-10, 8, a.size)).astype(np.float32)
compare("reduce_precision(4, 3)", lax.reduce_precision(x, 4, 3), nj.quantize(x, "e4m3fn"), nf.quantize(x, "e4m3fn"))

# %% [markdown]
# From float64, `ml_dtypes` rounds twice, over float32: what lies just beside a tie is on it after the first rounding.

# %%
ties = 1 + (2 * np.arange(8) + 1) / 16  # midway between neighbours in E4M3
x = np.concatenate([ties + 2.0**-40, ties - 2.0**-40])
with jax.enable_x64(True):
    codes = np.asarray(jax.jit(lambda x: nj.encode(x, "e4m3fn"))(x))
compare("float64 to float8", x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8), codes, nf.encode(x, "e4m3fn"))

# %% [markdown]
# And numbers of six bits cannot even change their sign, those of four have no products. The values of any format fit in float32, and that is where
# `numfmt_jax` has them.


# %%
def refused(hazard, attempt, ours, right):
    """As compare, for what does not even run."""
    try:
        naive = attempt()
    except Exception as error:  # its class differs between releases
        print(f"{type(error).__name__}: {error}"[:110], "…")
        table[hazard] = {"obvious code": "error", "numfmt_jax": (int(wrong(ours, right).sum()), np.size(right))}
    else:
        compare(hazard, naive, ours, right)


refused("−float6", lambda: -jnp.asarray(a.astype(ml_dtypes.float6_e2m3fn)),
        -nj.quantize(a, "e2m3"), -nf.quantize(a, "e2m3"))  # fmt: skip

# %%
m, n = rng.standard_normal((2, 64, 64)).astype(np.float32)
m4, n4 = (nf.quantize(x, "e2m1") for x in (m, n))
sums = {"dimension_numbers": (((1,), (0,)), ((), ())), "preferred_element_type": np.float32}
e2m1 = nj.Recipe(fprop=nj.Gemm("e2m1", "e2m1"))
refused("float4 @ float4", lambda: lax.dot_general(*(jnp.asarray(x, jnp.float4_e2m1fn) for x in (m, n)), **sums),
        nj.dot_general(m, n, **sums, recipe=e2m1), m4 @ n4)  # fmt: skip

# %% [markdown]
# ## Sums that stop
#
# A result has the type of its operands, also where that holds no sum. `float8 @ float8` is rounded to float8, and 1000 ones
# add up to 256; to 16 in NumPy, which adds one by one. Recipes sum in float32.

# %%
m8, n8 = (x.astype(ml_dtypes.float8_e4m3fn) for x in (m, n))
e4m3 = nj.Recipe(fprop=nj.Gemm("e4m3fn", "e4m3fn"))
compare("float8 @ float8", jnp.asarray(jnp.asarray(m8) @ jnp.asarray(n8), np.float32),
        nj.dot_general(m, n, **sums, recipe=e4m3), (m8.astype(np.float64) @ n8.astype(np.float64)).astype(np.float32))  # fmt: skip

# %%
print("NumPy:", np.ones(1000, ml_dtypes.float8_e4m3fn).sum())
compare("sum of 1000 ones", jnp.ones(1000, jnp.float8_e4m3fn).sum().astype(np.float32),
        nj.quantize(jnp.ones(1000), "e4m3fn").sum(), np.float32(1000))  # fmt: skip

# %% [markdown]
# ## Other types
#
# The same line has other dtypes in NumPy and JAX. A kernel that is to give the same bits in both may not rely on that;
# results of `numfmt` and `numfmt_jax` have the same.

# %%
lines = {
    "where(c, 1, 0)": lambda xp: xp.where(xp.asarray([True]), 1, 0),
    "uint32 + int32": lambda xp: xp.asarray([1], "uint32") + xp.asarray([1], "int32"),
    "float16 · float32(3)": lambda xp: xp.asarray([1], "float16") * np.float32(3),
    "arange(3) / 2": lambda xp: xp.arange(3) / 2,
}
names = ["e4m3fn", "bfloat16", "int8", "nf4"]
for line, f in lines.items():
    print(f"{line:22} {f(np).dtype!s:8} {f(jnp).dtype}")
other = [f(np).dtype != f(jnp).dtype for f in lines.values()]
ours = [nf.encode(a, name).dtype != nj.encode(a, name).dtype for name in names]
table["dtypes"] = {"obvious code": (sum(other), len(other)), "numfmt_jax": (sum(ours), len(ours))}

# %% [markdown]
# ## What nobody can mend
#
# Other implementations of a function round differently, and so do sums in another order. No result here is wrong, but they are
# not those of NumPy, so that a training run on another machine is another run. `numfmt_jax` leaves a model's own arithmetic to
# XLA. It promises the operands of products bit for bit, and the results that a policy's `values` name.
#
# Not shown, because they need other hardware or flags of their own: on a GPU products may be computed in TF32, unless one
# asks for `Precision.HIGHEST`, as recipes do; the round trip from float32 over bfloat16 is left out there; with
# `--xla_cpu_max_isa=SSE4_2` conversions of float16 do not compile. `--xla_allow_excess_precision=false` mends the
# roundings that are left out, in your code; ours does not need it.

# %%
positive = np.abs(a)
for function in ("sqrt", "exp", "log", "tanh", "sin"):
    found = int(wrong(getattr(jnp, function)(positive), getattr(np, function)(positive)).sum())
    print(f"{function:5} {found:5,} of {a.size:,} are not those of NumPy")
print(f"sum   {int(wrong(jnp.sum(a.reshape(64, 64), axis=1), a.reshape(64, 64).sum(axis=1)).sum()):5,} of 64")

# %% [markdown]
# ## All of them

# %%
ax = viz.verdicts(table)

# %% [markdown]
# ## What was claimed above

# %%
assert all(row["numfmt_jax"][0] == 0 for row in table.values())
mended = [hazard for hazard, row in table.items() if row["obvious code"][0] == 0]
print(f"mended in jax {jax.__version__}: {', '.join(mended) or 'none'}")
assert len(table) == 25
assert set(mended) <= {"bf16(m @ n)", "(x + C) − C", "√(x²)"} or jax.__version__ not in ("0.10.2", "0.12.0.1")
