"""What stands below the latency table in a terminal: the steps of each form, and what lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..text import percent, table
from ..verdicts import differing

Json = dict[str, Any]

_PARTS = ("gather", "im2col", "select", "multiply", "reshape")


def details(cells: list[Json], every: bool) -> Iterator[str]:
    """The steps, where they were timed, and with `every` the forms that lost to what ran."""
    if steps := [line for cell in cells for line in _steps(cell, differing(cells))]:
        names = [name for name in _PARTS if any(name in parts for _, parts in steps)]
        rows = [[*words, *(parts.get(name, "–") for name in names)] for words, parts in steps]
        head = [*_head(cells), "form", *(f"{name} ms" for name in names)]
        numbers = range(len(head) - len(names), len(head))
        yield "\nsteps, each timed by itself (~: on a busy machine)"
        yield table(rows, head, right=(2, *numbers))
    if every and (lost := [_lost(cell, differing(cells)) for cell in cells if cell["tried"]]):
        yield "\nforms that lost, against dense"
        yield table(lost, [*_head(cells), "form and factor"], right=(2,))


def _steps(cell: Json, several: list[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    for form in cell["steps"]:
        mark = "~" if form["disturbed"] else ""
        parts = {part["name"]: f"{mark}{part['ms']:.3f}" for part in form["parts"]}
        yield [*_words(cell, several), form["path"]], parts


def _lost(cell: Json, several: list[str]) -> list[str]:
    mark = "~" if cell["disturbed"] else ""
    tried = sorted(cell["tried"], key=lambda form: float(form["ms"]))
    factors = [f"{form['path']} {mark}{cell['dense_ms'] / form['ms']:.2f}×" for form in tried]
    return [*_words(cell, several), ", ".join(factors)]


def _head(cells: list[Json]) -> list[str]:
    return ["layer", "pattern", "kept", *differing(cells)]


def _words(cell: Json, several: list[str]) -> list[str]:
    where = cell["layer"] or "whole model", cell["pattern"], percent(cell["kept"])
    return [*where, *(str(cell[key]) for key in several)]
