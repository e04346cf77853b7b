"""Sums and averages of what several parties hold: in clear, masked, or on an SPU.

All three take a list of handles, one per participant, of pytrees of one structure, and give a
handle of one such tree. `weights` are numbers that everybody may know, or handles of numbers that
stay with their owners. axis=0 works element by element across the participants; axis=None also adds
up each leaf's elements.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from spuvm.devices.base import Device
from spuvm.devices.masker import Masked, Masker, unmasked
from spuvm.devices.proxy import proxy
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import disclose, named
from spuvm.devices.spu import SPU, SPUObject
from spuvm.errors import UsageError

MOST_FRAC_BITS = 52  # of a float64
Axis = Literal[0] | None
Weights = Sequence[Any] | None

_Masker = proxy(PYUObject)(Masker)


class Aggregator(ABC):
    """Where the parties' values are put together."""

    @abstractmethod
    def sum(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> Any:
        """sum_i weights_i x_i; a handle at the aggregator's device."""

    @abstractmethod
    def average(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> Any:
        """sum_i weights_i x_i / sum_i weights_i; a handle at the aggregator's device."""

    @property
    @abstractmethod
    def device(self) -> Device:
        """Where results are."""


class PlainAggregator(Aggregator):
    """One party sees everything and computes: for comparison, or where it may."""

    def __init__(self, device: PYU) -> None:
        if not isinstance(device, PYU):
            raise UsageError("a plain aggregator is a PYU", got=repr(device))
        self._device = device

    @property
    def device(self) -> PYU:
        return self._device

    def sum(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> PYUObject:
        return self._gather(plain_sum, data, weights, axis)

    def average(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> PYUObject:
        return self._gather(plain_average, data, weights, axis)

    def _gather(self, fn: Any, data: Sequence[Any], weights: Weights, axis: Axis) -> PYUObject:
        given = checked(data, weights, axis)
        with named("value for a plain aggregation"):
            here = [_moved(x, self._device) for x in data]
            beside = [_moved(w, self._device) for w in given]
        found: PYUObject = self._device(fn)(here, beside, axis)
        return found


class SecureAggregator(Aggregator):
    """Pairwise masks cancel in the sum: the aggregating party sees the sum and nothing else.

    Every two participants agree on a key (X25519), and add and subtract the same stream (AES-CTR)
    from values encoded as integers modulo 2^64, so that sums are exact. Bonawitz et al. 2017
    (eprint 2017/281, section 4), without the recovery of parties that drop out: a participant that
    is gone makes the aggregation fail. Semi-honest; up to n - 2 participants and the aggregator
    together learn only the sum of the others.

    Args:
        device: the party that learns the result.
        participants: three or more parties: with two, the sum tells each the other's value.
        frac_bits: of floats; |sum| < 2^(62 - frac_bits).
    """

    def __init__(self, device: PYU, participants: Sequence[PYU], frac_bits: int = 18) -> None:
        several = isinstance(participants, list | tuple)
        if not isinstance(device, PYU) or not several or not all(map(_is_pyu, participants)):
            raise UsageError(
                "a secure aggregation is between PYUs",
                got=f"{device!r}, {participants!r}",
                expected="a PYU, and a list of PYUs",
            )
        if type(frac_bits) is not int or not 0 <= frac_bits <= MOST_FRAC_BITS:
            raise UsageError(
                "frac_bits is a number of bits",
                got=repr(frac_bits),
                expected=f"0 to {MOST_FRAC_BITS}",
            )
        names = [p.party for p in participants]
        if len(set(names)) != len(names) or len(names) < 3:
            raise UsageError(
                "a secure aggregation needs three or more distinct participants",
                got=", ".join(names),
                next="with two, the sum tells each the other's value: use an SPUAggregator and "
                "keep the result on the SPU",
            )
        self._device, self._participants = device, list(participants)
        self._rounds = itertools.count(1)
        self._masking = threading.Lock()
        self._maskers = [_Masker(p.party, names, frac_bits, device=p) for p in participants]
        keys = [m.public_key() for m in self._maskers]
        with named(None):  # public keys
            for masker, pyu in zip(self._maskers, participants, strict=True):
                masker.agree([key.to(pyu) for key in keys])

    @property
    def device(self) -> PYU:
        return self._device

    def sum(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> PYUObject:
        return self._masked(data, weights, axis, "sum")

    def average(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> PYUObject:
        return self._masked(data, weights, axis, "average")

    def _masked(
        self, data: Sequence[Any], weights: Weights, axis: Axis, kind: Literal["sum", "average"]
    ) -> PYUObject:
        given = checked(data, weights, axis)
        places = [getattr(x, "device", None) for x in data]
        if sorted(map(repr, places)) != sorted(map(repr, self._participants)):
            raise UsageError(
                "one value of every participant is needed",
                got=", ".join(map(repr, places)),
                expected=", ".join(map(repr, self._participants)),
            )
        sent = []
        with self._masking:  # rounds reach all participants in one order
            number = next(self._rounds)
            for x, weight in zip(data, given, strict=True):
                masker = self._maskers[self._participants.index(x.device)]
                weighted = weights is not None
                masked = masker.mask(number, x, weight, weighted, axis)
                with named(None):  # masked: the sum is reported below
                    sent.append(masked.to(self._device))
        origins = {name for x in data for name in x.ref.origins}
        disclose(f"{kind} of {len(data)} participants", self._device.party, origins)
        found: PYUObject = self._device(join_masked)(sent, kind)
        found.keeps = self  # the summands are in the participants' instances
        return found


class SPUAggregator(Aggregator):
    """An SPU adds up shares; the result stays shared until it is moved to a party."""

    def __init__(self, device: SPU) -> None:
        if not isinstance(device, SPU):
            raise UsageError("an SPU aggregator is an SPU", got=repr(device))
        self._device = device

    @property
    def device(self) -> SPU:
        return self._device

    def sum(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> SPUObject:
        found: SPUObject = self._device(shared_sum, static_argnames=("axis",))(
            list(data), checked(data, weights, axis), axis=axis
        )
        return found

    def average(self, data: Sequence[Any], weights: Weights = None, axis: Axis = 0) -> SPUObject:
        found: SPUObject = self._device(shared_average, static_argnames=("axis",))(
            list(data), checked(data, weights, axis), axis=axis
        )
        return found


def _is_weight(value: Any) -> bool:
    number = isinstance(value, Real) or (
        isinstance(value, np.ndarray | jax.Array) and not value.ndim
    )
    return number and bool(np.isfinite(value)) and value >= 0


def _is_pyu(value: object) -> bool:
    return isinstance(value, PYU)


def checked(data: Sequence[Any], weights: Weights, axis: Axis) -> list[Any]:
    """One weight per value, or an error that says what is wrong."""
    if axis not in (0, None):
        raise UsageError("axis is 0 (across participants) or None (elements too)", got=repr(axis))
    if isinstance(data, PYUObject | SPUObject) or not len(data):
        raise UsageError("an aggregation takes a list of values", got=type(data).__name__)
    given = [1.0] * len(data) if weights is None else list(weights)
    if len(given) != len(data):
        raise UsageError(
            "one weight per value is needed", got=f"{len(given)} for {len(data)} values"
        )
    public = [w for w in given if not isinstance(w, PYUObject | SPUObject)]
    if not all(map(_is_weight, public)) or (len(public) == len(given) and not sum(public) > 0):
        raise UsageError("weights are numbers from 0 on, not all 0")
    return [float(w) if not isinstance(w, PYUObject | SPUObject) else w for w in given]


def plain_sum(trees: Sequence[Any], weights: Sequence[Any], axis: Axis) -> Any:
    """The sum in clear, leaf by leaf."""

    def add(*leaves: Any) -> Any:
        exact = all(float(w) == 1 for w in weights)
        parts = [x if exact else np.asarray(x) * w for x, w in zip(leaves, weights, strict=True)]
        return np.sum(np.stack(parts), axis=axis)

    return jax.tree.map(add, *trees)


def plain_average(trees: Sequence[Any], weights: Sequence[Any], axis: Axis) -> Any:
    """The weighted mean in clear, leaf by leaf; over all elements for axis=None."""

    def mean(*leaves: Any) -> Any:
        count = 1 if axis == 0 else np.size(leaves[0])
        total = sum(np.asarray(x) * w for x, w in zip(leaves, weights, strict=True))
        return np.sum(total, axis=() if axis == 0 else None) / (sum(weights) * count)

    return jax.tree.map(mean, *trees)


def shared_sum(trees: Sequence[Any], weights: Sequence[Any], axis: Axis) -> Any:
    """plain_sum for an SPU."""

    def add(*leaves: Any) -> Any:
        total = sum(_times(x, w) for x, w in zip(leaves, weights, strict=True))
        return total if axis == 0 else jnp.sum(total)

    return jax.tree.map(add, *trees)


def shared_average(trees: Sequence[Any], weights: Sequence[Any], axis: Axis) -> Any:
    """plain_average for an SPU: weights are normalised first, which keeps numbers small."""
    if all(isinstance(w, float) for w in weights):
        shares = [w / sum(weights) for w in weights]
    else:
        stacked = jnp.stack([jnp.asarray(w, jnp.float32) for w in weights])
        shares = list(stacked / jnp.sum(stacked))

    def mean(*leaves: Any) -> Any:
        total = sum(_times(x, w) for x, w in zip(leaves, shares, strict=True))
        return total if axis == 0 else jnp.mean(total)

    return jax.tree.map(mean, *trees)


def _times(x: Any, weight: Any) -> Any:
    return x if isinstance(weight, float) and weight == 1 else x * weight


def join_masked(parts: Sequence[Masked], kind: Literal["sum", "average"]) -> Any:
    """At the aggregating party: the sum or average behind masked summands."""
    return unmasked(parts, kind)


def _moved(x: Any, device: PYU) -> Any:
    return x.to(device) if isinstance(x, PYUObject | SPUObject) else x
