"""stats: what rounding did to every operand of an emulated function, returned from inside jit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .emulate import emulate
from .measures import NAMES, UNIT
from .random import Key
from .receipt import Receipt
from .recipe import Recipe

Array = jax.Array
SLOTS = tuple(Recipe().slots())
READ = ("saturated", "last_bin", "underflow", "scale_clamped_low", "scale_clamped_high", "sqnr_db", "slope", "rms")


@partial(jax.tree_util.register_dataclass, data_fields=["sums"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Statistics:
    """What rounding did to an array, as a pytree of one leaf; `numfmt.statistics.Statistics` says what each word means.

    Args:
        sums: float32 array of the entries of `measures.NAMES`: those of two arrays add up.
    """

    sums: Array

    def _of(self, name: str) -> Array:
        return self.sums[..., NAMES.index(name)]

    def _share(self, name: str, of: str) -> Array:
        return self._of(name) / jnp.maximum(self._of(of), 1)

    @property
    def elements(self) -> Array:
        """Number of elements; 0 where the slot rounds nothing."""
        return self._of("elements")

    @property
    def blocks(self) -> Array:
        """Number of blocks; 0 for scalar formats."""
        return self._of("blocks")

    @property
    def nonfinite(self) -> Array:
        """Share of elements that were NaN or infinite."""
        return self._share("nan", "elements") + self._share("infinite", "elements")

    @property
    def saturated(self) -> Array:
        """Share of elements beyond the largest element × scale."""
        return self._share("beyond", "elements")

    @property
    def last_bin(self) -> Array:
        """Share of elements whose code is that of an end of the format."""
        return self._share("at_end", "elements")

    @property
    def underflow(self) -> Array:
        """Share of elements that were not zero and became zero."""
        return self._share("to_zero", "elements")

    @property
    def scale_clamped_low(self) -> Array:
        """Share of blocks whose scale is at the lower end of its format."""
        return self._share("low_scales", "blocks")

    @property
    def scale_clamped_high(self) -> Array:
        """Share of blocks whose scale is at the upper end of its format."""
        return self._share("high_scales", "blocks")

    @property
    def sqnr_db(self) -> Array:
        """10 log10(Σ x² / Σ (q - x)²); infinite where nothing was lost."""
        return 10 * jnp.log10(self._of("xx") / self._of("ee"))

    @property
    def slope(self) -> Array:
        """⟨x, q⟩ / ⟨x, x⟩; NaN where all x are zero."""
        return self._of("xq") / self._of("xx")

    @property
    def rms(self) -> Array:
        """Root mean square of x."""
        return jnp.sqrt(self._of("xx") / jnp.maximum(self.elements, 1)) / UNIT

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.sums + other.sums)

    def as_dict(self) -> dict[str, float]:
        """The shares and ratios as Python floats."""
        return {name: float(getattr(self, name)) for name in READ}


class Report(dict[str, dict[str, Statistics]]):
    """Statistics by path and slot; `str` of it is a table."""

    def __str__(self) -> str:
        header = ("site", "slot", "saturated", "last bin", "underflow", "SQNR dB", "slope")
        lines = ["{:40} {:11} {:>9} {:>9} {:>9} {:>8} {:>8}".format(*header)]
        for path, slots in self.items():
            for name in (slot for slot in SLOTS if slot in slots):
                s = slots[name].as_dict()
                lines.append(
                    f"{path[-40:]:40} {name:11} {s['saturated']:9.3%} {s['last_bin']:9.3%} {s['underflow']:9.3%} "
                    f"{s['sqnr_db']:8.2f} {s['slope']:8.5f}"
                )
        return "\n".join(lines)


def _flattened(report: Report) -> tuple[list[dict[str, Statistics]], tuple[str, ...]]:
    return list(report.values()), tuple(report)


def _report(paths: tuple[str, ...], values: Any) -> Report:
    return Report(zip(paths, values, strict=True))


jax.tree_util.register_pytree_node(Report, _flattened, _report)


def stats(
    fn: Callable[..., Any],
    policy: Any,
    *,
    key: Key | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    **options: Any,
) -> Callable[..., tuple[Any, Any, Report]]:
    """A function that gives fn's value, its gradients, and what rounding did to each operand on the way.

    The value and the gradients are those of jax.value_and_grad(emulate(fn, policy, …)). Inside a loop the
    statistics are those of all iterations together.

    Args:
        fn: a loss; policy, key, options: as for `emulate`.
        argnums, has_aux: as for jax.value_and_grad.

    Returns:
        Function of fn's arguments; its results are (value, gradients, `Report`), a pytree, also under jit.

    Raises:
        What `emulate` raises.

    >>> import jax.numpy as jnp
    >>> def loss(w, x):
    ...     return jnp.square(x @ w).sum()
    >>> w, x = jnp.full((32, 4), 0.3), jnp.linspace(-1, 1, 64).reshape(2, 32)
    >>> value, gradient, report = stats(loss, {"*": "mxfp4"})(w, x)
    >>> round(report["dot_general"]["fprop.rhs"].as_dict()["slope"], 4)
    0.8333
    """
    emulated = emulate(fn, policy, key=key, **options)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def measured(*args: Any, **kwargs: Any) -> tuple[Any, Any, Report]:
        receipt = emulated.receipt(*args, **kwargs)
        assert isinstance(receipt, Receipt)
        sites = [site for site in receipt.sites if any(site.slots.values())]
        taps = {site.path: jnp.zeros((len(SLOTS), len(NAMES)), jnp.float32) for site in sites}

        def tapped(taps: Mapping[str, Array], *args: Any) -> Any:
            return emulated.tapped(dict(taps))(*args, **kwargs)

        where = (0, *(i % len(args) + 1 for i in numbers))
        value, (sums, *gradients) = jax.value_and_grad(tapped, argnums=where, has_aux=has_aux)(taps, *args)
        report = Report({site.path: _by_slot(site.slots, sums[site.path]) for site in sites})
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients), report

    return measured


def _by_slot(slots: Mapping[str, Any], sums: Array) -> dict[str, Statistics]:
    """The statistics of the slots that round: not of those that take what forward used."""
    rounds = [name for name in SLOTS if slots.get(name) is not None and slots[name].rounding]
    return {name: Statistics(sums[SLOTS.index(name)]) for name in rounds}
