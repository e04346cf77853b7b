"""What can go wrong: a small tree of exceptions with what was got, what was expected, what next."""

from __future__ import annotations

from typing import Self


class SpuvmError(Exception):
    """Base of every error this package raises on purpose.

    The text has one line of what happened and then, where known, the lines ``at`` (the user's own
    source line), ``got``, ``expected`` and ``next`` (what to do). Never a secret value.
    """

    def __init__(
        self,
        message: str,
        *,
        at: str | None = None,
        got: str | None = None,
        expected: str | None = None,
        next: str | None = None,
    ) -> None:
        self.message, self.at, self.got, self.expected, self.next = message, at, got, expected, next
        lines = [message]
        for label, text in (("at", at), ("got", got), ("expected", expected), ("next", next)):
            if text:
                lines.append(f"  {label:<8} {text}")
        super().__init__("\n".join(lines))

    def placed(self, at: str) -> Self:
        """The same error with a source line, if it has none and there is one."""
        if self.at or not at:
            return self
        return type(self)(self.message, at=at, got=self.got, expected=self.expected, next=self.next)

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.message, self.at, self.got, self.expected, self.next)
        return (_rebuild, (type(self), fields))


def _rebuild(cls: type[SpuvmError], fields: tuple[str | None, ...]) -> SpuvmError:
    message, at, got, expected, next_ = fields
    return cls(message or "", at=at, got=got, expected=expected, next=next_)


class UsageError(SpuvmError):
    """The caller asked for something that makes no sense; nothing was started."""


class ValueRangeError(SpuvmError):
    """A plaintext value cannot be represented (NaN, infinity, out of the declared range)."""


class CompileError(SpuvmError):
    """The function cannot be turned into a program."""


class UnsupportedPrimitive(CompileError):
    """The function uses a JAX primitive that has no lowering rule."""


class ShadowError(SpuvmError):
    """Under check="shadow" a result is not what plaintext JAX makes of the same operands."""


class VerifyError(SpuvmError):
    """A program is ill-formed: raised by the verifier, the parser and the type rules."""


class ProtocolError(SpuvmError):
    """A party's protocol run failed; the text names the party and the instruction."""


class ChannelError(SpuvmError):
    """A link failed: a peer is gone, a deadline passed, or a frame is not the one expected."""


class PartyError(SpuvmError):
    """A user's function failed at a party, or the party is gone; the text names the party."""


class PolicyError(SpuvmError):
    """A party's own policy does not let a value out; the text names the line to add there."""


class AgreementError(SpuvmError):
    """The parties do not run the same script; the text names the first operation that differs."""


class CostWarning(UserWarning):
    """A program always does all that plain JAX may leave out; the text names the user's line."""


class RangeWarning(UserWarning):
    """A program may leave the representable numbers; the text names the user's line."""
