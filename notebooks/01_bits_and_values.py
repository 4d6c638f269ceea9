# %% [markdown]
# # 1 · Bits and values
#
# **Which numbers does a format have, and what did it give up for them?**
#
# A number format is a finite set of values with names. The names are *codes*: unsigned integers of a few bits.
# Eight bits make 256 codes and no more, so every format is a choice of 256 places on the number line, and every
# choice leaves something out. This page reads codes, then looks at what several formats spend their codes on.

# %%
import numfmt as nf
from numfmt import viz

# %% [markdown]
# ## A code is a few fields
#
# `e4m3fn` has a sign bit, four exponent bits and a trailing significand of three bits. An exponent field
# $E \ge 1$ means $1.f \times 2^{E - 7}$: the leading 1 is not stored. Nothing is rounded in this reading; the value
# of a code is an exact fraction.

# %%
ax = viz.bit_layout("e4m3fn", 0x4D)
print(repr(nf.exact(0x4D, "e4m3fn")))

# %% [markdown]
# The same eight bits mean something else in every format: fixed point has no exponent, an E8M0 scale has nothing
# but an exponent, and a codebook has only an index into a list. (T is the trailing significand, where the word has no
# room; the colours are the same on all pages.)

# %%
for name in ("e5m2", "q3.4", "e8m0", "nf4"):
    ax = viz.bit_layout(name, 0x4D)

# %% [markdown]
# ## Subnormals fill the hole around zero
#
# With a hidden leading 1, no code could be zero, and the smallest numbers would stand alone above a wide gap. So
# exponent field 0 is read differently: $0.f \times 2^{1 - \mathrm{bias}}$. These *subnormal* values (orange) go down to
# zero in equal steps.

# %%
ax = viz.bit_layout("e4m3fn", 0x03)

# %% [markdown]
# Without them the distance from the smallest number to zero is many times the distance to its other neighbour:
# two different numbers can have a difference that rounds to zero.

# %%
without = nf.FloatFormat.from_fields(3, 2, specials="f", subnormals=False)
ax = viz.number_line(["e3m2", without], limits=(0, 1))
_ = ax.set_yticklabels(["e3m2", "e3m2 without\nsubnormals"])

# %% [markdown]
# ## Not every code is a number
#
# Four formats share the fields 1 + 4 + 3 and differ in what they do with the codes at the ends:
#
# - `float8_e4m3` follows IEEE 754: a whole exponent field goes to two infinities and fourteen NaNs;
# - `e4m3fn` (OCP) keeps one NaN per sign, has no infinity, and reaches 448 instead of 240;
# - `e4m3fnuz` puts its only NaN in the place of −0, and shifts the bias by one;
# - `binary8p4se` (IEEE P3109) does that too, and has infinities at both ends.

# %%
figure = viz.code_map(["float8_e4m3", "e4m3fn", "e4m3fnuz", "binary8p4se"])

# %% [markdown]
# A NaN is therefore not "the code 0x7F" but a question to the format, and the answer may be "there is none".

# %%
for name in ("float8_e4m3", "e4m3fn", "e4m3fnuz", "binary8p4se", "e2m1"):
    f = nf.get_format(name)
    nan = "none" if f.nan_code is None else f"0x{f.nan_code:02X}"
    infinity, zero = ("yes" if has else "no" for has in (f.has_infinity, f.has_negative_zero))
    print(f"{name:12} NaN {nan:5} infinity {infinity:4} −0 {zero}")

# %% [markdown]
# ## On the number line
#
# Near 1 the formats look like this: dense near zero, and half as dense with every power of two.

# %%
ax = viz.number_line(["e2m1", "e4m3fn", "e5m2"], limits=(-6, 6))

# %% [markdown]
# In powers of two the picture turns around. Now the values are evenly spread, and what differs is how far they go.

# %%
ax = viz.number_line(["e2m1", "e4m3fn", "e5m2"], scale="symlog")

# %% [markdown]
# ## How far: the range of every named format
#
# From the least positive value to the largest one. Range costs one bit of exponent for every doubling of these
# bars; what is left is the precision *p*, the number of significant binary digits, that stands at the right. (The axis
# has equal steps up to $2^{16}$ and equal ratios beyond, so that 4 bits and 256 bits fit one page.)

# %%
ax = viz.dynamic_range()

# %% [markdown]
# ## How dense: codes per binade
#
# A *binade* is the interval from one power of two to the next. This is the account of where the codes went. Precision
# is the height of a line, range is its length, and the number of codes is the same for all: `int8` puts half of its
# positive codes into its last binade; `e8m0` gives one to each of 255; `e4m3fn` and `e5m2` lie between, twice as
# dense or twice as long. `binary8p3se` moves one binade down in exchange for symmetry about 1.

# %%
ax = viz.codes_per_binade(["e4m3fn", "e5m2", "int8", "e8m0", "binary8p3se"], limits=(-20, 18))

# %% [markdown]
# ## What was claimed above

# %%
assert nf.exact(0x4D, "e4m3fn") == 6.5
assert nf.exact(0x03, "e4m3fn") == 3 * nf.get_format("e4m3fn").min_subnormal

codes = {name: viz.classes(name) for name in ("float8_e4m3", "e4m3fn", "e4m3fnuz", "binary8p4se")}
assert [c.count("nan") for c in codes.values()] == [14, 2, 1, 1]
assert [c.count("infinity") for c in codes.values()] == [2, 0, 0, 2]
assert [nf.get_format(name).max for name in codes] == [240, 448, 240, 224]

positive = {
    name: [v for v in nf.value_table(name) if not isinstance(v, str) and v > 0]
    for name in ("int8", "e8m0", "e4m3fn", "e5m2")
}
assert sum(v >= 64 for v in positive["int8"]) == 64 > len(positive["int8"]) // 2
assert [sum(1 <= v < 2 for v in values) for values in positive.values()] == [1, 1, 8, 4]
