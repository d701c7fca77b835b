"""The numbers that never leave the screen, in words: zeros, file, measured time, accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from ...engine.verdicts import of_busy_machine
from .session import Session

UNKNOWN = "—"
_MUCH_LOST = 0.05


@dataclass(frozen=True)
class Number:
    """One number: what it is, its value in words, and where it comes from.

    `role` is a role of the theme: empty, ``dim`` (not measured, only planned), ``good`` or
    ``warn``.
    """

    name: str
    value: str
    tip: str
    role: str = ""


def numbers(session: Session) -> tuple[Number, Number, Number, Number]:
    """Zeros, file, measured, accuracy. None of them is derived from another."""
    return _zeros(session), _file(session), _time(session), _accuracy(session)


def planned_sparsity(session: Session) -> float:
    """Share of the prunable weights that the plan asks to prune."""
    weights = pruned = 0.0
    for layer in session.info.prunable if session.info else ():
        size = layer.gemm.shape[0] * layer.gemm.shape[1] if layer.gemm else layer.params
        rule = session.rule_for(layer.path)
        weights += size
        pruned += size * rule.sparsity if rule is not None else 0.0
    return pruned / weights if weights else 0.0


def reached_sparsity(session: Session) -> float | None:
    """Share of zeros in the layers that the run under way has masked, None without one."""
    reached = session.run.sparsity
    if not session.run.active or not reached or session.info is None:
        return None
    weights = zeros = 0.0
    for layer in session.info.prunable:
        size = layer.gemm.shape[0] * layer.gemm.shape[1] if layer.gemm else layer.params
        if layer.path in reached:
            weights += size
            zeros += size * reached[layer.path]
    return zeros / weights if weights else None


def count(number: int) -> str:
    """A count in at most four characters of figures: 9,408 → 9.4K."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            value = number / size
            if value >= 100:
                return f"{value:.0f}{unit}"
            return f"{value:.1f}{unit}" if unit == "K" else f"{value:.3g}{unit}"
    return str(number)


def size(number: float) -> str:
    """Bytes in decimal units, as file managers show them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"


def _pair(before: str, after: str) -> str:
    number, _, unit = before.rpartition(" ")
    return f"{number} → {after}" if number and after.endswith(f" {unit}") else f"{before} → {after}"


def _zeros(session: Session) -> Number:
    now = reached_sparsity(session)
    if now is not None:
        return Number(
            "Zeros", f"{now * 100:.1f} %", "Zeros in the masked layers, as the run stands"
        )
    if session.report is not None:
        value = float(session.report["sparsity"])
        return Number(
            "Zeros", f"{value * 100:.1f} %", "Zeros in the pruned layers, counted after the run"
        )
    planned = planned_sparsity(session)
    if planned:
        return Number(
            "Zeros", f"{planned * 100:.1f} % planned", "What the plan asks for; not run", "dim"
        )
    return Number("Zeros", UNKNOWN, "Nothing is pruned yet", "dim")


def _file(session: Session) -> Number:
    if session.report is not None:
        both = session.report["bytes"]
        value = _pair(size(both["dense"]), size(both["compressed"]))
        return Number("File", value, "Bytes of the tensors: dense, and in the compressed format")
    if session.info is not None:
        return Number("File", size(session.info.bytes), "Bytes of the tensors as they are")
    return Number("File", UNKNOWN, "No model is open", "dim")


def _time(session: Session) -> Number:
    cell = session.measuring.found.whole
    if cell is None:
        words = "Not measured on this machine yet: prune, then Measure"
        return Number("Measured", UNKNOWN, words, "dim")
    busy = of_busy_machine(cell)
    value = ("~" if busy else "") + _pair(f"{cell['dense_ms']:.3g} ms", f"{cell['ms']:.3g} ms")
    faster = cell["ms"] < cell["dense_ms"] * 0.98
    tip = (
        f"Whole model, batch {cell['batch']}, {cell['device']}: "
        f"dense, and as it ran ({cell['ran']})"
        + ("; the machine was busy, so both are too long" if busy else "")
    )
    return Number("Measured", value, tip, "good" if faster else "")


def _accuracy(session: Session) -> Number:
    accuracy = (session.report or {}).get("accuracy") or {}
    dense, pruned = accuracy.get("dense"), accuracy.get("pruned")
    if pruned is not None and dense is None:
        return Number("Accuracy", f"{pruned * 100:.1f} %", "On held-out data, after training")
    if dense is None or pruned is None:
        tip = "Known after a run on a model that comes with data"
        return Number("Accuracy", UNKNOWN, tip, "dim")
    value, tip = f"{dense * 100:.1f} → {pruned * 100:.1f} %", "On held-out data: dense, and pruned"
    if dense - pruned < _MUCH_LOST:
        return Number("Accuracy", value, tip)
    advice = "Training may win back what was lost (Retrain under the masks), or prune less"
    return Number("Accuracy", value, f"{tip}. {advice}", "warn")
