"""Plan files: what is read, what is refused and how clearly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.engine.errors import BadInput
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, Rule, Training, plan_fields
from secateur.engine.schedules import SCHEDULES

DESIGN = """
version: 1
model: torchvision:resnet18
seed: 0
rules:                      # first rule whose glob matches the layer's path wins
  - layers: "layer1.*"
    pattern: nm:2:4
    criterion: magnitude
    sparsity: 0.5
  - layers: "*"
    pattern: group
    criterion: {kind: magnitude, norm: 1}
    sparsity: 0.6
allocation: uniform
schedule: {kind: agp, begin: 0, end: 500, every: 10, initial: 0.0}
training: {data: sample:digits, epochs: 3, optimizer: sgd, lr: 0.01, distil: false}
"""


def test_the_design_s_plan_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(DESIGN)
    plan = Plan.load(path)
    first = plan.rule_for("layer1.0.conv1")
    assert first is not None
    assert first.pattern.kind == "nm"
    assert first.sparsity == 0.5
    assert plan.training == Training(data="sample:digits", epochs=3, lr=0.01)
    for name in ("copy.yaml", "copy.json"):
        plan.save(tmp_path / name)
        assert Plan.load(tmp_path / name) == plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('rules:\n  - layers: "*"\n    patern: group\n    sparsity: 0.5', 3, "pattern"),
        ('rules:\n  - layers: "*"\n    pattern: grup\n    sparsity: 0.5', 3, "group"),
        ('rules:\n  - layers: "*"\n    pattern: group\n    sparsity: 1.5', 4, "below 1"),
        ('rules:\n  - layers: "*"\n    pattern: group\n    sparsity: -0.1', 4, "at least 0"),
        ('rules:\n  - layers: "*"\n    pattern: group\n    sparsity: lots', 4, "number"),
        ('rules:\n  - layers: "*"\n    pattern: group', 2, "sparsity"),
        ('rules:\n  - layers: "*"\n    pattern: nm:2:4\n    sparsity: 0.7', 4, "0.5"),
        ("rules:\n  - pattern: group\n    sparsity: 0.5", 2, "layers"),
        ("seed: 0\nallocation: unifrom", 2, "uniform"),
        ("seed: 0\nschedule: {kind: agp, evry: 3}", 2, "every"),
        ("seed: 0\nschedule: {kind: agp, begin: 9, end: 3}", 2, "after"),
        ("training:\n  epochs: many", 2, "whole number"),
        ("training:\n  optimiser: sgd", 2, "optimizer"),
        ("version: 9", 1, "version"),
        ("seed: 0\nseed: 1", 2, "twice"),
        ("seed: 0\nends: denze", 2, "dense"),
        ("seed: 0\nends: true", 2, "a word"),
        ("ends: dense\ntake_zeros: 1", 2, "true or false"),
        ("ends: dense\ntake_zero: true", 2, "take_zeros"),
        (
            'rules:\n  - layers: "*"\n    pattern: head\n    sparsity: 0.5\n    skip_misfits: 2',
            5,
            "true",
        ),
        ("seed: 0\nallocation: {kind: bytes, target: 2}", 2, "at most 1"),
        ("seed: 0\nallocation: {kind: uniform, floor: 0.1}", 2, "no setting 'floor'"),
        ("a: b: c", 1, "YAML"),
        ("- 1", 1, "mapping"),
        ("", 1, "mapping"),
    ],
)
def test_faults_name_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        Plan.load(path)
    assert f":{line}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_yaml_takes_for_words_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("training: {lr: 1e-2}")
    training = Plan.load(path).training
    assert training is not None
    assert training.lr == 0.01


def test_ends_zeros_and_misfits_read_back_equal_and_are_left_out_where_default() -> None:
    rule = {"layers": "*", "pattern": "head", "criterion": "magnitude", "sparsity": 0.25}
    data = {
        "version": 1,
        "seed": 3,
        "ends": "dense",
        "take_zeros": True,
        "rules": [{**rule, "skip_misfits": True}],
        "allocation": {"kind": "global", "floor": 0.1},
        "schedule": "oneshot",
    }
    plan = Plan.from_json(data)
    assert plan.to_json() == data
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.with_rule(["a"], plan.rules[0]).ends == "dense"
    plain = Plan.from_json({"rules": [rule]})
    assert not {"ends", "take_zeros"} & set(plain.to_json())
    assert plain.to_json()["rules"] == [rule]
    assert [each.name for each in plan_fields()] == ["seed", "ends", "take_zeros"]


def test_setting_a_rule_for_layers_wins_over_globs_and_can_be_taken_back() -> None:
    group, filters = PATTERNS.parse("group"), PATTERNS.parse("filter")
    plan = Plan.from_json({"rules": [{"layers": "*", "pattern": "element", "sparsity": 0.5}]})
    rule = Rule("x", group, plan.rules[0].criterion, 0.25)
    own = plan.with_rule(["a.b", "c"], rule)
    assert own.rule_for("a.b").pattern == group
    assert own.rule_for("other").pattern.kind == "element"
    again = own.with_rule(["a.b"], Rule("x", filters, rule.criterion, 0.5))
    assert [r.layers for r in again.rules] == ["a.b", "c", "*"]
    dense = again.with_rule(["c"], None)
    assert dense.rule_for("c").sparsity == 0
    assert Plan().with_rule(["c"], None).rules == ()


def test_a_layer_name_with_glob_characters_matches_itself() -> None:
    rule = Rule("blocks[0].fc", PATTERNS.parse("group"), Plan.from_json({}).rules or None, 0.5)  # type: ignore[arg-type]
    assert rule.matches("blocks[0].fc")


def test_agp_follows_the_cubic() -> None:
    agp = SCHEDULES.parse({"kind": "agp", "begin": 10, "end": 110, "every": 10, "initial": 0.1})
    targets = {s: agp.target(s, 200, 0.9) for s in range(201)}
    assert [s for s, t in targets.items() if t is not None] == list(range(10, 111, 10))
    assert targets[10] == pytest.approx(0.1)
    assert targets[110] == pytest.approx(0.9)
    assert targets[60] == pytest.approx(0.9 - 0.8 * 0.5**3)
    rising = [t for t in targets.values() if t is not None]
    assert rising == sorted(rising)


def test_agp_ends_on_its_last_step_even_off_the_grid() -> None:
    agp = SCHEDULES.parse({"kind": "agp", "begin": 0, "end": 7, "every": 3})
    assert agp.target(7, 100, 0.5) == pytest.approx(0.5)


def test_plans_are_read_without_torch() -> None:
    code = "import sys, secateur.engine.plan; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
