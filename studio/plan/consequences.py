"""What goes along with what a pattern removes: in words, and as a card of the plan panel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent
from PySide6.QtGui import QEnterEvent, QHideEvent
from PySide6.QtWidgets import QWidget

from ...engine.info import LayerInfo, ModelInfo
from ...engine.patterns import Pattern
from ..state.plan_reasons import is_dense
from ..state.session import Session
from .card import Card

_NAMED = 3
_SENTENCES = 2
_TIED = "Outputs go only where {} can spare the same ones; the others stay as zeros."


@dataclass(frozen=True)
class Consequences:
    """What a removal means for the rest of the model.

    `shrinks` are the layers that get smaller along with the removal. `fixed` and `tied` are
    sentences on what stays in the file as zeros: whatever is done, and unless other layers, the
    `partners`, can spare the same.
    """

    shrinks: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()

    @property
    def stays(self) -> tuple[str, ...]:
        """All sentences on what stays."""
        return self.fixed + self.tied


def consequences(
    layers: Sequence[LayerInfo], pattern: Pattern, info: ModelInfo
) -> Consequences | None:
    """What goes along when `pattern` is laid on `layers`; None where nothing is known to."""
    chosen = {layer.path for layer in layers}
    many = len(layers) > 1
    also: dict[str, None] = {}
    fixed, tied = [], []
    others: dict[str, None] = {}
    if pattern.removes and not pattern.whole:
        known = {layer.path: layer for layer in info.layers}
        for layer in layers:
            partners = _partners(layer, known)
            name = f"{layer.path}: " if many else ""
            if layer.fixed is not None:
                fixed.append(name + _sentence(layer.fixed))
            elif partners:
                tied.append(name + _TIED.format(_list(partners)))
                others |= dict.fromkeys(partners)
            else:
                also |= dict.fromkeys(layer.also)
    else:
        reading_less = {layer.path for layer in layers if _reads_less(layer, pattern)}
        also = dict.fromkeys(_makers(reading_less, info))
    shrinks = tuple(path for path in also if path not in chosen)
    if not shrinks and not fixed and not tied:
        return None
    return Consequences(shrinks, tuple(fixed), tuple(tied), tuple(others))


def _partners(layer: LayerInfo, known: Mapping[str, LayerInfo]) -> list[str]:
    """The layers that make the same channels: what shrinks along with them is just the same."""
    group = {layer.path, *layer.also}
    return [p for p in layer.also if p in known and {p, *known[p].also} == group]


def _reads_less(layer: LayerInfo, pattern: Pattern) -> bool:
    """Whether what goes are whole inputs of the layer."""
    if pattern.whole or pattern.kind in ("channel", "head"):
        return True
    plain = layer.gemm is not None and layer.gemm.taps == 1
    return plain and pattern.kind in ("column", "group")


def _makers(readers: set[str], info: ModelInfo) -> list[str]:
    """The layers whose outputs nobody but `readers` takes, and which need not make them all."""
    makers = {
        layer.path: layer
        for layer in info.layers
        if layer.fixed is None and readers.intersection(layer.also)
    }
    matrices = {layer.path for layer in info.layers if layer.prunable}
    return [
        path
        for path, layer in makers.items()
        if all(p in readers or p in makers for p in layer.also if p in matrices)
    ]


def words(found: Consequences, everything: bool = False) -> tuple[str, str]:
    """(headline, details) of a card; `everything` names all layers, not only the first few."""
    lines = []
    head = "Stays in the file as zeros" if found.fixed else "Tied to other layers"
    if found.shrinks:
        count = len(found.shrinks)
        head = f"Also shrinks {count} layer{'s' if count > 1 else ''}"
        lines.append(_list(found.shrinks, count if everything else _NAMED))
    stays = found.stays if everything else found.stays[:_SENTENCES]
    if found.shrinks and stays:
        lines.append("Elsewhere zeros stay in the file:")
    lines += stays
    if len(found.stays) > len(stays):
        lines.append(f"… and {len(found.stays) - len(stays)} more")
    return head, "\n".join(lines)


class ConsequenceCard(Card):
    """Names the layers that shrink along; the pointer on it marks them in the tree."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("also_card", "Show all", parent)
        self._session = session
        self._found: Consequences | None = None
        self._everything = False
        self.action.setAccessibleName("Show all layers that shrink along")
        self.action.clicked.connect(self._toggle)

    def show_for(self, layers: Sequence[LayerInfo]) -> None:
        """Say what the plan's rule for the first of the selected layers means for the others."""
        info = self._session.info
        rule = self._session.rule_for(layers[0].path) if layers else None
        found = None
        if info is not None and rule is not None and not is_dense(rule):
            found = consequences(layers, rule.pattern, info)
        if found != self._found:
            self._found, self._everything = found, False
            if self.underMouse():
                self._mark(True)
        self._show()

    def _show(self) -> None:
        found = self._found
        self.setVisible(found is not None)
        if found is None:
            return
        self.say(*words(found, self._everything), "strong" if found.shrinks else "warn")
        long = len(found.shrinks) > _NAMED or len(found.stays) > _SENTENCES
        self.action.setVisible(long)
        self.action.setText("Show fewer" if self._everything else "Show all")
        named = found.shrinks or found.partners
        self.setToolTip("The pointer here marks these layers in the tree" if named else "")

    def _toggle(self) -> None:
        self._everything = not self._everything
        self._show()

    def _mark(self, on: bool) -> None:
        found = self._found if on else None
        self._session.mark(found.shrinks + found.partners if found is not None else ())

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self._mark(True)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._mark(False)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._mark(False)


def _list(paths: Sequence[str], most: int = _NAMED) -> str:
    more = len(paths) - most
    return ", ".join(paths[:most]) + (f" and {more} more" if more > 0 else "")


def _sentence(reason: str) -> str:
    """A trace's reason for the person: an operation by its own name, and a whole sentence."""
    text = re.sub(r"^aten\.(native_)?(\w+)", lambda part: part[2].replace("_", " "), reason)
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
