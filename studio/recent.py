"""What the person opened last, newest first, kept between sittings."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, QSettings, Signal

_KEY = "recent"
_MOST = 10


class Recent(QObject):
    """Addresses and project folders in the person's settings."""

    changed = Signal()

    def __init__(self, settings: QSettings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._settings = settings

    def items(self) -> list[str]:
        """Addresses, newest first; files that are gone are left out."""
        kept = self._settings.value(_KEY, [])
        # QSettings gives a list of one back as a plain string.
        items = [kept] if isinstance(kept, str) else kept if isinstance(kept, list) else []
        return [item for item in items if isinstance(item, str) and _there(item)]

    def add(self, address: str) -> None:
        """Put `address` first."""
        items = [address, *(item for item in self.items() if item != address)]
        self._settings.setValue(_KEY, items[:_MOST])
        self.changed.emit()

    def clear(self) -> None:
        """Forget everything."""
        self._settings.remove(_KEY)
        self.changed.emit()


def _there(address: str) -> bool:
    return not Path(address).is_absolute() or Path(address).exists()
