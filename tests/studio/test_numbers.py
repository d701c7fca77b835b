"""The numbers that never leave the screen say where they are not to be trusted, or not good."""

import sys
from pathlib import Path

import pytest

from secateur.studio.state.client import EngineClient
from secateur.studio.state.numbers import numbers
from secateur.studio.state.session import Session

sys.path.append(str(Path(__file__).parent))
from measured import cell


@pytest.fixture
def session(qapp, tmp_path):
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    yield made
    made.close()


def number(session, name):
    return next(number for number in numbers(session) if number.name == name)


@pytest.mark.parametrize(
    ("noise", "value", "role"),
    [({}, "10 → 4 ms", "good"), ({"disturbed": True}, "~10 → 4 ms", "good")],
)
def test_times_of_a_busy_machine_are_about(session, noise, value, role):
    session.measuring.found.add([cell(None, "group", 0.5, 10.0, 4.0, **noise)], of_run=True)
    measured = number(session, "Measured")
    assert (measured.value, measured.role) == (value, role)
    assert ("busy" in measured.tip) is bool(noise)


@pytest.mark.parametrize(("pruned", "role"), [(0.95, ""), (0.1, "warn")])
def test_accuracy_that_broke_down_stands_out_and_says_what_helps(session, pruned, role):
    session.report = {"sparsity": 0.5, "bytes": {"dense": 8, "compressed": 4}, "layers": [],
                      "accuracy": {"dense": 0.989, "pruned": pruned}}  # fmt: skip
    accuracy = number(session, "Accuracy")
    assert accuracy.role == role
    assert ("Retrain" in accuracy.tip) is bool(role)
