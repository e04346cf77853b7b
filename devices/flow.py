"""What the script asked of devices, step by step: where data went, in which form, at what cost."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from spuvm.bytecode.program import Program
from spuvm.devices.failure import source_line
from spuvm.vm.cost import Bytes3, static_cost

Form = Literal["work", "shared", "hidden", "opened", "clear"]
"""work: computed where it is; shared: as secret shares; hidden: encrypted, or under a mask;
opened: shares or ciphertexts become clear at the receiver; clear: as it is."""

LATEST = 5000  # steps that the timeline keeps; counts are of all


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of step: from where to where (the same for work), what, and the script's line."""

    source: str
    target: str
    form: Form
    what: str
    line: str


@dataclass(frozen=True, slots=True)
class Price:
    """What one run of a program costs: known before it runs."""

    rounds: int
    bytes_sent: Bytes3


class Flow:
    """The steps of a session, counted, and when the latest of them were asked for."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.steps: Counter[Step] = Counter()
        self.latest: deque[tuple[float, Step]] = deque(maxlen=LATEST)
        self.runs: Counter[tuple[str, str, str]] = Counter()  # SPU, function, digest
        self._prices: dict[str, Price] = {}
        self._noting = threading.Lock()

    def note(self, source: str, target: str, form: Form, what: str) -> None:
        """Count a step of the script's present line."""
        step = Step(source, target, form, what, source_line())
        with self._noting:
            self.steps[step] += 1
        self.latest.append((time.monotonic() - self.began, step))

    def note_run(self, spu: str, what: str, program: Program) -> None:
        """Count a run of a program."""
        self.note(spu, spu, "work", what)
        with self._noting:
            self.runs[spu, what, program.digest] += 1
        if program.digest not in self._prices:
            cost = static_cost(program)
            self._prices[program.digest] = Price(cost.rounds, cost.bytes_sent)

    def price(self, digest: str) -> Price:
        """Of a program that ran."""
        return self._prices[digest]
