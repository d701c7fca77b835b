"""The tour as a person starts it: its own process, no display, pictures and files at the end."""

import os
import subprocess
import sys

from PySide6.QtGui import QImage

PROGRAM = "import sys; from pathlib import Path; from secateur.studio.tours.tour import run; "


def test_the_tour_sees_every_step_true(tmp_path):
    out = tmp_path / "tour"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["QT_QPA_PLATFORM"] = "offscreen"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM + f"sys.exit(run(Path({str(out)!r})))"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=280,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) >= 12
    images = [QImage(str(path)) for path in pictures]
    assert {(image.width(), image.height()) for image in images} == {(1440, 900)}
    assert len({image.bits().tobytes() for image in images}) == len(images), "two are the same"
    for name in ("model.onnx", "model.safetensors", "model.compressed.safetensors", "report.html"):
        assert (out / name).stat().st_size > 1000, name
    assert (out / "project" / "masks.safetensors").exists()
