"""Virtual machines on Ray: an actor for each party's machine, and the task that deals to them.

Nothing is ever restarted or retried: running an instruction twice would use its masks twice.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import ray

from spuvm.devices.actors import Box, arrived, boxed
from spuvm.devices.calls import Call, Slot, perform
from spuvm.devices.checkpoints import Loaded, LoadOrder, SaveOrder
from spuvm.devices.failure import Failure, caught
from spuvm.devices.host import Host, OpenOrder, Outcome, Part, RunOrder
from spuvm.devices.warmup import warm_up
from spuvm.errors import PartyError
from spuvm.kernels.warm import samples
from spuvm.net.memory import keep_large_blocks
from spuvm.net.tcp import connect, listen
from spuvm.protocol.aby3.io import Dealt
from spuvm.ring import Ring


@functools.lru_cache(maxsize=64)
def machine_named(name: str) -> Any:
    """Handle of a machine's actor; looked up once per process."""
    return ray.get_actor(name)


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def deal_at_owner(
    party: str,
    what: str,
    deal: Callable[[Any], Any],
    name: str,
    machines: Sequence[tuple[str, str]],
    box: Any,
) -> tuple[Any, None]:
    """Deal a value and give the machines their pieces; returns its public structure.

    The second result says that this is done, to machines that need not load what the first is of.
    """
    keep_large_blocks()  # who deals once deals in every round
    value = arrived(party, what, [box])
    structure, pieces = perform(party, what, deal, Call((Slot(0),), {}, 2), value)
    if isinstance(pieces, Failure):
        pieces = (pieces,) * 3
    for (peer, machine), mine in zip(machines, pieces, strict=True):
        try:
            machine_named(machine).put.remote(name, mine)  # the machine's next step expects it
        except ValueError:  # Ray knows no actor of this name
            return Failure(peer, what, PartyError("its virtual machine is gone")), None
    return structure, None


# Values may arrive while a program runs; everything else is done one after another.
@ray.remote(  # type: ignore[call-overload]
    num_cpus=0, max_restarts=0, max_task_retries=0, concurrency_groups={"inbox": 1}
)
class MachineProcess:
    """Hosts one party's virtual machine; the machines talk over their own links, not over Ray."""

    def __init__(self, party: str) -> None:
        logging.getLogger("spuvm").setLevel(logging.INFO)
        warm_up()
        keep_large_blocks()
        self._host = Host(party)
        self._listener: Any = None
        self._deadline = 0.0

    def listen(self, address: tuple[str, int] | None) -> tuple[str, int]:
        """Open this party's port; an address of None is any port on the node's own address."""
        host, port = address or (ray.util.get_node_ip_address(), 0)
        self._listener = listen(host, port)
        bound: tuple[str, int] = self._listener.getsockname()
        return bound

    def attach(
        self,
        rank: int,
        addresses: Sequence[tuple[str, int]],
        ring_bits: int,
        names: Sequence[str],
        deadline: float,
    ) -> Failure | None:
        """Meet the peers and agree on keys with them."""
        self._deadline = deadline
        try:
            channel = connect(
                rank, addresses, timeout=deadline, listener=self._listener, names=names
            )
            warm_up(ring_bits)
            self._host.attach(rank, channel, ring_bits, names)
            return None
        except Exception as error:
            return caught(self._host.party, "connecting to the other parties", error)

    def prepare(self) -> None:
        """Load the compiler's run-time before the first program needs it."""
        function, args = next(samples())
        function(*args)

    @ray.method(concurrency_group="inbox")
    def put(self, name: str, pieces: Sequence[Dealt] | Failure | Box) -> None:
        """Take this party's pieces of a value."""
        self._host.put(name, arrived(self._host.party, f"taking {name}", [pieces])[0])

    def run(self, coming: Sequence[str], order: RunOrder, *after: Any) -> Outcome | Failure:
        """Run a program once what it waits for is there."""
        self._host.expect(coming, self._deadline)
        return self._host.run(order)

    def open_inline(
        self, coming: Sequence[str], order: OpenOrder, *after: Any
    ) -> list[Part] | Failure:
        """Parts for the caller itself."""
        self._host.expect(coming, self._deadline)
        return self._host.open(order)

    def open_boxed(self, coming: Sequence[str], order: OpenOrder, *after: Any) -> Box:
        """Parts for a party: the caller gets only the Box."""
        self._host.expect(coming, self._deadline)
        box: Box = boxed(self._host.party, "opening", (self._host.open(order),))
        return box

    def pass_on(
        self, coming: Sequence[str], order: OpenOrder, ring_bits: int, *after: Any
    ) -> tuple[Box, Box, Box]:
        """Parts dealt to the machines of another SPU."""
        from spuvm.devices.crossings import deal_parts  # imports JAX, which machines do not need

        self._host.expect(coming, self._deadline)
        call = Call((Slot(0), order, Ring(ring_bits)), {}, 3)
        parts = self._host.open(order)
        party, what = self._host.party, "passing on"
        boxes: tuple[Box, Box, Box] = boxed(
            party, what, perform(party, what, deal_parts, call, [parts])
        )
        return boxes

    def save(self, coming: Sequence[str], order: SaveOrder, *after: Any) -> Failure | None:
        """Write a value's shares to this node's disk."""
        self._host.expect(coming, self._deadline)
        return self._host.save(order)

    def load(self, coming: Sequence[str], order: LoadOrder, *after: Any) -> Loaded | Failure:
        """Read shares from this node's disk."""
        self._host.expect(coming, self._deadline)
        return self._host.load(order)

    def free(self, coming: Sequence[str], names: Sequence[str], *after: Any) -> None:
        """Forget values."""
        self._host.expect(coming, self._deadline)
        self._host.free(names)

    def pid(self) -> int:
        """Of this process, for tests and doctors."""
        return os.getpid()

    def names(self, coming: Sequence[str], *after: Any) -> list[str]:
        """Names of the values that are held."""
        self._host.expect(coming, self._deadline)
        return self._host.names()

    def close(self) -> None:
        """Leave the others."""
        self._host.close()
