"""What a saved value means: its name, tree and arrays, as text beside the shares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spuvm.devices.checkpoints import Loaded
from spuvm.devices.structure import ArraySpec, Shared
from spuvm.devices.travel import tree_from_wire, tree_to_wire
from spuvm.errors import UsageError


def about(what: str, leaves: Sequence[Shared], tree: Any, encoding: str) -> str:
    """The public facts about a value, as text.

    Raises:
        UsageError: containers that cannot be written down.
    """
    arrays = [asdict(leaf) for leaf in leaves]
    facts = {"what": what, "encoding": encoding, "tree": tree_to_wire(tree), "arrays": arrays}
    return json.dumps(facts, sort_keys=True)


def from_about(found: Sequence[Loaded], encoding: str) -> tuple[str, tuple[Shared, ...], Any]:
    """Name, arrays and tree of a value that three machines have loaded.

    Raises:
        UsageError: they loaded different checkpoints, or one of an SPU with another encoding.
    """
    if len({(one.checkpoint, one.about) for one in found}) != 1:
        raise UsageError(
            "the parties loaded checkpoints of different moments",
            next="load a checkpoint that all three have saved together",
        )
    facts = json.loads(found[0].about)
    if facts["encoding"] != encoding:
        raise UsageError(
            "this checkpoint is of an SPU with another encoding",
            got=facts["encoding"],
            expected=encoding,
        )
    leaves = tuple(
        Shared(
            ArraySpec(tuple(one["spec"]["shape"]), one["spec"]["dtype"]),
            one["frac"],
            one["width"],
            tuple(one["origins"]),
            one["lo"],
            one["hi"],
            one.get("divisor", 1),
            one.get("squares", False),
        )
        for one in facts["arrays"]
    )
    return facts["what"], leaves, tree_from_wire(facts["tree"])
