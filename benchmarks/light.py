"""The speed of light of a case: its bytes, its passes over memory, its multiply-adds, nothing else.

A light run moves the bytes that the program sends through the same channel in as many rounds, reads
the shares of every input and writes both shares of every output once, and makes the multiply-adds
of every matrix product with the same kernel. A program that is linear up to truncations needs only
one of the two shares of its inputs that a party holds, others need both. It overlaps nothing and
draws no masks: `light / ours` says how much of the time is unavoidable on this machine.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

SHARES = 2  # every party holds two of the three shares
# Interactive instructions that start from additive parts.
LINEAR = {"trunc_a", "trunc_sum_a", "scale_ap", "scale_sum_a", "scale_dot_pa"}
# x0*y0 + x0*y1 + x1*y0 = x0*(y0 + y1) + x1*y0; scale_dot_pa: the high and the low bits
PRODUCTS = {"dot_aa": 2, "dot_ap": 2, "dot_pa": 2, "scale_dot_pa": 2, "additive_dot_aa": 2}


@dataclass(frozen=True)
class Work:
    """What one run of a program cannot do without, per party.

    sent: bytes that each rank sends. reads: how many of its two shares of each input a party reads.
    words_in, words_out: ring elements of all inputs and outputs, one share.
    dots: (count, B, M, K, N) of the matrix products.
    """

    rounds: int
    sent: tuple[int, int, int]
    reads: int
    words_in: int
    words_out: int
    dots: tuple[tuple[int, int, int, int, int], ...]

    @classmethod
    def of(cls, program: Any, cost: Any) -> Work:
        """The work of a program whose static cost is known."""
        dots = []
        for instruction in program.instructions:
            if instruction.op in PRODUCTS:
                x, y = (program.types[a].shape for a in instruction.args)
                dots.append((PRODUCTS[instruction.op], x[0], x[1], x[2], y[2]))
        return cls(
            rounds=cost.rounds,
            sent=tuple(cost.bytes_sent),
            reads=1 if cost.rows and {row.what for row in cost.rows} <= LINEAR else SHARES,
            words_in=sum(i.type.size for i in program.inputs if i.type.kind == "a"),
            words_out=sum(_words(program.types[o.value]) for o in program.outputs),
            dots=tuple(dots),
        )

    def summary(self) -> dict[str, Any]:
        """Totals over the three parties, for the table."""
        return {
            "rounds": self.rounds,
            "bytes": sum(self.sent),
            "memory_bytes": 3 * 8 * (self.reads * self.words_in + SHARES * self.words_out),
            "multiply_adds": 3 * sum(math.prod(dot) for dot in self.dots),
        }


def _words(t: Any) -> int:
    """Ring elements of one of the two shares that a party writes of a result."""
    return int(t.size // 2 if t.kind == "z" else t.size)  # of additive shares it has one


@numba.njit(cache=True, nogil=True)
def _read_and_write(source: Any, target: Any) -> None:
    """Read all of `source` once (added up, lane by lane) and write all of `target` once."""
    lanes = min(2048, target.size)
    for i in range(target.size):
        target[i] = np.uint64(0)
    if lanes:
        for block in range(source.size // lanes):
            part, total = source[block * lanes : (block + 1) * lanes], target[:lanes]
            for i in range(lanes):  # without offsets, so that it is made of vector instructions
                total[i] += part[i]


@functools.lru_cache(maxsize=8)
def _buffer(words: int, salt: int) -> Any:
    return np.full(words, 3 + salt, np.uint64)


def drop_buffers() -> None:
    """Free what light runs worked on, which is kept from one to the next."""
    _buffer.cache_clear()


def run_light(channel: Any, work: Work) -> None:
    """Do the work once at this party."""
    for share in range(SHARES):
        words_in = work.words_in if share < work.reads else 0
        _read_and_write(_buffer(words_in, share), _buffer(work.words_out, SHARES + share))
    _multiply(work)
    _exchange(channel, work)


def _multiply(work: Work) -> None:
    from spuvm.kernels.matmul import matmul

    for count, batch, rows, inner, columns in work.dots:
        x = _buffer(batch * rows * inner, 0).reshape(batch, rows, inner)
        y = _buffer(batch * inner * columns, 1).reshape(batch, inner, columns)
        out = np.zeros((batch, rows, columns), np.uint64)
        for _ in range(count):
            matmul(x, y, out)


def _exchange(channel: Any, work: Work) -> None:
    from spuvm.net.channel import Spec

    if not work.rounds:
        return
    byte = np.dtype(np.uint8)
    nxt, prv = (channel.rank + 1) % 3, (channel.rank + 2) % 3
    sizes = [max(1, sent // work.rounds) for sent in work.sent]
    mine = np.zeros(sizes[channel.rank], np.uint8)
    for _ in range(work.rounds):
        channel.exchange({prv: [mine]}, {nxt: [Spec(byte, sizes[nxt])]})
