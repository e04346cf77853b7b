"""The only ways data moves between devices: `.to`, `sf.to`, `sf.reveal`; and waiting for work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spuvm.devices.backend import Ref
from spuvm.devices.base import Device, DeviceObject
from spuvm.devices.containers import leaves_in, map_leaves
from spuvm.devices.crossings import Joiner
from spuvm.devices.failure import Failure, checked
from spuvm.devices.flow import Form
from spuvm.devices.proxy import Proxy, not_a_value
from spuvm.devices.pyu import PYU, PYUObject, check_party
from spuvm.devices.reporting import disclose, moved_in_clear
from spuvm.devices.session import current
from spuvm.devices.spu import SPU, SPUObject
from spuvm.devices.structure import describe
from spuvm.errors import UsageError

DRIVER = "driver"


def device_of(target: Any) -> Device:
    """The device that `target` is or, for a proxied instance, stands for."""
    device = target.device if isinstance(target, Proxy) else target
    if not isinstance(device, Device):
        raise UsageError(
            "not a device",
            got=repr(target) if isinstance(target, str) else type(target).__name__,
            expected="a PYU, an SPU, a HEU or a proxied instance",
            next="sf.PYU('alice') makes a device of a party's name",
        )
    if isinstance(device, PYU):
        check_party(device.party)
    return device


def move(x: DeviceObject, target: Any) -> Any:
    """A handle of the same value on another device; the same handle when it is there already."""
    device = device_of(target)
    x.check_session()
    if x.device == device:
        return x
    if isinstance(x, PYUObject) and isinstance(device, PYU):
        session = current()
        form: Form = "clear" if x.ref.origins else "hidden"
        session.flow.note(x.device.party, device.party, form, x.ref.what)
        ref = session.backend.move(x.ref, device.party)
        moved = PYUObject(device, replace(ref, origins=x.ref.origins))
        moved.facts, moved.keeps = x.facts, x.keeps
        if x.ref.origins:  # otherwise masked or encrypted
            moved_in_clear(x.ref.what, device.party, x.ref.origins)
        return moved
    if isinstance(x, PYUObject) and isinstance(device, SPU):
        return device.receive(x)
    if isinstance(x, SPUObject) and isinstance(device, PYU):
        opened = PYUObject(device, x.device.open_to(x, device.party))
        opened.facts = x.structure()[1]
        _record(x, device.party)
        return opened
    if isinstance(x, SPUObject) and isinstance(device, SPU):
        return x.device.pass_on(x, device)
    if _has_ciphertexts(x, device):
        from spuvm.devices.heumoves import move_ciphertexts

        return move_ciphertexts(x, device)
    raise UsageError("no way between these devices", got=f"{x!r} to {device!r}")


def to(device: Any, value: Any) -> Any:
    """Move a handle, every handle in a container, or a value of the script to a party.

    Raises:
        UsageError: a value of the script to an SPU: it has no owner.
    """
    target = device_of(device)
    if any(isinstance(x, DeviceObject) for x in leaves_in(value)):
        return map_leaves(lambda x: move(x, target) if isinstance(x, DeviceObject) else x, value)
    if isinstance(target, PYU):
        return target(given)(value)
    raise UsageError(
        "a value of the script has no owner who could share it",
        got=type(value).__name__,
        next="sf.to(alice, x).to(spu); plain arguments of spu(fn)(x) are public constants",
    )


class Undisclosed:
    """What sf.reveal gives at a party that a value is not revealed to: public facts only.

    Prints as ``<not revealed to carol, only to alice: f32[3] from train>``.
    """

    __slots__ = ("_text",)

    def __init__(self, me: str, to: Sequence[str], facts: str, what: str) -> None:
        self._text = f"<not revealed to {me}, only to {', '.join(to)}: {facts} from {what}>"

    def __repr__(self) -> str:
        return self._text


def reveal(tree: Any, to: str | Sequence[str] | None = None) -> Any:
    """The values behind the handles of a pytree, in clear; arrays from an SPU as numpy.

    Args:
        tree: handles, in lists, tuples, dicts, named tuples, dataclasses and other pytrees.
        to: names of the parties that may see the values; None: all. Where each party runs the
            script itself, all that a value's origins are must allow it, and the others get an
            Undisclosed in its place. A driver stands for all parties.

    Raises:
        SpuvmError: what went wrong while the values were made, naming the party; at all parties.
        PolicyError: a party's policy does not allow it.
    """
    handles = _handles_in(tree)
    for handle in handles:
        handle.check_session()
        if _has_ciphertexts(handle, handle.device):
            raise UsageError(
                "only the key holder reveals ciphertexts",
                got=repr(handle),
                next=f"sf.reveal(x.to(PYU({handle.device.sk_keeper!r})))",
            )
    receivers = _receivers(to)
    me = current().backend.me
    if me is not None:
        return _replaced(tree, _reveal_among(handles, receivers, me))
    secret = [x for x in handles if isinstance(x, SPUObject)]
    clear = [x for x in handles if isinstance(x, PYUObject)]
    backend = current().backend
    opening = {spu: _open(spu, [x for x in secret if x.device is spu]) for spu in _spus(secret)}
    plain = backend.fetch([x.ref for x in clear])
    opened = {spu: backend.fetch(refs) for spu, (_, refs) in opening.items()}
    _record_clear(clear, plain)
    for spu, (objects, _) in opening.items():  # reported also where something else fails
        if not any(isinstance(part, Failure) for part in opened[spu]):
            for x in objects:
                current().flow.note(spu.name, DRIVER, "opened", x.stored.what)
                _record(x, DRIVER)
    checked([*plain, *(part for parts in opened.values() for part in parts)])
    values = dict(zip(map(id, clear), plain, strict=True))
    for spu, (objects, _) in opening.items():
        parts, first = opened[spu], 0
        for x in objects:
            shared, structure = x.structure()
            mine = [machine[first : first + len(shared)] for machine in parts]
            values[id(x)] = Joiner(spu.fxp, shared, structure)(*mine)
            first += len(shared)
    return _replaced(tree, values)


def _handles_in(tree: Any) -> list[DeviceObject]:
    """All handles in a tree; a proxied instance in it is an error."""
    leaves = leaves_in(tree)
    for leaf in leaves:
        if isinstance(leaf, Proxy):
            raise not_a_value(leaf, "sf.reveal and sf.wait")
        if isinstance(leaf, set | frozenset) and any(isinstance(x, DeviceObject) for x in leaf):
            raise UsageError("handles in a set", got=type(leaf).__name__, next="use a list")
    return [leaf for leaf in leaves if isinstance(leaf, DeviceObject)]


def _replaced(tree: Any, values: Mapping[int, Any]) -> Any:
    """The tree with values in the place of handles."""
    return map_leaves(lambda leaf: values.get(id(leaf), leaf), tree)


def _receivers(to: str | Sequence[str] | None) -> tuple[str, ...]:
    known = current().parties
    if to is None:
        return known
    names = tuple(to) if isinstance(to, list | tuple | set | frozenset) else (to,)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            "a value is revealed to parties",
            got=", ".join(map(repr, unknown)) or "nobody",
            expected=f"some of {', '.join(known)}",
        )
    return tuple(name for name in known if name in names)


def _reveal_among(
    handles: Sequence[DeviceObject], receivers: Sequence[str], me: str
) -> dict[int, Any]:
    """Every handle moved to every receiver; then all wait for each other and hear of failures."""
    backend = current().backend
    moved: dict[int, dict[str, PYUObject]] = {}
    for x in handles:
        if id(x) not in moved:
            moved[id(x)] = {party: move(x, PYU(party)) for party in receivers}
    arriving = [at.ref for places in moved.values() for at in places.values()]
    checked(backend.wait(arriving))
    shown: dict[int, Any] = {}
    for x in handles:
        places = moved[id(x)]
        if me in places:
            (shown[id(x)],) = checked(backend.fetch([places[me].ref]))
        else:
            at = next(iter(places.values()))
            facts = "?" if at.facts is None else describe(at.facts)
            shown[id(x)] = Undisclosed(me, receivers, facts, at.ref.what)
    return shown


def wait(tree: Any) -> None:
    """Block until the work behind all handles of a pytree is done.

    Raises:
        SpuvmError: what went wrong, naming the party.
    """
    refs: list[Ref] = []
    for handle in _handles_in(tree):
        handle.check_session()
        refs += handle.stored.refs if isinstance(handle, SPUObject) else [handle.ref]  # type: ignore[attr-defined]
    checked(current().backend.wait(refs))


def _open(spu: SPU, objects: list[SPUObject]) -> tuple[list[SPUObject], tuple[Ref, ...]]:
    once = list({id(x): x for x in objects}.values())
    arrays = [pair for x in once for pair in zip(x.names, x.structure()[0], strict=True)]
    return once, spu.open_here(arrays)


def _spus(objects: list[SPUObject]) -> list[SPU]:
    return list(dict.fromkeys(x.device for x in objects))


def _record_clear(objects: Sequence[PYUObject], values: Sequence[Any]) -> None:
    """Count what came to the driver in clear."""
    for x, value in zip(objects, values, strict=True):
        if not isinstance(value, Failure):
            current().flow.note(x.device.party, DRIVER, "clear", x.ref.what)
            if x.ref.origins:
                moved_in_clear(x.ref.what, DRIVER, x.ref.origins)


def _record(x: SPUObject, to: str) -> None:
    """Count what was opened to whom, for reports."""
    for leaf in x.structure()[0]:
        what = f"output of {x.stored.what}"
        disclose(what, to, leaf.origins, leaf.spec.dtype, leaf.spec.shape)


def _has_ciphertexts(x: DeviceObject, device: Device) -> bool:
    """Whether a HEU takes part; its module, and gmpy2, are loaded only then."""
    return any(type(one).__name__ in ("HEU", "HEUObject") for one in (x, device))


def given(value: Any) -> Any:
    """What the script gives to a party."""
    return value
