"""What a run says of masks that are not what the person will have had in mind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run


def notes_of(model: object, *rules: dict[str, object], **keys: object) -> tuple[str, ...]:
    run = Run(model, Plan.from_json({"rules": list(rules), **keys}))
    list(run.events())
    return run.outcome.report.notes


def llama(folder: Path) -> object:
    """Two layers of eight heads, of which four each share keys and values."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return open_model(str(folder))


def test_a_unit_that_is_more_than_was_asked_for_is_said_once(tmp_path: Path) -> None:
    rule = {"layers": "*", "pattern": "head", "sparsity": 0.25, "skip_misfits": True}
    model = llama(tmp_path)
    (note,) = [note for note in notes_of(model, rule) if "lost nothing" in note]
    first = "model.layers.0.self_attn.o_proj"
    assert note.startswith(f"{first} and 1 more lost nothing though 25.0% was asked for")
    assert "one of 2 units" in note
    assert not any("lost nothing" in n for n in notes_of(model, {**rule, "sparsity": 0.5}))


def test_an_only_unit_has_to_stay_and_runs_may_be_too_short() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    pictures = lambda n: ((torch.ones(n, 1, 8, 8),), {})  # noqa: E731
    model = from_module(net, address="test:net", name="net", inputs=pictures)
    notes = notes_of(
        model,
        {"layers": "0", "pattern": "channel", "sparsity": 0.5},
        {"layers": "2", "pattern": "vector:4", "sparsity": 0.1},
    )
    assert any(n.startswith("0 lost nothing") and "it is one unit" in n for n in notes)
    assert any(n.startswith("2 lost nothing") and "least that vector:4" in n for n in notes)


def test_answers_that_a_model_loses_are_said_and_the_way_out() -> None:
    model = open_model("sample:digits-resnet")
    rule = {"layers": "*", "pattern": "row", "sparsity": 0.5}
    (note,) = [note for note in notes_of(model, rule) if "gives them out" in note]
    assert note.startswith("fc lost 5 of 10 outputs")
    assert "ends: dense" in note
    assert not any("gives them out" in n for n in notes_of(model, rule, ends="dense"))


@pytest.mark.parametrize("kind", ["global", "lamp", "erk"])
def test_an_allocation_without_a_choice_is_said(kind: str) -> None:
    model = open_model("sample:digits-resnet")
    rule = {"layers": "layer?.?.conv?", "pattern": "nm:2:4"}
    said = f"allocation {kind} has nothing to decide"
    assert any(note.startswith(said) for note in notes_of(model, rule, allocation=kind))
    other = {"layers": "fc", "pattern": "element", "sparsity": 0.5}
    assert not any(said in note for note in notes_of(model, rule, other, allocation=kind))
    assert not any("to decide" in note for note in notes_of(model, rule))
