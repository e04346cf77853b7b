"""The data flow of a session as one page of HTML: devices, moves, openings, costs, timeline."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.flow import LATEST, Flow, Form, Step
from spuvm.devices.reporting import disclosed
from spuvm.devices.session import current
from spuvm.errors import UsageError

_COLOURS: Final[dict[Form, str]] = {
    "work": "#777777",
    "shared": "#1b7837",
    "hidden": "#2166ac",
    "opened": "#b2182b",
    "clear": "#e08214",
}
_MEANINGS: Final[dict[Form, str]] = {
    "work": "computed where it is",
    "shared": "sent as secret shares",
    "hidden": "sent encrypted or under a mask",
    "opened": "shares or ciphertexts that became clear at the receiver",
    "clear": "sent as it is",
}
_RADIUS, _NODE, _LANE, _WIDTH = 230, 44, 26, 900  # pixels

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 64em; color: #222 }
table { border-collapse: collapse; margin: .6em 0 1.6em } svg { max-width: 100% }
td, th { border-bottom: 1px solid #ddd; padding: .25em .8em .25em 0; text-align: left }
td.n, th.n { text-align: right } h2 { margin-top: 1.6em }
svg text { font: 13px system-ui, sans-serif } .key span { margin-right: 1.2em }
"""


def report(path: str | os.PathLike[str]) -> None:
    """Write what this session did so far as a page that a browser shows; no data is in it.

    A picture of the devices and what went between them, by form; everything that somebody learned;
    what every function on an SPU costs a run (declared rounds and bytes) and how often it ran; when
    the latest steps were asked for. Without a driver each party writes its own page, of the script
    that all run.

    Raises:
        UsageError: no session, or a file that cannot be written.
    """
    session = current()
    page = render(session.flow, session.parties, disclosed())
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "the report cannot be written", got=f"{os.fspath(path)}: {error.strerror}"
        ) from error


def render(flow: Flow, parties: Sequence[str], seen: Sequence[tuple[Disclosure, int]]) -> str:
    """The page."""
    moves = [(step, n) for step, n in flow.steps.items() if step.form != "work"]
    used = {name for step in flow.steps for name in (step.source, step.target)}
    nodes = [*parties, *sorted(used - set(parties))]
    key = "".join(
        f'<span><b style="color:{_COLOURS[form]}">&#9632;</b> {form}: {meaning}</span><br>'
        for form, meaning in _MEANINGS.items()
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data flow</title>',
        f"<style>{_STYLE}</style></head><body><h1>Data flow</h1>",
        _picture(nodes, moves),
        f'<p class="key">{key}</p>',
        "<h2>Moves</h2>",
        _table(
            ["from", "to", "form", "what", "times", "at"],
            [(s.source, s.target, s.form, s.what, n, s.line) for s, n in moves],
        ),
        "<h2>Who learned what</h2>",
        _table(
            ["what", "to", "from the data of", "array", "times", "at"],
            [
                (d.what, d.to, ", ".join(filter(None, d.origins)), _array(d), n, d.source)
                for d, n in seen
            ],
        ),
        "<h2>Cost of a run</h2>",
        _table(
            ["SPU", "function", "rounds", "bytes of each party", "runs"],
            [
                (
                    spu,
                    what,
                    flow.price(digest).rounds,
                    " / ".join(f"{b:,}" for b in flow.price(digest).bytes_sent),
                    n,
                )
                for (spu, what, digest), n in flow.runs.items()
            ],
        ),
        "<h2>Timeline</h2>",
        f"<p>When the script asked for each of the latest {LATEST:,} steps.</p>",
        _timeline(nodes, flow.latest),
        "</body></html>",
    ]
    return "\n".join(parts)


def _array(d: Disclosure) -> str:
    if not d.dtype:
        return ""
    return d.dtype + (f"[{', '.join(map(str, d.shape))}]" if d.shape else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>Nothing.</p>"
    numbers = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]

    def line(tag: str, cells: Sequence[object]) -> str:
        made = []
        for cell, number in zip(cells, numbers, strict=True):
            text = f"{cell:,}" if isinstance(cell, int) else escape(str(cell))
            made.append(f"<{tag}{' class=n' if number else ''}>{text}</{tag}>")
        return f"<tr>{''.join(made)}</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def _picture(nodes: Sequence[str], moves: Sequence[tuple[Step, int]]) -> str:
    """Devices on a circle; one arrow per direction and form, as wide as it is often used."""
    size = 2 * (_RADIUS + 2 * _NODE)
    centre = size / 2
    places: dict[str, tuple[float, float]] = {}
    for i, name in enumerate(nodes):
        angle = 2 * math.pi * i / len(nodes) - math.pi / 2
        places[name] = (
            centre + _RADIUS * math.cos(angle),
            centre + _RADIUS * math.sin(angle),
        )
    arrows: dict[tuple[str, str, Form], list[tuple[str, int]]] = {}
    for step, n in moves:
        arrows.setdefault((step.source, step.target, step.form), []).append((step.what, n))
    heads = "".join(
        f'<marker id="{form}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
        f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for form, colour in _COLOURS.items()
    )
    drawn = [_arrow(places, key, what) for key, what in arrows.items()]
    for name, (x, y) in places.items():
        drawn.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{_NODE * 0.8:.0f}" fill="#f4f4f4" '
            f'stroke="#555"/><text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    return (
        f'<svg viewBox="0 0 {size} {size}" width="{size}" role="img" '
        f'aria-label="devices and what went between them"><defs>{heads}</defs>'
        f"{''.join(drawn)}</svg>"
    )


def _arrow(
    places: dict[str, tuple[float, float]],
    key: tuple[str, str, Form],
    what: Sequence[tuple[str, int]],
) -> str:
    """A bent line, so that the two directions, and different forms, are beside each other."""
    source, target, form = key
    (x1, y1), (x2, y2) = places[source], places[target]
    length = math.hypot(x2 - x1, y2 - y1)
    along = (x2 - x1) / length, (y2 - y1) / length
    bend = 14 + 12 * list(_COLOURS).index(form)
    start = x1 + along[0] * _NODE * 0.85, y1 + along[1] * _NODE * 0.85
    end = x2 - along[0] * _NODE * 0.85, y2 - along[1] * _NODE * 0.85
    middle = (x1 + x2) / 2 - along[1] * bend, (y1 + y2) / 2 + along[0] * bend
    times = sum(n for _, n in what)
    named = escape("\n".join(f"{n} x {name}" for name, n in what))
    path = " ".join(f"{v:.0f}" for v in (*start, *middle, *end)).split()
    curve = f"M{path[0]},{path[1]} Q{path[2]},{path[3]} {path[4]},{path[5]}"
    width = 1.2 + min(3.0, math.log10(times))
    colour = _COLOURS[form]
    label = (
        f'<text x="{middle[0]:.0f}" y="{middle[1]:.0f}" fill="{colour}" '
        f'text-anchor="middle">{times:,}</text>'
    )
    return (
        f"<g><title>{escape(source)} to {escape(target)}, {form}:\n{named}</title>"
        f'<path d="{curve}" fill="none" stroke="{colour}" stroke-width="{width:.1f}" '
        f'marker-end="url(#{form})"/>{label}</g>'
    )


def _timeline(nodes: Sequence[str], latest: Iterable[tuple[float, Step]]) -> str:
    """A lane per device; a mark where a step was asked for, at its source and its target."""
    steps = list(latest)
    if not steps:
        return "<p>Nothing.</p>"
    first, last = steps[0][0], steps[-1][0]
    scale = (_WIDTH - 130) / max(last - first, 1e-3)
    height = _LANE * (len(nodes) + 1)
    drawn = []
    for i, name in enumerate(nodes):
        y = _LANE * i + _LANE / 2
        drawn.append(
            f'<text x="0" y="{y + 4:.0f}">{escape(name)}</text>'
            f'<line x1="110" y1="{y:.0f}" x2="{_WIDTH}" y2="{y:.0f}" stroke="#ddd"/>'
        )
    lanes = {name: _LANE * i + _LANE / 2 for i, name in enumerate(nodes)}
    for at, step in steps:
        x = 115 + (at - first) * scale
        colour, said = _COLOURS[step.form], escape(f"{at:.3f} s: {step.what}, {step.line}")
        upper, lower = sorted((lanes[step.source], lanes[step.target]))
        drawn.append(
            f'<line x1="{x:.1f}" y1="{upper - 7:.0f}" x2="{x:.1f}" y2="{lower + 7:.0f}" '
            f'stroke="{colour}" stroke-width="1.5"><title>{said}</title></line>'
        )
    y = height - 6
    drawn.append(
        f'<text x="110" y="{y}">{first:.2f} s</text>'
        f'<text x="{_WIDTH}" y="{y}" text-anchor="end">{last:.2f} s</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        f'aria-label="timeline">{"".join(drawn)}</svg>'
    )
