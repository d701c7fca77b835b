"""From process start to first picture: the studio against a bare PySide6 + pyqtgraph window.

Both are measured in turn, in processes of their own; the studio's engine starts meanwhile, as it
does for a person. Run: python tests/bench/bench_startup.py [rounds]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["OMP_WAIT_POLICY"] = "passive"

BARE = """
import sys
from PySide6.QtWidgets import QApplication, QMainWindow
import pyqtgraph
app = QApplication([])
window = QMainWindow()
window.setCentralWidget(pyqtgraph.GraphicsLayoutWidget())
window.resize(1440, 900)
window.show()
app.processEvents()
window.grab()
print("shown", flush=True)
"""

STUDIO = """
import tempfile
from pathlib import Path
from PySide6.QtCore import QSettings
from secateur.studio.look import theme
from secateur.studio.app import make_application
app = make_application([])
home = tempfile.mkdtemp()
settings = QSettings(home + "/settings.ini", QSettings.Format.IniFormat)
from secateur.studio.window import MainWindow
theme.apply(app, "dark")
from secateur.studio.state.session import Session
session = Session(home=Path(home))
session.client.start()
window = MainWindow(session, settings)
window.show()
app.processEvents()
window.grab()
print("shown", flush=True)
session.client.shutdown(0)
"""


def seconds(program: str) -> float:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    taken = time.perf_counter() - start
    process.communicate()
    assert line == b"shown\n", line
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=7)
    rounds = parser.parse_args().rounds
    bare, studio = [], []
    for _ in range(rounds):
        bare.append(seconds(BARE))
        studio.append(seconds(STUDIO))
    a, b = statistics.median(bare), statistics.median(studio)
    print(f"bare window {a:.3f} s, studio {b:.3f} s, ratio {b / a:.2f} (median of {rounds})")


if __name__ == "__main__":
    main()
