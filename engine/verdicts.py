"""What a measurement means, in words and as a sparsity; from its cell's values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

CLOSE = 1.05
"""Faster or slower by less than this counts as the same."""


def verdict(cell: Mapping[str, Any], busy: bool = False) -> Json:
    """``{"kind", "words"}`` of a measured cell.

    ``faster`` than dense, the ``same``, ``slower`` (the fastest sparse form is, so that the layer
    stays dense), or ``busy``: noise left open which, and nothing is claimed. No factor is claimed
    for a cell that was ``disturbed``.
    """
    what = f"{pattern_words(cell['pattern'])} at {100 * (1 - cell['kept']):.0f} %"
    if busy:
        words = f"no verdict on {what}: this machine was busy, measure again"
        return {"kind": "busy", "words": words}
    if cell["ran"] != "dense":
        if cell["speedup"] < CLOSE:
            return {"kind": "same", "words": f"{what} runs as fast as dense here"}
        if cell.get("disturbed"):
            words = f"{what} runs faster than dense here; this machine was too busy to say how much"
            return {"kind": "faster", "words": words}
        factor = times(cell["speedup"])
        return {"kind": "faster", "words": f"{what} runs {factor} faster than dense here"}
    gain = best_speedup(cell)
    if gain is None:
        words = f"{what} has no form that could be faster here: shown as dense"
        return {"kind": "same", "words": words}
    if gain * CLOSE > 1:
        return {"kind": "same", "words": f"{what} runs no faster than dense here: shown as dense"}
    words = f"{what} stays slower than dense on this machine: shown as dense"
    return {"kind": "slower", "words": words}


def best_speedup(cell: Mapping[str, Any]) -> float | None:
    """Dense time over that of the fastest sparse form, whether it ran or not; None without one."""
    ms = _sparse_ms(cell)
    return None if ms is None else float(cell["dense_ms"] / ms)


def of_busy_machine(cell: Mapping[str, Any]) -> bool:
    """Whether the machine was too busy for the cell's times to be believed: they are too long."""
    return bool(cell.get("disturbed")) or cell["verdict"]["kind"] == "busy"


def dense_level(cells: Iterable[Mapping[str, Any]]) -> float:
    """One dense time for all cells of a layer in one setting: the median.

    Of those alone that no busy machine made too long, if there are any.
    """
    all_of_them = list(cells)
    quiet = [cell for cell in all_of_them if not of_busy_machine(cell)]
    times = sorted(float(cell["dense_ms"]) for cell in quiet or all_of_them)
    return times[len(times) // 2]


def crossover(cells: Iterable[Mapping[str, Any]], dense_ms: float | None = None) -> float | None:
    """The sparsity from which on a layer is faster than dense, of its cells at several sparsities.

    Between the last one that is not faster and the first that is, where the line through their
    times, as plots draw it, crosses `dense_ms` (None: the cells' own level); the first itself where
    no lower one was measured or could run, or where one of them was disturbed. None if the highest
    sparsity is not faster. Cells without a verdict do not count.
    """
    known = [cell for cell in cells if cell["verdict"]["kind"] != "busy"]
    if not known:
        return None
    level = dense_level(known) if dense_ms is None else dense_ms
    found: Mapping[str, Any] | None = None
    for cell in sorted(known, key=lambda cell: float(cell["kept"])):
        gain = best_speedup(cell)
        if cell["ran"] != "dense" and gain is not None and gain > 1:
            found = cell
            continue
        if found is None or gain is None or cell.get("disturbed") or found.get("disturbed"):
            break
        low, high = 1 - cell["kept"], 1 - found["kept"]
        above, below = max((_sparse_ms(cell) or 0.0) - level, 0.0), level - found["ms"]
        return float(low + (high - low) * above / (above + below)) if below > 0 else float(high)
    return None if found is None else float(1 - found["kept"])


def with_crossovers(cells: Sequence[Json]) -> list[Json]:
    """The cells, each with the ``crossover`` of its layer, pattern and setting.

    It stays None where only one sparsity was measured.
    """
    groups: dict[tuple[object, ...], list[Json]] = {}
    places: dict[tuple[object, ...], list[Json]] = {}
    for cell in cells:
        groups.setdefault(_group(cell), []).append(cell)
        places.setdefault(_place(cell), []).append(cell)
    levels = {place: dense_level(those) for place, those in places.items()}
    found = {
        key: crossover(group, levels[_place(group[0])])
        if len({cell["kept"] for cell in group}) > 1
        else None
        for key, group in groups.items()
    }
    return [{**cell, "crossover": found[_group(cell)]} for cell in cells]


def differing(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the keys ``batch, dtype, device`` tell the cells apart."""
    return [key for key in ("batch", "dtype", "device") if len({c[key] for c in cells}) > 1]


def over_sparsities(cells: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a layer was measured at several sparsities of a pattern, as a crossover needs."""
    return len({(_group(cell), cell["kept"]) for cell in cells}) > len(set(map(_group, cells)))


def pattern_words(pattern: str) -> str:
    """A pattern's short form as people say it: element-wise, 2:4, block 8x8."""
    kind, _, settings = pattern.partition(":")
    if kind == "element":
        return "element-wise"
    return settings if kind == "nm" else " ".join([kind, settings]).strip()


def times(factor: float) -> str:
    """A factor as 1.6x, to two places where it is close to 1."""
    return f"{factor:.2f}x" if factor < 1.2 else f"{factor:.1f}x"


def _sparse_ms(cell: Mapping[str, Any]) -> float | None:
    """The time of the fastest sparse form, whether it ran or not; None without one."""
    if cell["ran"] != "dense":
        return float(cell["ms"])
    return min((float(row["ms"]) for row in cell["tried"]), default=None)


def _group(cell: Mapping[str, Any]) -> tuple[object, ...]:
    return cell["pattern"], *_place(cell)


def _place(cell: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(cell[key] for key in ("layer", "batch", "dtype", "device"))
