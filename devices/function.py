"""A function on an SPU: its call, and what is known about it before it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from spuvm.bytecode.program import Program
from spuvm.compiler import Compiled
from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.base import DeviceObject
from spuvm.devices.calls import check_function, name_of
from spuvm.devices.compiling import (
    Again,
    Agree,
    resharing,
    results_of,
    secret,
    split_origins,
)
from spuvm.devices.costs import program_cost, with_program_before
from spuvm.devices.crossings import Describer, public_value, shared_by_owner, spec_of, widest_type
from spuvm.devices.failure import checked
from spuvm.devices.proxy import Proxy, not_a_value
from spuvm.devices.pyu import PYUObject
from spuvm.devices.session import current
from spuvm.devices.spu import SPU, SPUObject, Stored
from spuvm.devices.statics import Bound, Statics, traced_places
from spuvm.devices.structure import Shared, check_keys, describe, leaves_of
from spuvm.errors import CompileError, UsageError
from spuvm.vm.cost import Cost

OUTSIDER = "caller"  # owner of the data that a ShapeDtypeStruct stands for


class SPUFunction:
    """A JAX function on an SPU.

    Arguments are pytrees: handles on this SPU as they are, handles elsewhere are moved here, and
    anything else is a public constant of the program.
    """

    def __init__(
        self, spu: SPU, fn: Callable[..., Any], num_returns: int | None, statics: Statics
    ) -> None:
        check_function(fn, "an SPU")
        self._spu, self._fn, self._statics = spu, fn, statics
        self._num_returns = num_returns
        self._what = name_of(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start the function: a handle of its result, or a tuple of num_returns handles."""
        rest, named, bound = self._statics.split(args, kwargs)
        check_keys((rest, named), f"arguments of {self._what}")
        leaves, treedef = jax.tree.flatten((rest, named))
        moved: dict[int, SPUObject] = {}
        for leaf in leaves:  # all moves start before the first one is waited for
            if isinstance(leaf, DeviceObject) and id(leaf) not in moved:
                moved[id(leaf)] = leaf.to(self._spu).replicated()
        inputs = [name for x in leaves if id(x) in moved for name in moved[id(x)].names]
        known = [
            _secrets(*moved[id(x)].structure()) if id(x) in moved else self._public(x)
            for x in leaves
        ]
        known = jax.tree.unflatten(treedef, known)
        compiled = self._program(bound, known, len(inputs), self._agree)
        stored = self._spu.run(compiled.program, inputs, self._what)
        results = results_of(compiled)
        tree = jax.tree.unflatten(compiled.out_tree, [leaf.spec for leaf in results])
        if self._num_returns is None:
            return SPUObject(stored, results, tree)
        return self._split(stored, results, tree)

    def cost(self, *args: Any, **kwargs: Any) -> Cost:
        """Rounds and bytes, known before anything runs; arguments may be jax.ShapeDtypeStruct.

        Sharing an argument that is not on this SPU yet is a row of its own, and re-sharing one that
        has additive shares: it is a run of its own, before the function's. Opening results is
        not part of it: that happens when they are moved to a party.
        """
        compiled, shared = self._look(args, kwargs)
        cost = program_cost(compiled.program, shared)
        handles = {id(x): x for x in jax.tree.leaves((args, kwargs)) if isinstance(x, SPUObject)}
        for x in handles.values():
            if x.waits and x.device is self._spu:
                cost = with_program_before(cost, resharing(self._spu.fxp, x.structure()[0]))
        return cost

    def disclosures(self, *args: Any, **kwargs: Any) -> list[Disclosure]:
        """What the program opens, its results, which are opened to whom they are moved, and the
        arguments that everybody knows, static ones too.
        """
        compiled, _ = self._look(args, kwargs)
        found = [replace(d, origins=split_origins(d.origins)) for d in compiled.disclosures]
        fixed, named = self._statics.split(args, kwargs)[2]
        static = [i for i, _ in fixed]
        places = traced_places(args, (), (fixed, named))
        public = [
            re.sub(r"^args\[(\d+)\]", lambda m: places[int(m[1])], name)
            for name in compiled.public_arguments
        ]
        public += [f"args[{i}] (static)" for i in static]
        public += [f"kwargs[{name!r}] (static)" for name, _ in named]
        return [*found, *map(_public_argument, public)]

    def unproven(self, *args: Any, **kwargs: Any) -> list[str]:
        """The lines that make floats of which nothing shows that they stay representable.

        A text each, ``model.py:12 in loss: dot_general, mul``. They are right as long as they do;
        Config(on_overflow="error") refuses them, sf.assume_range or input_range proves them.
        """
        return list(self._look(args, kwargs)[0].unproven)

    def lower(self, *args: Any, **kwargs: Any) -> Program:
        """The program; str() of it is its text."""
        return self._look(args, kwargs)[0].program

    def _look(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Compiled, list[tuple[Shared, int | None]]]:
        """Compile without moving anything; also what would have to be shared, and its owner."""
        rest, named, bound = self._statics.split(args, kwargs)
        check_keys((rest, named), f"arguments of {self._what}")
        leaves, treedef = jax.tree.flatten((rest, named))
        shared: list[tuple[Shared, int | None]] = []
        count = 0

        def learn(leaf: Any) -> Any:
            nonlocal count
            if isinstance(leaf, SPUObject):
                found, tree = leaf.structure()
            elif isinstance(leaf, PYUObject | jax.ShapeDtypeStruct):
                found, tree, rank = self._outside(leaf)
                shared.extend((one, rank) for one in found)
            else:
                return self._public(leaf)
            count += len(found)
            return _secrets(found, tree)

        known = jax.tree.unflatten(treedef, [learn(leaf) for leaf in leaves])
        return self._program(bound, known, count), shared

    def _outside(self, leaf: Any) -> tuple[tuple[Shared, ...], Any, int | None]:
        """Arrays and tree of a value that is not on this SPU, and its owner's rank."""
        if isinstance(leaf, PYUObject):
            tree, owner, origins = learned(leaf), leaf.device.party, leaf.ref.origins
        else:
            tree, owner = spec_of(leaf, "an argument", widest_type()), OUTSIDER
            origins = (owner,)
        limits = self._spu.config.input_range
        found = [shared_by_owner(s, self._spu.fxp, limits, origins) for s in leaves_of(tree)[0]]
        return tuple(found), tree, self._spu.rank(owner)

    def _agree(self, compiled: Compiled, again: Again) -> Compiled:
        return current().backend.agree(self._what, compiled, again)

    def _program(
        self, bound: Bound, known: Any, inputs: int, agree: Agree | None = None
    ) -> Compiled:
        args, kwargs = known
        compiled = self._spu.programs.get(self._fn, bound, args, kwargs, agree)
        if len(compiled.program.inputs) != inputs:
            raise CompileError(
                "the program does not take what was given",
                got=f"{inputs} arrays",
                expected=f"{len(compiled.program.inputs)}",
            )
        return compiled

    def _public(self, leaf: Any) -> Any:
        if isinstance(leaf, Proxy):
            raise not_a_value(leaf, f"argument of {self._what}")
        return public_value(leaf, widest_type())

    def _split(self, stored: Stored, results: tuple[Shared, ...], tree: Any) -> Any:
        count = self._num_returns
        if not isinstance(tree, tuple | list) or len(tree) != count:
            raise UsageError(
                f"{self._what} does not return as many results as num_returns says",
                got=describe(tree),
                expected=f"a tuple of {count}",
            )
        objects, first = [], 0
        for part in tree:
            size = len(leaves_of(part)[0])
            leaves = results[first : first + size]
            objects.append(SPUObject(stored, leaves, part, first))
            first += size
        return tuple(objects)

    def __repr__(self) -> str:
        return f"{self._spu!r}({self._what})"


def learned(x: PYUObject) -> Any:
    """The structure of a party's value, asked from its owner where it is not known yet."""
    if x.facts is None:
        x.check_session()
        backend = current().backend
        look = Describer(x.ref.what, widest_type())
        ref = backend.describe(x.ref, f"looking at {look.what}", look)
        (x.facts,) = checked(backend.fetch([ref]))
    return x.facts


def _secrets(leaves: tuple[Shared, ...], tree: Any) -> Any:
    _, treedef = leaves_of(tree)
    return jax.tree.unflatten(treedef, [secret(leaf) for leaf in leaves])


def _public_argument(name: str) -> Disclosure:
    return Disclosure(f"public argument {name}", "everybody", (), (), "", "")
