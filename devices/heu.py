"""HEU: numbers that the evaluators compute with and only the key holder can read (Paillier).

Model: semi-honest parties; decisional composite residuosity, and for keys made here that short
exponents of residues are as good as long ones (Damgård, Jurik, Nielsen 2010). The key holder's
value is encrypted by .to(heu); an evaluator's own value is encoded and stays in clear at its owner;
an operation runs where its plain operand lives. Only the key holder decrypts.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from spuvm.devices.backend import Ref
from spuvm.devices.base import Device
from spuvm.devices.calls import Call, Slot
from spuvm.devices.failure import source_line
from spuvm.devices.heudef import Definition, check_field, parse
from spuvm.devices.heuobject import HEUObject, Kind, public_value
from spuvm.devices.heuparty import HEUParty, public_key
from spuvm.devices.pyu import PYUObject
from spuvm.devices.session import checked_parties, current
from spuvm.errors import UsageError
from spuvm.paillier.encoding import Encoding
from spuvm.paillier.keys import MIN_BITS, Safety, check_new


class HEU(Device):
    """A key holder, who decrypts, and evaluators, who compute under encryption.

    Args:
        sk_keeper: the party that makes the key pair; or SecretFlow's config dict. Its "encoding"
            has no effect: floats have frac_bits here, integers stay integers.
        evaluators: other parties; with a dict nothing, or SecretFlow's second argument "FM64".
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
            check_field(evaluators)
        elif isinstance(evaluators, str):
            raise UsageError(
                "evaluators are a list of names", got=repr(evaluators), expected=f"[{evaluators!r}]"
            )
        else:
            said = Definition(sk_keeper, tuple(evaluators or ()), key_bits)
        self.sk_keeper, self.evaluators = said.sk_keeper, said.evaluators
        _check_roles(self.sk_keeper, self.evaluators, self._session.parties)
        check_new(said.key_bits, safety)
        self.encoding = Encoding(frac_bits, input_range)
        self.key_bits, self.safety = said.key_bits, safety
        self.name = self._session.fresh("heu")
        self._names = itertools.count()
        self._dropped: dict[str, deque[str]] = {p: deque() for p in self.parties}
        self._session.held.append(self)
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
        return public_key(public_value(self.sk_keeper, self._announced), self.safety)

    def __call__(self, fn: Any) -> NoReturn:
        raise UsageError(
            "a HEU computes with operators on what was moved to it",
            got=getattr(fn, "__name__", type(fn).__name__),
            expected="h1 + h2, h1 - h2, h @ x, h * x, h[...], h.sum()",
        )

    def receive(self, x: PYUObject, input_range: tuple[float, float] | None = None) -> HEUObject:
        """Encrypt the key holder's value; encode an evaluator's.

        `input_range` narrows this HEU's for the one value: its owner checks it.
        """
        party = x.device.party
        self.check_member(party, "a value comes")
        encoding = self.encoding
        if input_range is not None:
            encoding = Encoding(encoding.frac_bits, input_range)
        method = "encrypt" if party == self.sk_keeper else "encode"
        kind: Kind = "ciphertexts" if party == self.sk_keeper else "plain"
        return self.start(party, method, x.ref.what, Slot(0), encoding, refs=[x.ref], kind=kind)

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
        with contextlib.suppress(IndexError):  # also where two threads of a script empty it
            while True:
                free.append(dropped.popleft())
        call = Call((tuple(free), *args), {}, at=source_line())
        what = f"{self.name} {method}"
        self._session.flow.note(party, party, "work", what)
        (ref,) = self._session.backend.invoke(self._residents[party], what, method, call, refs)
        return ref

    def fresh_mask(self) -> str:
        """A name for a mask: no two moves share one."""
        return f"{self.name}.mask{next(self._names)}"

    def carry(self, ref: Ref, target: str) -> Ref:
        """A message to another party: ciphertexts and masked integers, which show nothing."""
        self._session.flow.note(ref.party, target, "hidden", ref.what)
        return self._session.backend.move(replace(ref, origins=()), target)

    def carry_to_open(self, ref: Ref, target: str, what: str, origins: Sequence[str]) -> Ref:
        """A message that lets `target` see a value: all whose data it depends on may refuse."""
        self._session.flow.note(ref.party, target, "opened", what)
        return self._session.backend.move(replace(ref, what=what, origins=tuple(origins)), target)

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
