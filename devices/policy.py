"""What a party lets out: its own rules over what the script, the same for all, asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """Values made by functions whose name matches `what` may be opened to the parties `to`.

    Both are patterns: * stands for any text, ? for any character.
    """

    what: str
    to: tuple[str, ...]

    def allows(self, what: str, to: str) -> bool:
        return fnmatchcase(what, self.what) and any(fnmatchcase(to, name) for name in self.to)


@dataclass(frozen=True, slots=True)
class Policy:
    """The section [policy.NAME] of one party.

    open   what may be opened in clear and to whom; None: everything that the script marks with
           .to() or reveal. A list denies whatever it does not name.
    share  parties that may hold shares of this party's data; None: any.
    """

    party: str
    open: tuple[Rule, ...] | None = None
    share: tuple[str, ...] | None = None

    def refuses_opening(self, what: str, to: str) -> str | None:
        """None when a value that depends on this party's data may be opened to `to`.

        Otherwise what to add to the policy.
        """
        if to == self.party or self.open is None:
            return None
        if any(rule.allows(what, to) for rule in self.open):
            return None
        line = f"{{ what = {json.dumps(what)}, to = [{json.dumps(to)}] }}"
        return f"if you agree, add this to the list open of [policy.{self.party}]: {line}"

    def refuses_sharing(self, members: Sequence[str]) -> str | None:
        """None when these parties together may compute on shares of this party's data."""
        if self.share is None:
            return None
        missing = [
            name
            for name in members
            if name != self.party and not any(fnmatchcase(name, one) for one in self.share)
        ]
        if not missing:
            return None
        line = f"share = {json.dumps([*self.share, *missing])}"
        return f"if you agree, write this in [policy.{self.party}]: {line}"
