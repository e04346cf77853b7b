"""`spuvm explain`: what a function would run, send and open, without running it."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

import spuvm as sf
from spuvm.devices.failure import line_of
from spuvm.errors import CostWarning, RangeWarning, UsageError

_SPEC = re.compile(r"(bool|bf16|[fiu](?:8|16|32|64))(?:\[([\d, ]*)\])?")
_DTYPES = {"f": "float", "i": "int", "u": "uint"}


def explain(
    target: str, specs: Sequence[str], config: sf.Config | None = None, width: int | None = None
) -> None:
    """Print program, cost, openings, ranges and warnings of FILE:FN for arguments like f32[3,4].

    Raises:
        UsageError: a file, function or argument that does not exist or is not understood.
        CompileError: a function that cannot be lowered.
    """
    with _importable(target), warnings.catch_warnings(record=True) as caught:
        f = sf.simulate(load(target), config=config)
        args = [parse_spec(text) for text in specs]
        warnings.simplefilter("always", RangeWarning)
        warnings.simplefilter("always", CostWarning)
        program, cost, opened = f.lower(*args), f.cost(*args), f.disclosures(*args)
        unproven = f.unproven(*args)
    console = Console(width=width)
    console.print(str(program), markup=False, highlight=False, soft_wrap=True)
    table = Table("instruction", "rounds", "bytes by party", "line", title="Cost")
    for row in cost.rows:
        table.add_row(row.what, str(row.rounds), _three(row.bytes_sent), row.source)
    table.add_section()
    table.add_row("total", str(cost.rounds), _three(cost.bytes_sent))
    console.print(table)
    table = Table("opened", "to", "from", "array", "line", title="Disclosures")
    for one in opened:
        array = f"{one.dtype}{list(one.shape)}"
        table.add_row(one.what, one.to, ", ".join(one.origins), array, one.source)
    console.print(table)
    if unproven:
        largest = (config or sf.Config()).fxp.max_float
        table = Table(f"nothing shows that |x| < {largest:g} here", title="Ranges")
        for line in unproven:
            table.add_row(line)
        console.print(table)
    for warning in caught:
        console.print(f"warning: {warning.message}", markup=False)


@contextmanager
def _importable(target: str) -> Iterator[None]:
    """Inside, what lies beside the file of FILE:FN is found first, as where python runs a file."""
    folder = str(Path(target.rpartition(":")[0]).parent.resolve())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def load(target: str) -> Callable[..., Any]:
    """The function that FILE:FN names; FN may have dots."""
    file, _, name = target.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise UsageError("no such file", got=repr(target), expected="FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError("not a Python file", got=file)
    found: Any = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, found)
    try:
        spec.loader.exec_module(found)
    except Exception as error:
        raise UsageError(
            f"{file} cannot be loaded",
            at=line_of(error) or None,
            got=f"{type(error).__name__}: {error}",
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError("no such function", got=repr(name), expected=f"a name in {file}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError("not a function", got=repr(name))
    function: Callable[..., Any] = found
    return function


def parse_spec(text: str) -> Any:
    """An argument: f32[3,4], i32, bool[8]; several joined by '+' are a list."""
    if "+" in text:
        return [parse_spec(part) for part in text.split("+")]
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            "not an argument specification",
            got=repr(text),
            expected="a dtype and a shape: f32[3,4], i32[10], bool, or several as a+b for a list",
        )
    short, dims = match[1], match[2]
    if short in ("bool", "bf16"):
        dtype = {"bool": "bool", "bf16": "bfloat16"}[short]
    else:
        dtype = _DTYPES[short[0]] + short[1:]
    shape = tuple(int(d) for d in (dims or "").replace(" ", "").split(",") if d)
    return jax.ShapeDtypeStruct(shape, jax.numpy.dtype(dtype))


def _three(counts: tuple[int, int, int]) -> str:
    return " ".join(f"{count:,}" for count in counts)
