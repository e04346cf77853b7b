"""SecretFlow's way to say who a HEU is: a dict with roles and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spuvm.errors import UsageError
from spuvm.paillier.keys import MIN_BITS

_SCHEMAS = {"paillier", "zpaillier", "phe"}


@dataclass(frozen=True, slots=True)
class Definition:
    """Who takes part in a HEU and how long its key is."""

    sk_keeper: str
    evaluators: tuple[str, ...]
    key_bits: int = MIN_BITS


def parse(definition: Mapping[str, Any]) -> Definition:
    """``{"sk_keeper": {"party": "alice"}, "evaluators": [{"party": "bob"}], "mode": "PHEU",
    "he_parameters": {"schema": "paillier", "key_pair": {"generate": {"bit_size": 2048}}}}``

    Raises:
        UsageError: a missing or unknown entry, or a scheme other than Paillier's.
    """
    known = {"sk_keeper", "evaluators", "mode", "he_parameters", "encoding"}
    unknown = sorted(set(definition) - known)
    if unknown:
        raise UsageError(
            "unknown entries of a HEU definition",
            got=", ".join(unknown),
            expected=", ".join(sorted(known)),
        )
    mode = str(definition.get("mode", "PHEU"))
    if mode != "PHEU":
        raise UsageError("unknown mode of a HEU", got=mode, expected="PHEU")
    keeper = _party(definition.get("sk_keeper"), "sk_keeper")
    evaluators = definition.get("evaluators")
    if not isinstance(evaluators, list):
        raise UsageError("evaluators are a list", got=type(evaluators).__name__)
    parameters = definition.get("he_parameters") or {}
    schema = str(parameters.get("schema", "paillier"))
    if schema not in _SCHEMAS:
        raise UsageError("unknown scheme", got=schema, expected="paillier")
    pair = parameters.get("key_pair") or {}
    bits = (pair.get("generate") or {}).get("bit_size", MIN_BITS)
    return Definition(keeper, tuple(_party(e, "evaluators") for e in evaluators), bits)


def check_field(field: Any) -> None:
    """SecretFlow's second argument, the SPU's field: it says nothing but must not contradict.

    Raises:
        UsageError: another field than that of the crossings, or evaluators beside a dict.
    """
    name = str(getattr(field, "name", field)).rpartition(".")[2]
    if field is not None and name != "FM64":
        raise UsageError(
            "beside a dict a HEU takes the SPU's field or nothing",
            got=repr(field),
            expected="FM64",
            next="evaluators are named in the dict",
        )


def _party(entry: Any, where: str) -> str:
    if not isinstance(entry, Mapping) or "party" not in entry:
        raise UsageError(f"{where} names a party", got=repr(entry), expected='{"party": "alice"}')
    return str(entry["party"])
