"""HEU: numbers that the evaluators compute with and only the key holder can read (Paillier).

Model: semi-honest parties; decisional composite residuosity, and for keys made here that short
exponents of residues are as good as long ones (Damgård, Jurik, Nielsen 2010). The key holder's
value is encrypted by .to(heu); an evaluator's own value is encoded and stays in clear at its owner;
an operation runs where its plain operand lives. Only the key holder decrypts.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn

import numpy as np

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.backend import Ref
from spuvm.devices.base import Device, DeviceObject
from spuvm.devices.calls import Call, Slot
from spuvm.devices.failure import checked
from spuvm.devices.heudef import Definition, parse
from spuvm.devices.heuparty import Facts, HEUParty, public_key
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.session import checked_parties, current
from spuvm.errors import UsageError
from spuvm.paillier.encoding import Encoding
from spuvm.paillier.keys import MIN_BITS, Safety, check_bits

Kind = Literal["ciphertexts", "plain"]


class HEU(Device):
    """A key holder, who decrypts, and evaluators, who compute under encryption.

    Args:
        sk_keeper: the party that makes the key pair; or SecretFlow's config dict, alone.
        evaluators: other parties.
        key_bits: 2048 or more.
        frac_bits: of floats; the same as the SPU's by default.
        input_range: (lo, hi) of every number; declared ranges make results smaller and packing
            denser. None: |x| < 2^(62 - frac_bits).
        safety: "insecure" admits short keys, for tests.

    Raises:
        UsageError: unknown or repeated parties, a key holder who is an evaluator, a short key.
    """

    def __init__(
        self,
        sk_keeper: str | Mapping[str, Any],
        evaluators: Sequence[str] | None = None,
        key_bits: int = MIN_BITS,
        *,
        frac_bits: int = 18,
        input_range: tuple[float, float] | None = None,
        safety: Safety = "standard",
    ) -> None:
        self._session = current()
        if isinstance(sk_keeper, Mapping):
            said = parse(sk_keeper)
            if evaluators is not None:
                raise UsageError("the evaluators are named twice", expected="a dict alone")
        else:
            said = Definition(sk_keeper, tuple(evaluators or ()), key_bits)
        self.sk_keeper, self.evaluators = said.sk_keeper, said.evaluators
        _check_roles(self.sk_keeper, self.evaluators, self._session.parties)
        check_bits(said.key_bits, safety)
        self.encoding = Encoding(frac_bits, input_range)
        self.key_bits, self.safety = said.key_bits, safety
        self.name = self._session.fresh("heu")
        self._names = itertools.count()
        self._dropped: dict[str, deque[str]] = {p: deque() for p in self.parties}
        backend = self._session.backend
        keeper = self._create(self.sk_keeper, said.key_bits, [])
        self._residents = {self.sk_keeper: keeper}
        (self._announced,) = backend.invoke(keeper, "making a key", "announce", Call((), {}), [])
        for party in self.evaluators:
            key = backend.move(self._announced, party)
            self._residents[party] = self._create(party, Slot(0), [key])

    @property
    def parties(self) -> tuple[str, ...]:
        """The key holder and the evaluators."""
        return (self.sk_keeper, *self.evaluators)

    @property
    def public_key(self) -> Any:
        """The public key as phe.PaillierPublicKey."""
        return self.key.to_phe()

    @property
    def key(self) -> Any:
        """The public key, as this package has it."""
        (announced,) = checked(self._session.backend.fetch([self._announced]))
        return public_key(announced, self.safety)

    def __call__(self, fn: Any) -> NoReturn:
        raise UsageError(
            "a HEU computes with operators on what was moved to it",
            got=getattr(fn, "__name__", type(fn).__name__),
            expected="h1 + h2, h1 - h2, h @ x, h * x, h[...], h.sum()",
        )

    def receive(self, x: PYUObject) -> HEUObject:
        """Encrypt the key holder's value; encode an evaluator's."""
        party = x.device.party
        self.check_member(party, "a value comes")
        method, kind = (
            ("encrypt", "ciphertexts") if party == self.sk_keeper else ("encode", "plain")
        )
        return self.start(party, method, x.ref.what, Slot(0), refs=[x.ref], kind=kind)  # type: ignore[arg-type]

    def start(
        self,
        party: str,
        method: str,
        *args: Any,
        refs: Sequence[Ref],
        kind: Kind = "ciphertexts",
        origins: Sequence[str] = (),
    ) -> HEUObject:
        """A method of a party's instance whose result stays there under a new name."""
        name = f"{self.name}.{next(self._names)}"
        done = self.ask(party, method, name, *args, refs=refs)
        whose = {name for ref in refs for name in ref.origins} | set(origins)
        return HEUObject(self, party, kind, Held(self, party, name, done), tuple(sorted(whose)))

    def ask(self, party: str, method: str, *args: Any, refs: Sequence[Ref]) -> Ref:
        """A method of a party's instance; the result is a value of that party."""
        if current() is not self._session:
            raise UsageError(
                f"{self!r} belongs to a session that was shut down", next="make it again"
            )
        dropped, free = self._dropped[party], []
        while dropped:
            free.append(dropped.popleft())
        call = Call((tuple(free), *args), {})
        what = f"{self.name} {method}"
        (ref,) = self._session.backend.invoke(self._residents[party], what, method, call, refs)
        return ref

    def carry(self, ref: Ref, target: str) -> Ref:
        """A message to another party: ciphertexts and masked integers, which show nothing."""
        return self._session.backend.move(replace(ref, origins=()), target)

    def drop(self, party: str, name: str) -> None:
        """Forget a value with the next call; may be called while garbage is collected."""
        self._dropped[party].append(name)

    def check_member(self, party: str, what: str) -> None:
        """Raise UsageError unless a party is the key holder or an evaluator."""
        if party not in self.parties:
            raise UsageError(
                f"{what} from or to a party that {self.name} does not have",
                got=party,
                expected=f"key holder {self.sk_keeper}, evaluators {', '.join(self.evaluators)}",
                next="make the HEU with it among the evaluators",
            )

    def _create(self, party: str, key: Any, refs: Sequence[Ref]) -> Ref:
        call = Call((self.encoding, key, self.safety), {})
        return self._session.backend.create(party, self.name, HEUParty, call, refs)

    def __repr__(self) -> str:
        return (
            f"HEU({self.name}: {self.sk_keeper} decrypts, {', '.join(self.evaluators)} "
            f"evaluate, {self.key_bits} bits)"
        )


class Held:
    """A value at one party of a HEU, under one name; freed there when nobody holds it."""

    __slots__ = ("__weakref__", "done", "name")

    def __init__(self, heu: HEU, party: str, name: str, done: Ref) -> None:
        self.name, self.done = name, done
        weakref.finalize(self, heu.drop, party, name).atexit = False


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
        backend = self._session.backend
        ref = backend.describe(self.ref, f"looking at {self.name}", _same)
        (found,) = checked(backend.fetch([ref]))
        return found  # type: ignore[no-any-return]

    def ciphertexts(self) -> list[Any]:
        """phe.EncryptedNumber for every element, in C order; they decrypt with the phe key."""
        from spuvm.paillier import interop
        from spuvm.paillier.arrays import Ciphers
        from spuvm.paillier.wire import unseal

        sealed = self.device.ask(self.party, "send", self.name, Slot(0), refs=[self.ref])
        (message,) = checked(self._session.backend.fetch([replace(sealed, origins=())]))
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
            message = heu.carry(self._sealed(), party)
            ref = heu.ask(party, "decrypt", Slot(0), refs=[message])
            record(self, party)
        else:
            return self.at(party)
        return PYUObject(PYU(party), replace(ref, origins=self.origins))

    def to_own_party(self) -> PYUObject:
        """The value at the party that knows it anyway: plain numbers, or the key holder's own."""
        found = self.to_party(self.party)
        assert isinstance(found, PYUObject)
        return found

    def rescaled(self, scale: int) -> HEUObject:
        """The same values with more fraction bits."""
        return self._apply("rescaled", scale)

    def opened_here(self) -> PYUObject:
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
        heu, mask = self.device, f"{self.name}.mask"
        message = heu.ask(self.party, "masked", self.name, mask, Slot(0), refs=[self.ref])
        shown = heu.ask(
            heu.sk_keeper, "decrypt_masked", Slot(0), refs=[heu.carry(message, heu.sk_keeper)]
        )
        back = heu.carry(shown, self.party)
        ref = heu.ask(self.party, "unmask", mask, Slot(0), refs=[back])
        record(self, self.party)
        return PYUObject(PYU(self.party), replace(ref, origins=self.origins))

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

    __array_ufunc__ = None  # numpy arrays leave operators to this class

    def __repr__(self) -> str:
        return f"HEUObject({self.device.name}: {self.kind} at {self.party})"


def record(x: HEUObject, to: str, what: str | None = None) -> None:
    """Count what was opened to whom; shapes stay with the parties."""
    one = Disclosure(what or f"output of {x.device.name}", to, x.origins, (), "float64", "")
    opened = current().opened
    opened[one] = opened.get(one, 0) + 1


def _binary(operation: str, left: Any, right: Any) -> HEUObject:
    heu: HEU = (left if isinstance(left, HEUObject) else right).device
    sides = [x.to(heu) if isinstance(x, PYUObject) else x for x in (left, right)]
    handles = [x for x in sides if isinstance(x, HEUObject)]
    for x in sides:
        if isinstance(x, DeviceObject) and x.device is not heu:
            raise UsageError(f"operands of {operation} on different devices", got=repr(x))
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


def _check_roles(keeper: Any, evaluators: Sequence[Any], known: Sequence[str]) -> None:
    names = checked_parties([keeper, *evaluators])
    if len(names) < 2:
        raise UsageError("a HEU has at least one evaluator", got="none")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            "unknown party",
            got=", ".join(unknown),
            expected=f"one of {', '.join(known)}",
            next="name it in sf.init(parties=[...])",
        )


def _same(value: Any) -> Any:
    return value
