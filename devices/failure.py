"""Errors as values: what went wrong at a party travels like any other result and names it."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from spuvm.errors import ChannelError, PartyError, ProtocolError, SpuvmError

FRAMES = 20  # innermost frames of a user's exception that are told to the driver
LONGEST = 4000  # characters of its text
_STORY = "What was printed at party"
_FUNCTIONS = (
    "spuvm.functions.",
    "spuvm.demo.",
    "spuvm.demo_mixed.",
)  # like the user's, but from this package
_NOT_THE_USERS = (
    "spuvm.",
    "jax.",
    "ray.",
    "functools.",
    "contextlib.",
    "threading.",
    "concurrent.",
)
_INSTALLED = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@dataclass(frozen=True)
class Failure:
    """Stands in for the value that could not be made; whoever uses it fails with the same one."""

    party: str
    what: str
    error: BaseException
    at: str = ""

    def throw(self) -> NoReturn:
        """Raise the error here: this package's own class, or PartyError with the cause chained."""
        if isinstance(self.error, SpuvmError):
            e = self.error
            raise type(e)(
                f"party {self.party!r}: {e.message}",
                at=e.at or self.at or None,
                got=e.got,
                expected=e.expected,
                next=e.next,
            ) from e
        text = str(self.error)
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}... ({len(text)} characters)"
        raise PartyError(
            f"party {self.party!r}: {self.what} raised {type(self.error).__name__}: {text}",
            at=self.at or None,
        ) from self.error


@dataclass(frozen=True)
class Told(Failure):
    """A Failure whose text holds nobody's data: it may be told to other parties."""


def caught(party: str, what: str, error: BaseException, asked_at: str = "") -> Failure:
    """A picklable Failure for an exception in flight, with the user's innermost line.

    Where none was reached, with the line that asked for the work.

    SystemExit and its like are failures too: of the function, not of who waits for its result.
    """
    at, story = line_of(error, asked_at), _story(party, error)
    movable = _movable(error)
    if story and not any(note.startswith(_STORY) for note in getattr(movable, "__notes__", ())):
        movable.add_note(story)
    return Failure(party, what, movable.with_traceback(None), at)


def _story(party: str, error: BaseException) -> str:
    """Where a user's exception was raised and what came before it, as Python prints it.

    Tracebacks and causes do not travel with exceptions; a note does.
    """
    if isinstance(error, SpuvmError):
        return ""
    try:
        lines = traceback.format_exception(error, limit=-FRAMES)
    except Exception:  # of an exception without a text
        return ""
    text = "".join(lines).rstrip()
    return f"{_STORY} {party!r}:\n" + (text if len(text) <= LONGEST else f"...{text[-LONGEST:]}")


def _movable(error: BaseException) -> BaseException:
    """The error itself, or one that has its name and text and can be pickled and printed."""
    try:
        text = str(error)
    except Exception as unspeakable:
        text = f"without a text, which raised {type(unspeakable).__name__}"
    else:
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError(f"{type(error).__name__}: {text}")


def line_of(error: BaseException, asked_at: str = "") -> str:
    """The innermost line of the user's code that an exception passed; "" when there is none.

    Where it passed none, the line that asked for the work; Python's own and installed files count
    only where that is not known either.
    """
    own, installed, trace = "", "", error.__traceback__
    while trace is not None:
        if is_the_users(str(trace.tb_frame.f_globals.get("__name__", ""))):
            code = trace.tb_frame.f_code
            at = f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
            if code.co_filename.startswith(_INSTALLED):
                installed = at
            else:
                own = at
        trace = trace.tb_next
    return own or asked_at or installed


def source_line() -> str:
    """The user's line that is being executed, without its folder."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_the_users(str(frame.f_globals.get("__name__", ""))):
            code = frame.f_code
            return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back
    return ""


def is_the_users(module: str) -> bool:
    """Whether a module is the user's own code, or stands for it."""
    name = module + "."
    return not name.startswith(_NOT_THE_USERS) or name in _FUNCTIONS


def checked(results: Sequence[Any]) -> Sequence[Any]:
    """The results, or the error that explains their Failures best.

    When a process dies or an instruction fails at one party, the others report a broken link or
    that they stopped: the party that caused it is the one to name.
    """
    failures = [result for result in results if isinstance(result, Failure)]
    if failures:
        min(failures, key=_consequence).throw()
    return results


def _consequence(failure: Failure) -> int:
    order = (PartyError, ProtocolError, ChannelError)
    for rank, kind in enumerate(order):
        if isinstance(failure.error, kind):
            return rank
    return -1
