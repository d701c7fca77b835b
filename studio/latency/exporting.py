"""Pictures and tables of the latency lab as files: PNG, SVG, CSV and an HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QRect
from PySide6.QtGui import QImage, QImageWriter, QPainter
from PySide6.QtSvg import QSvgGenerator

from ...engine.errors import BadInput
from ...engine.files import replacing
from ...engine.report.cells_csv import cells_csv
from ...engine.report.latency import latency_html
from ..state.cells import Cell, Measurements
from .plot import Plot
from .tradeoff_plot import Spot

_SCALE = 2
"""Pixels of an exported PNG for each of the screen's, so that it is sharp in print."""


def save_png(plot: Plot, path: Path) -> None:
    """Write the whole picture, also what is scrolled away; raises BadInput."""
    size = plot.picture_size()
    image = QImage(size * _SCALE, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(_SCALE)
    painter = QPainter(image)
    plot.paint_picture(painter, size)
    painter.end()
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    if not QImageWriter(buffer, QByteArray(b"png")).write(image):
        raise BadInput(f"{path}: the picture is too large for a PNG; choose SVG")
    _write(path, bytes(data.data()))


def save_svg(plot: Plot, path: Path) -> None:
    """Write the whole picture in lines and text; raises BadInput."""
    size = plot.picture_size()
    buffer = QBuffer()
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(size)
    generator.setViewBox(QRect(0, 0, size.width(), size.height()))
    generator.setTitle(plot.accessibleName())
    painter = QPainter(generator)
    plot.paint_picture(painter, size)
    painter.end()
    _write(path, bytes(buffer.data().data()))


def save_csv(found: Measurements, path: Path) -> None:
    """Write all measured cells as a table; raises BadInput."""
    _write(path, cells_csv(_timed(found), _failed(found)).encode())


def save_runs_csv(spots: Sequence[Spot], path: Path) -> None:
    """Write the runs of the trade-off as a table; raises BadInput."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("run", "ms", "accuracy", "folder"))
    for spot in spots:
        table.writerow((spot.name, spot.ms, spot.accuracy, spot.folder or ""))
    _write(path, text.getvalue().encode())


def save_html(found: Measurements, path: Path) -> None:
    """Write a page with tables and plots that opens by itself in a browser; raises BadInput."""
    result = {"machine": found.machine, "cells": _timed(found), "failed": _failed(found)}
    _write(path, latency_html(result).encode())


def _timed(found: Measurements) -> list[Cell]:
    return [cell for cell in found.cells if cell.get("ms")]


def _failed(found: Measurements) -> list[Cell]:
    return [cell for cell in found.cells if cell.get("error")]


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
