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
            if name.rsplit(".", 1)[0] in weights:
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
    _, parts = pack(gemm.store(gemm.view(weight) * mask), gemm)
    share = Share(
        0.5, gemm, lambda: torch.zeros(0), format=pattern.format, rows=pattern.removes,
        itemsize=dtype.itemsize,
    )  # fmt: skip
    achieved = 1 - int(mask.sum()) / mask.numel()
    packed = sum(part.nbytes for part in parts.values())
    assert packed_bytes(share, achieved) == pytest.approx(packed, rel=0.002)


def test_the_target_reads_back_from_a_plan_file() -> None:
    plan = Plan.from_json({"allocation": {"kind": "bytes", "target": 0.3, "floor": 0.1}})
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
