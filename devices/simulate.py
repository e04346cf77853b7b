"""sf.simulate: the real protocol in this process, no session, no cluster. It protects nobody.

Three machines on three threads; every array among the arguments is secret and belongs to a caller
outside the three, who alone learns the results.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax

from spuvm.bytecode.program import Program
from spuvm.compiler import Compiled
from spuvm.compiler.disclosure import Disclosure
from spuvm.devices import shadow
from spuvm.devices.calls import check_function, name_of
from spuvm.devices.compiling import Programs, results_of, secret
from spuvm.devices.config import Config
from spuvm.devices.costs import Run, measured, opening_rows, program_cost, with_openings
from spuvm.devices.crossings import Dealer, Joiner, Pieces, shared_by_owner, specs_of, widest_type
from spuvm.devices.failure import caught, checked, source_line
from spuvm.devices.host import Part
from spuvm.devices.statics import Bound, Statics, traced_places
from spuvm.devices.structure import Shared, leaves_of
from spuvm.devices.warmup import warm_up
from spuvm.errors import UsageError
from spuvm.net.channel import Channel
from spuvm.net.local import LocalNetwork
from spuvm.protocol.aby3.io import Dealt
from spuvm.vm.cost import Cost
from spuvm.vm.machine import Machine, RunStats

Record = Literal["views"]
Check = Literal["shadow"]
CALLER = "caller"
NAMES = ("0", "1", "2")


class Simulated:
    """A function that runs under the real protocol, and what is known about it before it runs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        config: Config,
        statics: Statics,
        record: Record | None,
        check: Check | None,
    ) -> None:
        self._fn, self._config, self._statics, self._record = fn, config, statics, record
        self._programs = Programs(config)
        self._watched = Programs(config, "equations") if check == "shadow" else None
        self._last: Run | None = None
        warm_up(config.ring)
        self.__name__ = self.__qualname__ = name_of(fn)
        self.__doc__ = getattr(fn, "__doc__", None)

    @property
    def last_run(self) -> Run:
        """What the last call took: rounds and bytes equal the static cost.

        Raises:
            UsageError: nothing was run yet.
        """
        if self._last is None:
            raise UsageError("nothing was run yet", next=f"call {self.__name__}(*args) first")
        return self._last

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the protocol; the result's pytree with numpy arrays.

        Raises:
            ValueRangeError: an argument that cannot be encoded.
            CompileError: a function that cannot be lowered.
            ShadowError: check="shadow", and an equation's result is wrong.
        """
        tree, pieces, bound = self._deal(args, kwargs)
        if self._watched is not None:
            compiled, _ = self._compile(self._watched, tree, bound)
            _, values = self._run(compiled, pieces)
            shadow.check(compiled, values, self._config.fxp)
            _, pieces, _ = self._deal(args, kwargs)  # shares are dealt for one run
        compiled, _ = self._compile(self._programs, tree, bound)
        return self._run(compiled, pieces)

    def _deal(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Pieces, Bound]:
        """The structure of the arguments, the pieces of all of them, and what is static."""
        fxp, limits, widest = self._config.fxp, self._config.input_range, widest_type()
        pieces: Pieces = ([], [], [])

        def deal(name: str, value: Any) -> Any:
            tree, dealt = Dealer(name, fxp, limits, None, widest, source_line())(value)
            for mine, more in zip(pieces, dealt, strict=True):
                mine += more
            return tree

        tree, bound = self._each(deal, args, kwargs)
        return tree, pieces, bound

    def _each(
        self, fn: Callable[[str, Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Bound]:
        """`fn` of every argument that is not static and its name, in the order of leaves."""
        rest, named, bound = self._statics.split(args, kwargs)
        places = traced_places(args, named, bound)
        names = sorted(named)
        values = [*rest, *(named[name] for name in names)]
        trees = [fn(place, value) for place, value in zip(places, values, strict=True)]
        by_name = dict(zip(names, trees[len(rest) :], strict=True))
        return (tuple(trees[: len(rest)]), by_name), bound

    def _run(self, compiled: Compiled, pieces: Pieces) -> Any:
        results, fxp = results_of(compiled), self._config.fxp
        three = _Three(self._config, compiled.program, self._record or "none")
        done = three.run(pieces, results)
        self._last = measured([stats for stats, _ in done], opening_rows(results, fxp.ring, None))
        out_tree = jax.tree.unflatten(compiled.out_tree, [leaf.spec for leaf in results])
        return Joiner(fxp, results, out_tree)(*(parts for _, parts in done))

    def cost(self, *args: Any, **kwargs: Any) -> Cost:
        """Rounds and bytes per party, opening included; arguments may be jax.ShapeDtypeStruct."""
        compiled, inputs = self._look(args, kwargs)
        cost = program_cost(compiled.program, [(leaf, None) for leaf in inputs])
        return with_openings(cost, opening_rows(results_of(compiled), self._config.fxp.ring, None))

    def disclosures(self, *args: Any, **kwargs: Any) -> list[Disclosure]:
        """Everything that is opened: the results, to the caller, and any deliberate leak."""
        return list(self._look(args, kwargs)[0].disclosures)

    def unproven(self, *args: Any, **kwargs: Any) -> list[str]:
        """The lines that make floats of which nothing shows that they stay representable.

        A text each, ``model.py:12 in loss: dot_general, mul``. They are right as long as they do;
        Config(on_overflow="error") refuses them, sf.assume_range or input_range proves them.
        """
        return list(self._look(args, kwargs)[0].unproven)

    def lower(self, *args: Any, **kwargs: Any) -> Program:
        """The program; str() of it is its text, `.digest` its identity."""
        return self._look(args, kwargs)[0].program

    def _look(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Compiled, tuple[Shared, ...]]:
        look = partial(specs_of, widest=widest_type())
        return self._compile(self._programs, *self._each(look, args, kwargs))

    def _compile(
        self, programs: Programs, tree: Any, bound: Bound
    ) -> tuple[Compiled, tuple[Shared, ...]]:
        specs, treedef = leaves_of(tree)
        limits = self._config.input_range
        inputs = tuple(shared_by_owner(s, self._config.fxp, limits, (CALLER,)) for s in specs)
        args, kwargs = jax.tree.unflatten(treedef, [secret(leaf) for leaf in inputs])
        return programs.get(self._fn, bound, args, kwargs), inputs

    def __repr__(self) -> str:
        return f"simulate({self.__name__})"


def simulate(
    fn: Callable[..., Any],
    config: Config | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    *,
    record: Record | None = None,
    check: Check | None = None,
) -> Simulated:
    """`fn` under the real protocol, in this process; for tests, debugging and learning.

    Every array and scalar among the arguments that are not static is secret. The function that
    comes back has `.cost(*args)`, `.disclosures(*args)`, `.lower(*args)` and `.last_run`; as under
    jax.jit, what `fn` captures is read when it is traced, once per shapes and dtypes;
    record="views" keeps what each party received, for statistical tests. check="shadow" runs every
    call twice, first with every equation's values opened and compared with plaintext JAX on the
    same operands: the first result that is off by more than the accuracy contract, or a broken
    promise of sf.assume_range, is a ShadowError with its source line.
    """
    check_function(fn, "simulate")
    if record is not None and record not in get_args(Record):
        raise UsageError("unknown record", got=repr(record), expected="None or 'views'")
    if check is not None and check not in get_args(Check):
        raise UsageError("unknown check", got=repr(check), expected="None or 'shadow'")
    config = config if config is not None else Config()
    if not isinstance(config, Config):
        raise UsageError("config is a Config", got=repr(config), expected="sf.Config(...)")
    return Simulated(fn, config, Statics(fn, static_argnums, static_argnames), record, check)


class _Three:
    """Three machines on three threads, for one run."""

    def __init__(self, config: Config, program: Program, record: str) -> None:
        self._config, self._program, self._record = config, program, record

    def run(self, pieces: Pieces, results: Sequence[Shared]) -> list[tuple[RunStats, list[Part]]]:
        """Per rank, what the run took and the additive parts of every result."""
        network = LocalNetwork(3, timeout=self._config.deadline, names=NAMES)
        done: list[Any] = [None] * 3

        def party(rank: int) -> None:
            try:
                done[rank] = self._party(network.channels[rank], pieces[rank], results)
            except Exception as error:
                network.channels[rank].abort(f"party {rank} failed: {type(error).__name__}")
                done[rank] = caught(NAMES[rank], "the simulation", error)

        threads = [threading.Thread(target=party, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        network.close()
        return list(checked(done))

    def _party(
        self, channel: Channel, pieces: Sequence[Dealt], results: Sequence[Shared]
    ) -> tuple[RunStats, list[Part]]:
        ring = self._config.fxp.ring
        machine = Machine(channel.rank, channel, ring, NAMES)
        for i, piece in enumerate(pieces):
            machine.put(f"in.{i}", piece)
        inputs = [f"in.{i}" for i in range(len(pieces))]
        outputs = [f"out.{i}" for i in range(len(results))]
        stats = machine.run(1, self._program, inputs, outputs, record=self._record)
        machine.free(inputs)
        parts = [
            machine.part(2 + i, f"out.{i}", to=None, bits=leaf.bits(ring.bits))
            for i, leaf in enumerate(results)
        ]
        return stats, parts
