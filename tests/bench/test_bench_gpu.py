"""The GPU benchmarks without a GPU: every row runs, and a lost process costs its row only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from secateur.tests.bench.gpu.supervisor import supervise

# Tells five rows; the second one kills the process, the fourth never returns.
FAULTY = """
import json, os, sys, time
skip = int(sys.argv[sys.argv.index("--skip") + 1])
for number in range(skip, 5):
    row = {"topic": "t", "name": str(number)}
    print(json.dumps(row | {"begun": "g", "patience": 1.0}), flush=True)
    if number == 1:
        os._exit(7)
    if number == 3:
        time.sleep(60)
    print(json.dumps(row | {"value": number}), flush=True)
"""


def test_a_process_that_dies_or_hangs_costs_its_row() -> None:
    rows = supervise((sys.executable, "-c", FAULTY), 60, lambda row: None)
    assert [row["name"] for row in rows] == list("01234")
    assert [row.get("value") for row in rows] == [0, None, 2, None, 4]
    assert rows[1]["reason"] == "the process ended with 7"
    assert "did not return" in rows[3]["reason"]


def test_a_process_that_never_starts_ends_it() -> None:
    assert supervise((sys.executable, "-c", "raise SystemExit(1)"), 60, lambda row: None) == []


def test_rows_without_a_gpu(tmp_path: Path) -> None:
    """A few of each kind; the whole dry run is the same with no --only."""
    script = Path(__file__).with_name("bench_gpu.py")
    only = (
        "products/(grouped|CSR)|conv fp32|bitmap 50%|gradients|moving|cut/one|"
        "dispatcher/64.*batch 1,"
    )
    out = tmp_path / "gpu.md"
    command = [sys.executable, script, "--device", "cpu", "--quick", "--only", only, "--out", out]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    words = [line for line in ran.stderr.splitlines() if line.count(": ") > 1]
    assert len(words) > 40
    assert [line for line in words if not line.endswith(": done")] == []
    assert "A dry run" in out.read_text()
    assert out.with_suffix(".json").exists()
