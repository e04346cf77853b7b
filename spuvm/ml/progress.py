"""A progress bar of training, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[], None]


@contextmanager
def bar(kind: str, title: str, total: int) -> Iterator[Tick]:
    """Gives a function that counts one step."""
    if kind == "none":
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn()) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
