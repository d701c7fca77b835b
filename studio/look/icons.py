"""Line icons from ``resources/icons``, drawn in a theme's colours."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from .theme import RESOURCES, Theme

_SCALES = (1, 2, 3)


def icon(name: str, theme: Theme, size: int = 16, colour: str | None = None) -> QIcon:
    """The icon ``resources/icons/NAME.svg``, `size` pixels wide and high, sharp on any screen.

    `colour` (``#rrggbb``) replaces the theme's text colour; disabled, the icon is paler. An SVG
    with colours of its own, such as the application's, keeps them. Raises FileNotFoundError for a
    name that has no file.
    """
    source = _read(name)
    made = QIcon()
    for mode, ink in (
        (QIcon.Mode.Normal, colour or theme.text),
        (QIcon.Mode.Disabled, theme.disabled),
    ):
        for scale in _SCALES:
            made.addPixmap(_draw(source, ink, size, scale), mode)
    return made


def pixmap(name: str, theme: Theme, size: int = 16, colour: str | None = None) -> QPixmap:
    """The same as one picture, for a label; sharp at twice the density."""
    return _draw(_read(name), colour or theme.text, size, 2)


def app_icon() -> QIcon:
    """The application's own icon in the sizes that desktops ask for."""
    source = _read("app")
    made = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        made.addPixmap(_draw(source, "#000000", size, 1))
    return made


def _read(name: str) -> str:
    return (RESOURCES / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def _draw(source: str, ink: str, size: int, scale: int) -> QPixmap:
    coloured = source.replace("currentColor", QColor(ink).name())
    renderer = QSvgRenderer(QByteArray(coloured.encode()))
    picture = QPixmap(size * scale, size * scale)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    renderer.render(painter, QRectF(0, 0, size * scale, size * scale))
    painter.end()
    picture.setDevicePixelRatio(scale)
    return picture
