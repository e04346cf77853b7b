"""What arguments and results come in: containers, their leaves, and copies of them."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from spuvm.errors import UsageError


def map_leaves(fn: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `fn` applied to what is no container; order is kept.

    Containers are dicts (ordered and default ones too), lists, tuples, named tuples, instances of
    dataclasses, and what is registered with JAX in this process. One in which nothing changes is
    returned as it is.
    """
    kind = type(tree)
    if kind in (dict, OrderedDict, defaultdict):
        items = {key: map_leaves(fn, value) for key, value in tree.items()}
        if _same(items.values(), tree.values()):
            return tree
        return items if kind is dict else _changed(tree, lambda new: new.update(items))
    if kind in (list, tuple) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        parts = [map_leaves(fn, value) for value in tree]
        if _same(parts, tree):
            return tree
        return kind(parts) if kind in (list, tuple) else kind(*parts)
    if is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in fields(tree) if hasattr(tree, field.name)]
        old = {name: getattr(tree, name) for name in names}
        held = {name: map_leaves(fn, value) for name, value in old.items()}
        if _same(held.values(), old.values()):
            return tree
        return _changed(tree, lambda new: _set(new, held))
    if (registered := _registered(tree)) is not None:
        leaves, treedef = registered
        parts = [map_leaves(fn, leaf) for leaf in leaves]
        return tree if _same(parts, leaves) else treedef.unflatten(parts)
    return fn(tree)


def _registered(tree: Any) -> tuple[list[Any], Any] | None:
    """Leaves and definition of a pytree of a kind that somebody registered with JAX."""
    jax = sys.modules.get("jax")  # not imported for this: whoever registers has done it
    if tree is None or jax is None or jax.tree_util.all_leaves([tree]):
        return None
    flat: tuple[list[Any], Any] = jax.tree.flatten(tree)
    return flat


def leaves_in(tree: Any) -> list[Any]:
    """What map_leaves applies its function to, in its order."""
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_leaves(keep, tree)
    return found


def _same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))


def _set(instance: Any, held: dict[str, Any]) -> None:
    for name, value in held.items():
        object.__setattr__(instance, name, value)  # of frozen ones too


def _changed(tree: Any, change: Callable[[Any], object]) -> Any:
    new = copy.copy(tree)
    change(new)
    return new


def snapshot(value: Any) -> Any:
    """A copy of what travels; what cannot be copied (an open file, say) is passed as it is."""
    try:
        return copy.deepcopy(value)
    except UsageError:  # a handle inside of it
        raise
    except Exception:
        return value
