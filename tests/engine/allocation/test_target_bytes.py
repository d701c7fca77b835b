"""A target in bytes is reached by the file that is really written, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from secateur.engine.allocation import Share
from secateur.engine.allocation.bytes_ import packed_bytes
from secateur.engine.errors import BadInput
from secateur.engine.export import export
from secateur.engine.export.compressed_file import pack
from secateur.engine.gemm import Gemm
from secateur.engine.models import open_model
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run


def written(address: str, word: str, target: float, folder: Path) -> tuple[int, int]:
    """Bytes of the pruned layers' weights in the compressed file, and dense."""
    rule = {"layers": "*", "pattern": word, "sparsity": 0.5}
    plan = Plan.from_json({"rules": [rule], "allocation": {"kind": "bytes", "target": target}})
    run = Run(open_model(address), plan)
    list(run.events())
    path = folder / "model.safetensors"
    export(run.outcome.model, run.outcome.masks, "compressed", path)
    weights = [run.model.info.layer(layer).weight for layer in run.masks.layers]
    size = 0
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            if name in weights or name.rsplit(".", 1)[0] in weights:
                size += file.get_tensor(name).nbytes
    return size, sum(run.model.state[name].nbytes for name in weights)


@pytest.mark.parametrize("word", ["element", "block:2x2", "group", "filter", "channel"])
@pytest.mark.parametrize("target", [0.5, 0.25])
def test_the_file_of_the_sample_reaches_it(word: str, target: float, tmp_path: Path) -> None:
    size, dense = written("sample:digits-resnet", word, target, tmp_path)
    assert size == pytest.approx(target * dense, rel=0.02)


@pytest.mark.parametrize(("word", "target"), [("element", 0.1), ("group", 0.4)])
def test_the_file_of_a_resnet18_reaches_it(word: str, target: float, tmp_path: Path) -> None:
    size, dense = written("torchvision:resnet18", word, target, tmp_path)
    assert size == pytest.approx(target * dense, rel=0.02)


def test_what_cannot_be_reached_is_refused_with_the_smallest() -> None:
    rule = {"layers": "layer1.*", "pattern": "element", "sparsity": 0.5}
    allocation = {"kind": "bytes", "target": 0.01, "floor": 0.3}
    run = Run(
        open_model("sample:digits-resnet"),
        Plan.from_json({"rules": [rule], "allocation": allocation}),
    )
    with pytest.raises(BadInput, match=r"cannot be reached .* floor of 0\.3; the smallest is 3\d"):
        list(run.events())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("word", ["element", "group", "filter", "channel", "head"])
@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.3, 0.75, 0.95])
def test_the_prediction_is_what_is_packed(word: str, sparsity: float, dtype: torch.dtype) -> None:
    gemm = Gemm((40, 24, 3, 3), (3, 3), head=27)
    weight = torch.randn(gemm.stored, generator=torch.Generator().manual_seed(4)).to(dtype)
    weight[weight == 0] = 1
    pattern = PATTERNS.parse(word)
    mask = pattern.mask(gemm.view(weight).abs(), sparsity, gemm)
    found = pack(gemm.store(gemm.view(weight) * mask), gemm)
    share = Share(
        0.5, gemm, lambda: torch.zeros(0), format=pattern.format, rows=pattern.removes,
        itemsize=dtype.itemsize,
    )  # fmt: skip
    achieved = 1 - int(mask.sum()) / mask.numel()
    packed = sum(part.nbytes for part in found[1].values()) if found else weight.nbytes
    assert packed_bytes(share, achieved) == pytest.approx(packed, rel=0.002)


def test_the_target_reads_back_from_a_plan_file() -> None:
    plan = Plan.from_json({"allocation": {"kind": "bytes", "target": 0.3, "floor": 0.1}})
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def both(target: float, kind: str = "bytes", word: str = "nm:2:4") -> Plan:
    """2:4 in the second stage, and another pattern in the third if it is not 2:4 too."""
    free = {} if word == "nm:2:4" else {"sparsity": 0.5}
    rules = [
        {"layers": "layer2.?.conv?", "pattern": "nm:2:4"},
        {"layers": "layer3.?.conv?", "pattern": word} | free,
    ]
    return Plan.from_json({"rules": rules, "allocation": {"kind": kind, "target": target}})


def test_layers_of_fixed_sparsity_count_towards_the_target(tmp_path: Path) -> None:
    run = Run(open_model("sample:digits-resnet"), both(0.4, word="element"))
    list(run.events())
    export(run.outcome.model, run.outcome.masks, "compressed", tmp_path / "m.safetensors")
    weights = [f"{path}.weight" for path in run.masks.layers]
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        parts = [n for n in file.keys() if n.rsplit(".", 1)[0] in weights]  # noqa: SIM118
        size = sum(file.get_tensor(name).nbytes for name in parts)
    dense = sum(run.model.state[name].nbytes for name in weights)
    assert size == pytest.approx(0.4 * dense, rel=0.02)
    assert run.masks.density("layer2.0.conv1") == 0.5


def test_operations_of_fixed_sparsity_count_towards_the_target() -> None:
    run = Run(open_model("sample:digits-resnet"), both(0.4, "flops", "element"))
    list(run.events())
    flops = {path: run.model.info.layer(path).flops or 0 for path in run.masks.layers}
    left = sum(run.masks.density(path) * count for path, count in flops.items())
    assert left == pytest.approx(0.4 * sum(flops.values()), rel=0.01)


@pytest.mark.parametrize(("kind", "smallest"), [("bytes", "53"), ("flops", "50")])
def test_a_target_below_what_is_fixed_is_refused(kind: str, smallest: str) -> None:
    run = Run(open_model("sample:digits-resnet"), both(0.2, kind))
    with pytest.raises(BadInput, match=rf"20\.0% .* cannot be reached .*smallest is {smallest}\."):
        list(run.events())
    # A file may take less than the target; then there is only nothing left to decide.
    run = Run(open_model("sample:digits-resnet"), both(0.7, kind))
    list(run.events())
    assert run.outcome.report.sparsity == 0.5
    assert any(f"{kind} has nothing to decide" in note for note in run.outcome.report.notes)


@pytest.mark.parametrize("kind", ["bytes", "flops"])
def test_a_target_refuses_layers_that_go_as_a_whole(kind: str) -> None:
    rule = {"layers": "*", "pattern": "layer", "sparsity": 0.72, "skip_misfits": True}
    plan = Plan.from_json({"rules": [rule], "allocation": {"kind": kind, "target": 1.0}})
    with pytest.raises(BadInput, match="uniform would fit"):
        Run(open_model("sample:digits-resnet"), Plan.from_json({
            **plan.to_json(), "rules": [{**rule, "layers": "layer?.?.conv2"}],
        }))  # fmt: skip
