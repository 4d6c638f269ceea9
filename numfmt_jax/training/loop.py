"""The steps of a training run: the optimizer, the batches, the records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..emulate import emulate
from ..policy import Policy
from .data import Text
from .log import Record
from .model import Array, Parameters, Shape, init, loss

VALIDATIONS = 10  # in a run, besides the one before it
HELD_OUT_BATCHES = 4


@dataclass(frozen=True)
class Settings:
    """What all runs share: the same seed gives the same parameters to begin with and the same batches.

    Args:
        shape: the model.
        batch: windows a step.
        steps: how many.
        lr: the learning rate after the warm-up, a tenth of the steps; then half a cosine down to a tenth of it.
        seed: of parameters, batches and stochastic rounding.
        validate_every: steps between two validations; a tenth of the steps unless given.
        devices: among how many a batch is divided; each holds all parameters.
    """

    shape: Shape
    batch: int = 8
    steps: int = 300
    lr: float = 3e-3
    seed: int = 0
    validate_every: int = 0
    devices: int = 1

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("steps", 1), ("seed", 0), ("validate_every", 0), ("devices", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} is given; it is {least} or more")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr={self.lr} is given; it is a positive number, such as 3e-3")
        if self.batch % self.devices:
            nearest = -(-self.batch // self.devices) * self.devices
            raise ValueError(
                f"a batch of {self.batch} is given; {self.devices} devices divide a multiple of {self.devices}, "
                f"such as {nearest}"
            )

    def validates(self, step: int) -> bool:
        """Whether the validation loss is computed after a step."""
        every = self.validate_every or max(1, self.steps // VALIDATIONS)
        return step % every == 0 or step == self.steps


@dataclass
class Run:
    """A training run under one policy.

    >>> from numfmt_jax.policy import Policy
    >>> from .data import load
    >>> small = Settings(Shape(16, 1, 1, 16), batch=2, steps=2)
    >>> [record["step"] for record in Run("float32", Policy({"*": None}), small, load()).records()]
    [0, 1, 2]
    """

    name: str
    policy: Policy
    settings: Settings
    text: Text
    parameters: Parameters | None = None
    compile_seconds: float = 0.0
    seconds: float = 0.0

    def records(self) -> Iterator[Record]:
        """Trains; one record a step, after it: the loss of its batch before the update, and validation's after it.

        The record of step 0 has the validation loss of the parameters to begin with.
        """
        settings = self.settings
        self.text.check(settings.shape.context)
        held_out = self.text.held_out(HELD_OUT_BATCHES * settings.batch, settings.shape.context)
        start = time.perf_counter()
        gradient, apply = compiled_gradient(self.policy, settings), compiled_update(settings)
        self.compile_seconds = time.perf_counter() - start
        parameters = init(settings.shape, settings.seed)
        state = optimizer_for(settings).init(parameters)

        def validation() -> float:
            """The loss on the text held out, of the model as it is trained: the same noise each time."""
            batches = np.split(held_out, HELD_OUT_BATCHES)
            return float(np.mean([gradient(parameters, batch, np.int32(0))[0] for batch in batches]))

        yield self._record(0, None, validation())
        for step in range(1, settings.steps + 1):
            start = time.perf_counter()
            batch = self.text.batch(settings.seed, step, settings.batch, settings.shape.context)
            value, slopes = gradient(parameters, batch, np.int32(step))
            parameters, state = apply(slopes, state, parameters)
            found = float(jax.block_until_ready((value, parameters))[0])
            self.seconds += time.perf_counter() - start
            self.parameters = parameters
            yield self._record(step, found, validation() if settings.validates(step) else None)

    def _record(self, step: int, loss: float | None, validation: float | None) -> Record:
        return {
            "record": "step", "recipe": self.name, "step": step, "loss": loss, "validation_loss": validation,
            "seconds": round(self.seconds, 4),
        }  # fmt: skip


def optimizer_for(settings: Settings) -> optax.GradientTransformation:
    """AdamW with warm-up, cosine decay and a bound on the gradient's norm."""
    warm = max(1, settings.steps // 10)
    rate = optax.warmup_cosine_decay_schedule(
        settings.lr / warm, settings.lr, warm, max(settings.steps, warm + 1), settings.lr / 10
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.95, weight_decay=0.1))


@lru_cache(maxsize=8)
def compiled_gradient(policy: Policy, settings: Settings) -> Any:
    """The function (parameters, tokens, step) → (loss, gradient) under a policy.

    It is the one function with formats in it that a run compiles; its loss is that of validation too.
    """

    def gradient(parameters: Parameters, tokens: Array, step: Array) -> tuple[Array, Parameters]:
        key = jax.random.fold_in(jax.random.key(settings.seed), step)
        return jax.value_and_grad(emulate(loss, policy, key=key))(parameters, tokens, settings.shape)

    tokens = jax.ShapeDtypeStruct((settings.batch, settings.shape.context + 1), "int32")
    step = jax.ShapeDtypeStruct((), "int32")
    whole, divided = placements(settings)
    placed = jax.jit(gradient, in_shardings=(whole, divided, whole), out_shardings=whole)
    return placed.lower(_parameters(settings), tokens, step).compile()


@lru_cache(maxsize=8)
def compiled_update(settings: Settings) -> Any:
    """The function (gradient, state, parameters) → (parameters, state)."""
    optimizer = optimizer_for(settings)

    def update(gradient: Parameters, state: Any, parameters: Parameters) -> tuple[Parameters, Any]:
        change, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, change), state

    parameters = _parameters(settings)
    placed = jax.jit(update, in_shardings=placements(settings)[0], out_shardings=placements(settings)[0])
    return placed.lower(parameters, jax.eval_shape(optimizer.init, parameters), parameters).compile()


def placements(settings: Settings) -> tuple[NamedSharding, NamedSharding]:
    """Where arrays lie that every device holds, and those whose first axis is divided.

    Raises:
        ValueError: more devices than there are.
    """
    found = jax.devices()
    if settings.devices > len(found):
        raise ValueError(
            f"{settings.devices} devices are asked for and there are {len(found)} ({found[0].device_kind}); "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={settings.devices} has the CPU stand for as many"
        )
    mesh = Mesh(np.array(found[: settings.devices]), ("batch",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))


def _parameters(settings: Settings) -> Any:
    return jax.eval_shape(lambda: init(settings.shape, 0))
