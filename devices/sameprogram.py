"""The same program at all parties, although each has traced it itself: see compiler/folded.py."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from spuvm.compiler.config import Compiled
from spuvm.devices.agreement import Operation
from spuvm.devices.backend import Ref
from spuvm.devices.host import PROGRAMS
from spuvm.devices.post import Post
from spuvm.devices.recent import Recent
from spuvm.errors import AgreementError, ChannelError, CompileError
from spuvm.net.endpoint import Envelope, Limits

log = logging.getLogger("spuvm")

Again = Callable[[Sequence[Any]], Compiled]


class SamePrograms:
    """What one party knows of programs that all have agreed on."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._known: Recent[tuple[str, str], Compiled] = Recent(PROGRAMS)

    def agree(self, what: str, compiled: Compiled, again: Again) -> Compiled:
        """All parties compare digests; where they differ, the first party's constants are taken.

        The others check that each constant is within the tolerance of their own, and that the
        program they compile with them is the first party's to the last bit.
        """
        agreement = self._post.agreement
        key = what, compiled.program.digest
        known = self._known.get(key)
        if known is not None:
            return known
        takes = ", ".join(str(given.type.shape) for given in compiled.program.inputs)
        operation = agreement.begin(f"trace {what} of arrays {takes}", notes={"digest": key[1]})
        agreement.wait(operation, self._post.peers)
        digests = {
            p: agreement.note(operation.number, p, "digest") for p in self._post.endpoint.parties
        }
        if len(set(digests.values())) > 1:
            compiled = self._common(operation, what, compiled, again, digests)
        self._known.put(key, compiled)
        return compiled

    def _common(
        self,
        operation: Operation,
        what: str,
        compiled: Compiled,
        again: Again,
        digests: Mapping[str, str],
    ) -> Compiled:
        """The program made with the constants of the first party."""
        post = self._post
        first = post.endpoint.parties[0]
        log.info("%s: constants differ between the parties; taking those of %s", what, first)
        ref = Ref(first, what, None)
        text = f"{len(compiled.constants)} constants of its program"
        if post.name == first:
            post.record(operation, "out", "public", ref, post.peers, shape=text)
            for peer in post.peers:
                constants = list(compiled.constants)
                post.endpoint.send(peer, Envelope(operation.number, "constants"), constants)
            return compiled
        # Twice one's own size and a little: what is longer cannot be the same constants.
        size = 2 * sum(c.nbytes for c in compiled.constants) + (1 << 20)
        limits = Limits(size, size, 100_000, 1)
        envelope = Envelope(operation.number, "constants", limits=limits)
        said = post.receive(first, envelope)
        post.record(operation, "in", "public", ref, [first], shape=text)
        reason = None
        try:
            if not isinstance(said, list) or not all(isinstance(c, np.ndarray) for c in said):
                raise ChannelError(f"party {first!r} sent something that is not constants")
            common = again(said)
            if common.program.digest == digests[first]:
                return common
            reason = "other instructions, shapes or numbers"
        except CompileError as refused:
            reason = refused.got
        error = AgreementError(
            f"the programs of {what} at parties {first!r} and {post.name!r} differ",
            at=operation.where(),
            got=reason,
            expected="the same program, but for the last places of constants that JAX computes",
            next="all parties run the same script with the same arguments; state constants as "
            "numbers, or compute them with numpy in float64",
        )
        post.agreement.fail(error)
        raise error
