"""The tables of Liu et al. (S1) on this machine, as `secateur measure --paper` prints them.

Run on a quiet machine: python tests/bench/paper.py [--device cpu] [--models NAMES] [--out FILE.md].
The results in results/paper_cpu.md were written so, and say how long it took.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import time
from pathlib import Path

from secateur.engine.events import Finished
from secateur.engine.measuring import paper_text
from secateur.engine.measuring.paper import paper
from secateur.engine.text import follow


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", help="comma-separated; default: all")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    models = tuple(given.models.split(",")) if given.models else None
    begun = time.perf_counter()
    for event in paper(models, device=given.device):
        follow(event)
        if isinstance(event, Finished):
            minutes = (time.perf_counter() - begun) / 60
            table = paper_text.paper(event.result)
            text = f"The tables of the paper, in {minutes:.1f} minutes.\n\n```\n{table}\n```\n"
            print(text)
            if given.out:
                given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
