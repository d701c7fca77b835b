"""The forms in S1's tables by name, what was measured of them in words, and S1's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = Mapping[str, Any]

FORMS = {
    "element": "element-wise, off the shelf",
    "vector": "vector-wise, off the shelf",
    "block": "block-wise, off the shelf",
    "group": "group-wise, off the shelf",
    "select": "group-wise, the paper's way",
    "gather": "group-wise, ours in every layer",
    "ours": "group-wise, ours where it wins",
}
"""Off the shelf is the vendor's sparse library; the paper's way selects columns before a GEMM."""

_CLOSE = 1.05


def baseline_ms(cell: Json) -> float:
    """Milliseconds of S1's baseline, dense im2col and GEMM; a linear layer's is the framework's."""
    return float(cell["tried"][0]["ms"] if cell["tried"] else cell["dense_ms"])


def times(factor: float) -> str:
    """A speed-up as 0.061× or 1.25×: three digits that count."""
    if factor >= 99.5:
        return f"{factor:.0f}×"
    if factor >= 0.995:
        return f"{factor:.2f}×" if factor < 9.95 else f"{factor:.1f}×"
    return f"{factor:#.2g}×" if factor < 0.0995 else f"{factor:.2f}×"


def verdict(cell: Json, busy: bool) -> dict[str, str]:
    """``kind`` and ``words`` of a form against the framework's dense layers."""
    if busy:
        return {"kind": "busy", "words": "this machine was busy: no verdict, measure again"}
    gain = float(cell["speedup"])
    if cell["ran"] == "dense":
        return {"kind": "same", "words": "nothing beats dense here: stays dense"}
    if gain >= _CLOSE:
        return {"kind": "faster", "words": f"{cell['ran']} is {gain:.2f}x faster than dense here"}
    if gain > 1 / _CLOSE:
        return {"kind": "same", "words": f"{cell['ran']} is as fast as dense here"}
    return {"kind": "slower", "words": f"{cell['ran']} is {1 / gain:.2f}x slower than dense here"}


def order(cells: Iterable[Json]) -> list[dict[str, Any]]:
    """S1's order, checked where it was measured: ``{"claim", "baseline", "holds", "of", "but"}``.

    Off-the-shelf element-wise is slower than dense at 50 % kept, group-wise is faster at 50 % and
    at 25 %. Against S1's baseline that is ours in every layer; against the framework's layers it is
    ours where it wins, since dense is free to be chosen there. ``but`` names the cells in which it
    is not so.
    """
    rows = list(cells)
    found = []
    for form, asked, baseline, of in _CLAIMS:
        slower = form == "element"
        those = [cell for cell in rows if cell["form"] == form and cell["asked"] == asked]
        wrong = [c for c in those if not (c["ms"] > of(c) if slower else c["ms"] < of(c))]
        word = "slower" if slower else "faster"
        found.append(
            {
                "claim": f"{FORMS[form]}, is {word} than dense at {asked:.0%} kept",
                "baseline": baseline,
                "holds": len(those) - len(wrong),
                "of": len(those),
                "but": [
                    f"{c['model']} on {c['data']}, batch {c['batch']}: {times(of(c) / c['ms'])}"
                    for c in wrong
                ],
            }
        )
    return [row for row in found if row["of"]]


def _framework_ms(cell: Json) -> float:
    return float(cell["dense_ms"])


_CLAIMS = (
    ("element", 0.5, "im2col + GEMM", baseline_ms),
    ("gather", 0.5, "im2col + GEMM", baseline_ms),
    ("gather", 0.25, "im2col + GEMM", baseline_ms),
    ("element", 0.5, "framework", _framework_ms),
    ("ours", 0.5, "framework", _framework_ms),
    ("ours", 0.25, "framework", _framework_ms),
)
