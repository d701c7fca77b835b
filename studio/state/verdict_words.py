"""The verdict of a measured cell in one word, in a sentence, and in a colour."""

from __future__ import annotations

from .cells import Cell

UNKNOWN = "—"


def word(cell: Cell | None) -> str:
    """``1.6×``, ``dense`` (it stays so), ``busy``, ``failed``, or a dash for nothing measured.

    ``~1.6×`` where the machine was too busy for the engine to claim a factor.
    """
    if cell is None:
        return UNKNOWN
    if cell.get("error"):
        return "failed"
    if cell["verdict"]["kind"] == "busy":
        return "busy"
    return "dense" if cell["ran"] == "dense" else factor(cell, 1)


def factor(cell: Cell, digits: int) -> str:
    """How much faster than dense what ran is: ``1.62×``."""
    about = "~" if cell.get("disturbed") else ""
    return f"{about}{cell['speedup']:.{digits}f}×"


def sentence(cell: Cell) -> str:
    """The verdict as the engine says it, or why there is none, with a capital and a stop."""
    words = f"not measured: {cell['error']}" if cell.get("error") else str(cell["verdict"]["words"])
    return f"{words[:1].upper()}{words[1:]}."


def role(cell: Cell | None) -> str:
    """The role of the theme in which the word is written."""
    if cell is None:
        return "faint"
    if cell.get("error"):
        return "rose"
    faster = cell["ran"] != "dense"
    return {"faster": "leaf", "busy": "amber", "slower": "amber" if faster else "dim"}.get(
        cell["verdict"]["kind"], "dim"
    )
