"""Small devices in plain integers, as a hardware engineer would model them, each with at most one planted bug."""

import numfmt as nf

BUGS = {
    "ties up": "wrong tie",
    "ties to odd": "wrong tie",
    "lost sticky": "missing sticky",
    "short sticky": "missing sticky",
    "flushed results": "flushed subnormal",
    "flushed operands": "flushed subnormal",
    "no sign of zero": "sign of zero",
    "overflow to the largest": "saturation",
    "two roundings": "double rounding",
    "truncates": "wrong rounding direction",
    "rounds up": "wrong rounding direction",
    "no carry": "other",
    "NaN with a payload": "NaN bits",
    "zero for NaN": "number instead of NaN",
    "NaN on overflow": "overflow",
    "NaN for infinity times zero lost": "number instead of NaN",
}


class Device:
    """Rounds ties to even; overflow gives infinity, in formats without one the largest value."""

    def __init__(self, to, bug=""):
        self.to, self.bug = nf.get_format(to), bug
        self.t, self.emin = self.to.precision - 1, 1 - self.to.bias
        self.p_seen = self.to.precision + 4

    def unpack(self, code, fmt):
        """(sign, significand, exponent of its last digit), or (sign, "nan" or "inf", 0)."""
        sign, magnitude = code >> (fmt.bits - 1), code & fmt.magnitude_mask
        field, fraction = magnitude >> fmt.trailing_bits, magnitude & (1 << fmt.trailing_bits) - 1
        if magnitude > fmt.max_code:
            return sign, "inf" if magnitude == fmt.infinity_code else "nan", 0
        if field == 0:
            flushed = self.bug == "flushed operands"
            return sign, 0 if flushed else fraction, 1 - fmt.bias - fmt.trailing_bits
        return sign, fraction | 1 << fmt.trailing_bits, field - fmt.bias - fmt.trailing_bits

    def nan(self):
        if self.bug == "zero for NaN":
            return 0
        return self.to.nan_code | (self.to.sign_mask if self.bug == "NaN with a payload" else 0)

    def overflowed(self, sign):
        if self.bug == "NaN on overflow":
            return self.to.nan_code
        if self.to.infinity_code is None or self.bug == "overflow to the largest":
            return self.to.max_code | sign * self.to.sign_mask
        return self.to.infinity_code | sign * self.to.sign_mask

    def infinite(self, sign):
        code = self.to.infinity_code
        return (self.to.max_code if code is None else code) | sign * self.to.sign_mask

    def zero(self, sign):
        return 0 if self.bug == "no sign of zero" else sign * self.to.sign_mask

    def pack(self, sign, m, e):
        if m == 0:
            return self.zero(sign)
        if self.bug == "two roundings":
            m, e = self.first_rounding(m, e)
        top = m.bit_length() - 1 + e
        quantum = max(top, self.emin) - self.t
        shift = quantum - e
        kept, guard, sticky = (m << -shift, 0, 0) if shift <= 0 else self.split(m, shift)
        up = guard and (sticky or kept & 1)
        if self.bug == "ties up":
            up = guard
        elif self.bug == "ties to odd":
            up = guard and (sticky or not kept & 1)
        elif self.bug == "truncates":
            up = 0
        elif self.bug == "rounds up":
            up = guard or sticky
        s = kept + bool(up)
        if self.bug == "no carry" and kept == (2 << self.t) - 1:
            s = 1 << self.t if up else kept
        magnitude = (quantum - self.emin + self.t << self.t) + s
        if magnitude > self.to.max_code:
            return self.overflowed(sign)
        if self.bug == "flushed results" and magnitude >> self.t == 0:
            magnitude = 0
        return magnitude | sign * self.to.sign_mask if magnitude else self.zero(sign)

    def split(self, m, shift):
        kept, guard, below = m >> shift, m >> (shift - 1) & 1, m & (1 << (shift - 1)) - 1
        if self.bug == "lost sticky":
            below = 0
        if self.bug == "short sticky":  # sees two digits below the guard digit
            below = below >> max(0, shift - 3)
        return kept, guard, below != 0

    def first_rounding(self, m, e):
        shift = m.bit_length() - self.p_seen
        if shift <= 0:
            return m, e
        kept, guard, below = m >> shift, m >> (shift - 1) & 1, m & (1 << (shift - 1)) - 1
        return kept + bool(guard and (below or kept & 1)), e + shift


class Multiplier(Device):
    def __call__(self, a, b):
        (s, m, e), (r, n, f) = self.unpack(a, self.to), self.unpack(b, self.to)
        sign = s ^ r
        if "nan" in (m, n):
            return self.nan()
        if "inf" in (m, n):
            invalid = 0 in (m, n)
            if invalid and self.bug != "NaN for infinity times zero lost":
                return self.nan()
            return self.infinite(sign)
        return self.pack(sign, m * n, e + f)


class Converter(Device):
    source = nf.get_format("float32")

    def __call__(self, a):
        sign, m, e = self.unpack(a, self.source)
        if m == "nan":
            return self.nan()
        if m == "inf":
            return self.infinite(sign)
        return self.pack(sign, m, e)
