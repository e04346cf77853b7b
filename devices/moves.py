"""The only ways data moves between devices: `.to`, `sf.to`, `sf.reveal`; and waiting for work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.backend import Ref
from spuvm.devices.base import Device, DeviceObject
from spuvm.devices.calls import map_leaves
from spuvm.devices.crossings import Joiner
from spuvm.devices.failure import checked
from spuvm.devices.proxy import Proxy
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.session import current
from spuvm.devices.spu import SPU, SPUObject
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
    return device


def move(x: DeviceObject, target: Any) -> Any:
    """A handle of the same value on another device; the same handle when it is there already."""
    device = device_of(target)
    x.check_session()
    if x.device == device:
        return x
    if isinstance(x, PYUObject) and isinstance(device, PYU):
        ref = current().backend.move(x.ref, device.party)
        moved = PYUObject(device, replace(ref, origins=x.ref.origins))
        moved.facts = x.facts
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
    """Move a handle, every handle in a list, tuple or dict, or a value of the script to a party.

    Raises:
        UsageError: a value of the script to an SPU: it has no owner.
    """
    target = device_of(device)
    found: list[DeviceObject] = []
    map_leaves(lambda x: found.append(x) if isinstance(x, DeviceObject) else None, value)
    if found:
        return map_leaves(lambda x: move(x, target) if isinstance(x, DeviceObject) else x, value)
    if isinstance(target, PYU):
        return target(_identity)(value)
    raise UsageError(
        "a value of the script has no owner who could share it",
        got=type(value).__name__,
        next="sf.to(alice, x).to(spu); plain arguments of spu(fn)(x) are public constants",
    )


def reveal(tree: Any) -> Any:
    """The values behind the handles of a pytree, here, in clear; arrays from an SPU as numpy.

    Raises:
        SpuvmError: what went wrong while the values were made, naming the party.
    """
    leaves, treedef = jax.tree.flatten(tree)
    handles = [leaf for leaf in leaves if isinstance(leaf, DeviceObject)]
    for handle in handles:
        handle.check_session()
        if _has_ciphertexts(handle, handle.device):
            raise UsageError(
                "only the key holder reveals ciphertexts",
                got=repr(handle),
                next=f"sf.reveal(x.to(PYU({handle.device.sk_keeper!r})))",
            )
    secret = [x for x in handles if isinstance(x, SPUObject)]
    clear = [x for x in handles if isinstance(x, PYUObject)]
    backend = current().backend
    opening = {spu: _open(spu, [x for x in secret if x.device is spu]) for spu in _spus(secret)}
    values = dict(zip(map(id, clear), checked(backend.fetch([x.ref for x in clear])), strict=True))
    for spu, (objects, refs) in opening.items():
        parts = checked(backend.fetch(refs))
        first = 0
        for x in objects:
            shared, structure = x.structure()
            mine = [machine[first : first + len(shared)] for machine in parts]
            values[id(x)] = Joiner(spu.fxp, shared, structure)(*mine)
            first += len(shared)
            _record(x, DRIVER)
    return jax.tree.unflatten(treedef, [values.get(id(x), x) for x in leaves])


def wait(tree: Any) -> None:
    """Block until the work behind all handles of a pytree is done.

    Raises:
        SpuvmError: what went wrong, naming the party.
    """
    refs: list[Ref] = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, DeviceObject):
            leaf.check_session()
            refs += leaf.stored.refs if isinstance(leaf, SPUObject) else [leaf.ref]  # type: ignore[attr-defined]
    checked(current().backend.wait(refs))


def _open(spu: SPU, objects: list[SPUObject]) -> tuple[list[SPUObject], tuple[Ref, ...]]:
    once = list({id(x): x for x in objects}.values())
    arrays = [pair for x in once for pair in zip(x.names, x.structure()[0], strict=True)]
    return once, spu.open_here(arrays)


def _spus(objects: list[SPUObject]) -> list[SPU]:
    return list(dict.fromkeys(x.device for x in objects))


def _record(x: SPUObject, to: str) -> None:
    """Count what was opened to whom, for reports."""
    opened = current().opened
    for leaf in x.structure()[0]:
        what = f"output of {x.stored.what}"
        one = Disclosure(what, to, leaf.origins, leaf.spec.shape, leaf.spec.dtype, "")
        opened[one] = opened.get(one, 0) + 1


def _has_ciphertexts(x: DeviceObject, device: Device) -> bool:
    """Whether a HEU takes part; its module, and gmpy2, are loaded only then."""
    return any(type(one).__name__ in ("HEU", "HEUObject") for one in (x, device))


def _identity(value: Any) -> Any:
    return value
