import json
import os
import signal
from dataclasses import replace

import psutil
import pytest
import shiboken6

from secateur.engine.errors import BadInput
from secateur.engine.plan import Plan, Rule, Training
from secateur.engine.schedules import SCHEDULES
from secateur.studio.state.plan_edits import RuleIndex, default_rule, describe, short, with_sparsity
from secateur.studio.state.session import Session


def wait_for(qtbot, condition, timeout=30_000):
    qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)


def rule(pattern, sparsity=None):
    data = {"layers": "*", "pattern": pattern}
    if sparsity is not None:
        data["sparsity"] = sparsity
    return Plan.from_json({"rules": [data]}).rules[0]


def test_opening_a_sample_gives_its_layers_and_an_empty_plan(opened, sample):
    assert opened.info.name == "digits-resnet"
    assert opened.plan == Plan(model=sample)
    assert opened.current == opened.info.prunable[0].path
    assert opened.selection == (opened.current,)
    assert not opened.dirty
    assert opened.why_not("prune").startswith("The plan prunes nothing")
    assert opened.why_not("export").startswith("Prune first")


def test_a_model_that_is_not_there_is_a_notice_and_changes_nothing(opened, qtbot):
    before = opened.info
    opened.open("/nonexistent/model.safetensors")
    wait_for(qtbot, lambda: opened.notices)
    ((level, text),) = opened.notices
    assert level == "error"
    assert "/nonexistent/model.safetensors" in text
    assert opened.info is before
    assert not opened.busy


def test_undo_and_redo_name_what_they_do(opened):
    paths = [layer.path for layer in opened.info.prunable[:3]]
    opened.set_rule(paths, rule("group", 0.6))
    assert opened.undo.undoText() == "set 3 layers to group 60 %"
    assert opened.dirty
    assert {opened.rule_for(path).pattern.kind for path in paths} == {"group"}
    opened.set_rule(paths[:1], rule("nm:2:4"))
    assert opened.undo.undoText() == f"set {paths[0]} to 2:4"
    opened.undo.undo()
    assert opened.rule_for(paths[0]).pattern.kind == "group"
    opened.undo.undo()
    assert opened.plan.rules == ()
    assert not opened.dirty
    opened.undo.redo()
    assert opened.rule_for(paths[2]).sparsity == 0.6


def test_one_drag_is_one_step_and_the_next_drag_another(opened):
    paths = [layer.path for layer in opened.info.prunable[:2]]
    opened.set_rule(paths[:1], rule("filter", 0.5))
    for value in (0.1, 0.2, 0.3):
        opened.set_sparsity_live(paths, value)
    opened.commit_sparsity()
    opened.set_sparsity_live(paths, 0.9)
    opened.commit_sparsity()
    assert opened.undo.count() == 3
    assert [opened.rule_for(path).pattern.kind for path in paths] == ["filter", "element"]
    opened.undo.undo()
    assert [opened.rule_for(path).sparsity for path in paths] == [0.3, 0.3]
    opened.undo.undo()
    assert opened.rule_for(paths[0]).sparsity == 0.5
    assert opened.rule_for(paths[1]) is None


def test_a_drag_back_to_where_it_began_leaves_no_step(opened):
    path = opened.info.prunable[0].path
    opened.set_rule([path], rule("element", 0.5))
    opened.set_sparsity_live([path], 0.6)
    opened.set_sparsity_live([path], 0.5)
    assert opened.undo.count() == 1


def test_the_plan_comes_back_in_the_next_sitting(opened, engine_process, qtbot, tmp_path, sample):
    path = opened.info.prunable[0].path
    opened.set_rule([path], rule("block:2x2", 0.5))
    opened.keep_plan()
    later = Session(engine_process, home=tmp_path / "home")
    notices = []
    later.notice.connect(lambda text, level: notices.append(text))
    later.open(sample)
    wait_for(qtbot, lambda: later.info is not None)
    assert later.plan == opened.plan
    assert "is back" in notices[0]
    later.set_plan(Plan(model=sample), "start over")
    later.keep_plan()
    assert list((tmp_path / "home" / "plans").iterdir()) == []
    shiboken6.delete(later)


def test_plan_files_go_out_and_in(opened, tmp_path):
    opened.set_rule([opened.info.prunable[1].path], rule("nm:2:4"))
    plan = opened.plan
    opened.save_plan(tmp_path / "p.yaml")
    assert not opened.dirty
    opened.undo.undo()
    opened.open_plan(tmp_path / "p.yaml")
    assert opened.plan == plan
    assert opened.undo.undoText() == "open plan p.yaml"
    (tmp_path / "p.yaml").write_text("rules:\n  - layers: '*'\n    patern: group\n")
    with pytest.raises(BadInput, match=r"p.yaml:3: .*pattern"):
        opened.open_plan(tmp_path / "p.yaml")
    assert opened.plan == plan


def test_a_run_reports_and_a_saved_project_opens_again(opened, engine_process, qtbot, tmp_path):
    paths = [layer.path for layer in opened.info.prunable]
    opened.set_rule(paths, rule("element", 0.75))
    masks = []
    opened.masks_changed.connect(lambda: masks.append(1))
    opened.prune()
    assert opened.busy.startswith("Run 1")
    opened.prune()
    assert opened.notices[-1] == ("warning", "Run 1 · element 75 % is under way.")
    wait_for(qtbot, lambda: not opened.run.active)
    assert opened.run.state == "done"
    assert masks
    assert opened.report["sparsity"] == pytest.approx(0.75, abs=1e-3)
    assert opened.project.parent == tmp_path / "home" / "runs"
    opened.set_rule(paths[:1], None)
    target = tmp_path / "saved"
    opened.save_project(target)
    assert not opened.dirty
    again = Session(engine_process, home=tmp_path / "other")
    again.open(str(target))
    wait_for(qtbot, lambda: again.info is not None)
    assert again.plan == opened.plan
    assert again.report["layers"] == opened.report["layers"]
    assert again.project == target
    shiboken6.delete(again)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="holds other files"):
        opened.save_project(tmp_path / "mine")


def test_a_plan_that_was_not_run_is_saved_as_a_project_too(opened, qtbot, tmp_path, sample):
    opened.set_rule([opened.info.prunable[0].path], rule("group", 0.5))
    plan = opened.plan
    opened.save_project(tmp_path / "early")
    data = json.loads((tmp_path / "early" / "project.json").read_text())
    assert data["model"] == sample
    opened.undo.undo()
    opened.open(str(tmp_path / "early"))
    wait_for(qtbot, lambda: opened.plan == plan)
    assert opened.report is None
    assert opened.project is None


def test_pause_and_cancel_reach_the_engine_and_the_run_resumes(opened, qtbot):
    long = replace(
        Plan(model=opened.address, rules=(rule("element", 0.9),)),
        schedule=SCHEDULES.parse({"kind": "agp", "every": 5}),
        training=Training(epochs=4),
    )
    opened.set_plan(long, "long run")
    opened.prune()
    wait_for(qtbot, lambda: opened.run.done > 2)
    opened.pause()
    wait_for(qtbot, lambda: opened.run.state == "paused")
    qtbot.wait(400)
    stood = opened.run.done
    qtbot.wait(400)
    assert opened.run.done == stood
    opened.unpause()
    wait_for(qtbot, lambda: opened.run.done > stood)
    opened.cancel()
    wait_for(qtbot, lambda: opened.run.state == "cancelled")
    assert opened.engine_state == "ready"
    assert opened.can_resume
    opened.resume_run()
    wait_for(qtbot, lambda: opened.run.state == "done")
    assert any("resumed from the checkpoint" in text for _, text in opened.run.log)
    assert opened.report["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert not opened.can_resume


def test_after_a_crash_the_plan_is_there_and_the_model_is_open_again(opened, engine_process, qtbot):
    opened.set_rule([opened.info.prunable[0].path], rule("group", 0.5))
    plan, pid = opened.plan, engine_process.hello["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(qtbot, lambda: opened.notices)
    assert "SIGKILL" in opened.notices[-1][1]
    wait_for(qtbot, lambda: opened.engine_state == "ready" and not opened.busy)
    assert engine_process.hello["pid"] != pid
    assert not psutil.pid_exists(pid)
    assert opened.plan == plan
    tiles = []
    params = {"layer": opened.current, "rule": None, "bins": 8}
    engine_process.request("histogram", params, lambda result, arrays: tiles.append(arrays))
    wait_for(qtbot, lambda: tiles)
    assert int(tiles[0]["all"].sum()) == opened.info.layer(opened.current).params


def test_words_for_rules():
    assert short(rule("block:4x4", 0.5)) == "block 4x4 50 %"
    assert short(rule("nm:2:4")) == "2:4"
    assert short(None) == ""
    assert describe(("a", "b"), None) == "set 2 layers to dense"


def test_the_index_finds_the_rule_that_the_plan_finds():
    plan = Plan.from_json(
        {
            "rules": [
                {"layers": "layer1.0", "pattern": "group", "sparsity": 0.1},
                {"layers": "layer1.*", "pattern": "group", "sparsity": 0.2},
                {"layers": "layer1.1", "pattern": "group", "sparsity": 0.3},
                {"layers": "x[0]", "pattern": "group", "sparsity": 0.4},
                {"layers": "layer1.0", "pattern": "group", "sparsity": 0.5},
            ]
        }
    )
    index = RuleIndex(plan)
    for path in ("layer1.0", "layer1.1", "layer1.2", "x[0]", "x0", "fc"):
        assert index.rule_for(path) == plan.rule_for(path), path


def test_with_sparsity_leaves_fixed_patterns_alone():
    plan = Plan(
        rules=(replace(rule("nm:2:4"), layers="a"), replace(rule("group", 0.3), layers="b"))
    )
    changed = with_sparsity(plan, ("a", "b", "c"), 0.8)
    assert changed.rule_for("a").sparsity == 0.5
    assert (changed.rule_for("b").pattern.kind, changed.rule_for("b").sparsity) == ("group", 0.8)
    assert changed.rule_for("c") == replace(default_rule("c"), sparsity=0.8)
    assert isinstance(changed.rule_for("c"), Rule)
