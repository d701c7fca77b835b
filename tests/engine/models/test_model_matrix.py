"""A quick part of the model matrix: small networks of torchvision and all small transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.engine.export.base import Source
from secateur.engine.export.compressed_file import CompressedFile
from secateur.engine.gemm_check import check
from secateur.engine.models import open_model
from secateur.engine.models.exported import load
from secateur.tests.bench.examine import Row, defaults, examine, fitting, one_shot, plan_of
from secateur.tests.bench.small_transformers import SMALL, save

NETWORKS = (
    "densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
)  # fmt: skip
# Whose channels are cut at fixed places inside: only reasons are given.
NOT_SMALLER = ("mamba", "mamba2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    row = examine(name, f"torchvision:{name}")
    whole(row)
    assert row.smaller is not None
    assert row.smaller < 1


@pytest.mark.parametrize("name", SMALL)
def test_transformers(name: str, folder: Path) -> None:
    row = examine(name, str(save(name, folder)), thorough=True)
    whole(row)
    assert name in NOT_SMALLER or min(row.smaller or 1, row.headless or 1) < 1


def whole(row: Row) -> None:
    """Nothing failed, nothing was left out, and what did not go has a reason."""
    assert row.failures == []
    assert row.found == row.expected > 0
    assert {*row.patterns, *row.unfit} == set(defaults())
    assert row.forward == "finite"
    assert row.flops
    assert not any("FLOPs" in note for note in row.notes)
    assert row.difference is not None
    assert row.smaller is not None
    assert row.smaller < 1 or row.reason


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_stacked_experts_are_one_matrix(name: str, folder: Path, tmp_path: Path) -> None:
    model = open_model(str(save(name, folder)))
    stacks = [layer for layer in model.info.prunable if layer.gemm and layer.gemm.stacked]
    assert len(stacks) == 4
    assert all(layer.flops for layer in stacks)
    up = next(layer for layer in stacks if "gate_up" in layer.path)
    stored, gemm = model.weight(up.path), up.gemm
    assert gemm is not None
    assert gemm.transposed == (name == "gpt_oss")
    assert gemm.shape == (4 * 128, 32)
    second = stored[1].T if gemm.transposed else stored[1]
    assert torch.equal(model.matrix(up.path)[128:256], second)
    result = check(model)
    assert not result["skipped"]
    assert result["largest"] < 1e-5
    kinds = [kind for kind, pattern in defaults().items() if fitting(pattern, up)]
    for kind in kinds:
        masks = one_shot(model, plan_of({layer.path: kind for layer in stacks}))
        path = tmp_path / f"{kind}.safetensors"
        CompressedFile().write(Source(model, masks), path)
        found, expected = load(path).state_dict(), masks.committed(model)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
