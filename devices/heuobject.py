"""Handles of ciphertexts: operators run where the plain operand lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spuvm.devices.backend import Ref
from spuvm.devices.base import DeviceObject
from spuvm.devices.calls import Slot
from spuvm.devices.heuparty import Facts
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.reporting import disclose
from spuvm.errors import UsageError

if TYPE_CHECKING:
    from spuvm.devices.heu import HEU, Held

Kind = Literal["ciphertexts", "plain"]


class HEUObject(DeviceObject):
    """A handle of an array of ciphertexts, or of an evaluator's encoded numbers."""

    __slots__ = ("_held", "kind", "origins", "party")

    def __init__(
        self, device: HEU, party: str, kind: Kind, held: Held, origins: tuple[str, ...]
    ) -> None:
        super().__init__(device)
        self.party, self.kind, self._held, self.origins = party, kind, held, origins

    @property
    def ref(self) -> Ref:
        """Done when the value exists: public facts (shape, scale, bound) at its party."""
        return self._held.done

    @property
    def name(self) -> str:
        """What its party calls it."""
        return self._held.name

    def facts(self) -> Facts:
        """Shape, scale and bound, asked from the party; waits for the work behind it."""
        self.check_session()
        return public_value(self.party, self.ref)  # type: ignore[no-any-return]

    def ciphertexts(self) -> list[Any]:
        """phe.EncryptedNumber for every element, in C order; they decrypt with the phe key."""
        from spuvm.devices.moves import reveal
        from spuvm.paillier import interop
        from spuvm.paillier.arrays import Ciphers
        from spuvm.paillier.wire import unseal

        sealed = self.device.ask(self.party, "send", self.name, Slot(0), refs=[self.ref])
        # Whoever gets them may be the key holder: as much an opening as decryption.
        message = reveal(PYUObject(PYU(self.party), replace(sealed, origins=self.origins)))
        ciphers = unseal(message, self.device.key)
        assert isinstance(ciphers, Ciphers)
        return interop.to_phe(ciphers)

    def sum(self, axis: int | None = None) -> HEUObject:
        """The sum of all elements, or along an axis."""
        return self._apply("sum", axis)

    def bucket_sums(self, buckets: Any, count: int) -> HEUObject:
        """Row b: the sum of the rows in bucket b. `buckets` lives where these ciphertexts are.

        Args:
            buckets: a PYUObject of integers [rows], or a public array.
            count: how many buckets there are.
        """
        if not isinstance(buckets, PYUObject):
            return self._apply("bucket_sums", np.asarray(buckets), count)
        here = self.at(buckets.device.party)
        return here.device.start(  # type: ignore[no-any-return]
            here.party, "apply", "bucket_sums", here.name, (Slot(1), count), Slot(0),
            refs=[here.ref, buckets.ref], origins=here.origins,
        )  # fmt: skip

    def reshape(self, *shape: int) -> HEUObject:
        """The same elements in another shape."""
        return self._apply("reshape", *shape)

    @property
    def T(self) -> HEUObject:
        """Axes reversed."""
        return self._apply("T")

    def at(self, party: str) -> HEUObject:
        """This value as ciphertexts at a party; it is sealed for the way."""
        heu = self.device
        heu.check_member(party, "ciphertexts move")
        if party == self.party and self.kind == "ciphertexts":
            return self
        if party == heu.sk_keeper:
            raise UsageError(
                "ciphertexts that go to the key holder are decrypted there",
                got=repr(self),
                next="say so: x.to(PYU(...)); to compute, take an evaluator",
            )
        if party == self.party:
            return heu.start(  # type: ignore[no-any-return]
                party, "receive", Slot(0), refs=[self._sealed()], origins=self.origins
            )
        message = heu.carry(self._sealed(), party)
        return heu.start(party, "receive", Slot(0), refs=[message], origins=self.origins)  # type: ignore[no-any-return]

    def to_party(self, party: str) -> PYUObject | HEUObject:
        """To the key holder: decrypted. To its owner: plain numbers. Else ciphertexts there."""
        heu = self.device
        if self.kind == "plain" and party == self.party:
            ref = heu.ask(party, "decoded", self.name, Slot(0), refs=[self.ref])
        elif party == heu.sk_keeper and self.party == party:
            ref = heu.ask(party, "decoded", self.name, Slot(0), refs=[self.ref])
            if set(self.origins) != {party}:
                record(self, party)
        elif party == heu.sk_keeper:
            opened = f"output of {heu.name}"
            message = heu.carry_to_open(self._sealed(), party, opened, self.origins)
            ref = heu.ask(party, "decrypt", Slot(0), refs=[message])
            record(self, party)
        else:
            return self.at(party)
        return self._result(party, ref)

    def to_own_party(self) -> PYUObject:
        """The value at the party that knows it anyway: plain numbers, or the key holder's own."""
        found = self.to_party(self.party)
        assert isinstance(found, PYUObject)
        return found

    def rescaled(self, scale: int) -> HEUObject:
        """The same values with more fraction bits."""
        return self._apply("rescaled", scale)

    def opened_here(self, what: str | None = None) -> PYUObject:
        """The value itself to the evaluator who holds the ciphertexts, and to nobody else.

        Local:    the evaluator adds a mask r, uniform below 2^(bits of the bound + 41), to every
                  element and packs as many as fit into one plaintext
        Sends:    evaluator -> key holder: Enc(v + r), re-randomised; back: v + r
        Requires: |v| <= the tracked bound
        Error:    exact
        Opens:    v to the evaluator (reported); v + r to the key holder, within 2^-40 of uniform
        Security: semi-honest, key holder and evaluator do not collude
        """
        if self.kind != "ciphertexts" or self.party == self.device.sk_keeper:
            raise UsageError("only ciphertexts at an evaluator are opened there", got=repr(self))
        heu: HEU = self.device
        mask = heu.fresh_mask()
        message = heu.ask(self.party, "masked", self.name, mask, Slot(0), refs=[self.ref])
        shown = heu.ask(
            heu.sk_keeper, "decrypt_masked", Slot(0), refs=[heu.carry(message, heu.sk_keeper)]
        )
        opened = what or f"output of {heu.name}"
        back = heu.carry_to_open(shown, self.party, opened, self.origins)
        ref = heu.ask(self.party, "unmask", mask, Slot(0), refs=[back])
        record(self, self.party, opened)
        return self._result(self.party, ref)

    def _result(self, party: str, ref: Ref) -> PYUObject:
        found = PYUObject(PYU(party), replace(ref, origins=self.origins))
        found.keeps = self.device
        return found

    def _sealed(self) -> Ref:
        ref: Ref = self.device.ask(self.party, "send", self.name, Slot(0), refs=[self.ref])
        return ref

    def _apply(self, method: str, *args: Any) -> HEUObject:
        self.check_session()
        return self.device.start(  # type: ignore[no-any-return]
            self.party, "apply", method, self.name, args, Slot(0),
            refs=[self.ref], kind=self.kind, origins=self.origins,
        )  # fmt: skip

    def __getitem__(self, index: Any) -> HEUObject:  # type: ignore[override]
        """Slices and public indices, as in numpy."""
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, DeviceObject) for part in parts):
            raise UsageError("an index is public", got=repr(index))
        return self._apply("__getitem__", index)

    def __neg__(self) -> HEUObject:  # type: ignore[override]
        return self._apply("__neg__")

    def __add__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("+", self, other)

    def __radd__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("+", other, self)

    def __sub__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("-", self, other)

    def __rsub__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("-", other, self)

    def __mul__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("*", self, other)

    def __rmul__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("*", other, self)

    def __matmul__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("@", self, other)

    def __rmatmul__(self, other: Any) -> HEUObject:  # type: ignore[override]
        return _binary("@", other, self)

    def _instead(self, operation: str) -> str:
        if operation == "arithmetic":
            return "+ - * @ with numbers, h * (1 / c) to divide; compute other things on an SPU"
        return f"sf.reveal(x.to(PYU({self.device.sk_keeper!r}))) lets the key holder decrypt it"

    __array_ufunc__ = None  # numpy arrays leave operators to this class

    def __repr__(self) -> str:
        return f"HEUObject({self.device.name}: {self.kind} at {self.party})"


def record(x: HEUObject, to: str, what: str | None = None) -> None:
    """Count what was opened to whom; shapes stay with the parties."""
    disclose(what or f"output of {x.device.name}", to, x.origins)


def _binary(operation: str, left: Any, right: Any) -> HEUObject:
    heu: HEU = (left if isinstance(left, HEUObject) else right).device
    sides = [x.to(heu) if isinstance(x, PYUObject) else x for x in (left, right)]
    handles = [x for x in sides if isinstance(x, HEUObject)]
    for x in sides:
        if isinstance(x, DeviceObject) and x.device is not heu:
            raise UsageError(f"operands of {operation} on different devices", got=repr(x))
        if not isinstance(x, DeviceObject):
            heu.encoding.public(x, f"the constant of {operation}")  # misuse shows at the call
    for x in handles:
        x.check_session()
    party = _where(operation, handles)
    placed = [
        x.at(party) if isinstance(x, HEUObject) and x.kind == "ciphertexts" else x for x in sides
    ]
    handles = [x for x in placed if isinstance(x, HEUObject)]
    args = [x.name if isinstance(x, HEUObject) else np.asarray(x) for x in placed]
    slots = [Slot(i) for i in range(len(handles))]
    origins = {name for x in handles for name in x.origins}
    return heu.start(
        party, "compute", operation, *args, *slots,
        refs=[x.ref for x in handles], origins=tuple(origins),
    )  # fmt: skip


def _where(operation: str, handles: Sequence[HEUObject]) -> str:
    """The party that computes: where the plain operand lives, or where all ciphertexts are."""
    plain = [x for x in handles if x.kind == "plain"]
    if len(plain) == len(handles):
        raise UsageError(
            f"{operation} without ciphertexts",
            got=", ".join(map(repr, handles)),
            next="compute with the owner's PYU before .to(heu)",
        )
    if len(handles) == 2 and not plain:
        if operation in "*@":
            raise UsageError(
                f"ciphertext {operation} ciphertext is not possible",
                expected="one operand in clear: this encryption is additive",
                next="compute the product on an SPU",
            )
        if handles[0].party != handles[1].party:
            places = sorted({x.party for x in handles})
            raise UsageError(
                f"the operands of {operation} are ciphertexts at different parties",
                got=" and ".join(places),
                next=f"bring them together first, for example x.to(PYU({_evaluator(handles)!r}))",
            )
    return (plain or list(handles))[0].party


def _evaluator(handles: Sequence[HEUObject]) -> str:
    heu = handles[0].device
    return next((x.party for x in handles if x.party != heu.sk_keeper), heu.evaluators[0])


def public_value(party: str, ref: Ref) -> Any:
    """What everybody may know of a party's value: facts, a public key, sealed ciphertexts."""
    from spuvm.devices.moves import reveal

    return reveal(PYUObject(PYU(party), replace(ref, origins=())))
