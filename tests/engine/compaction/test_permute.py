"""N:M in another order of channels: found once for all readers, kept, and folded in at export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.engine.compaction import committed
from secateur.engine.errors import BadInput
from secateur.engine.export import FORMATS, export
from secateur.engine.gemm import Gemm
from secateur.engine.masks import Masks
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.engine.patterns.nm import NM, InOrder, lanes
from secateur.engine.permute import folded
from secateur.engine.plan import Plan
from secateur.engine.runs.outcome import Outcome
from secateur.engine.runs.runner import Run
from secateur.engine.verify import verify
from secateur.kernels.selection.permutation import kept
from secateur.kernels.selection.select import keep_n_of_m

PERMUTED = {"kind": "nm:2:4", "order": "channel", "permute": True}


class Net(nn.Module):
    """Two readers of one tensor, a norm between, channels that are flattened, and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.left = nn.Conv2d(16, 8, 3, padding=1)
        self.right = nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8 * 16, 24)
        self.last = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.left(x) + self.right(x))
        return self.last(torch.relu(self.fc(x.flatten(1))))


def net() -> Model:
    torch.manual_seed(0)
    module = Net().eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    images = torch.randn(4, 3, 4, 4)

    def inputs(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (images[:batch],), {}

    return from_module(module, address="net", name="net", inputs=inputs)


def pruned(model: Model, *rules: dict[str, Any], **rest: Any) -> Outcome:
    run = Run(model, Plan.from_json({"rules": list(rules), **rest}))
    for _ in run.events():
        pass
    assert run.outcome is not None
    return run.outcome


def rule(layers: str, pattern: Any = PERMUTED, **rest: Any) -> dict[str, Any]:
    return {"layers": layers, "pattern": pattern, **rest}


def test_a_mask_in_an_order_lies_in_the_layers_own() -> None:
    gemm = Gemm((6, 12, 3, 3), (3, 3))
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    mask = InOrder(NM(order="channel"), order).mask(scores, 0.5, gemm)
    inside = lanes(scores, gemm)[:, order]
    assert torch.equal(lanes(mask, gemm)[:, order], keep_n_of_m(inside, 2, 4))


def test_the_pattern_alone_searches_its_own_order() -> None:
    gemm = Gemm((10, 16, 3, 3), (3, 3))
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(3))
    plain = NM(order="channel").mask(scores, 0.5, gemm)
    permuted = NM(order="channel", permute=True).mask(scores, 0.5, gemm)
    assert int(permuted.sum()) == int(plain.sum())
    assert (scores * permuted).sum() > (scores * plain).sum()


def test_readers_of_the_same_channels_share_one_order() -> None:
    outcome = pruned(net(), rule("left"), rule("right"), rule("last"))
    assert set(outcome.masks.orders) == {"left", "last"}
    order = outcome.masks.orders["left"]
    for path in ("left", "right"):
        layer = outcome.model.info.layer(path)
        assert layer.gemm is not None
        inside = lanes(outcome.masks.layers[path], layer.gemm)[:, order]
        assert (inside.view(len(inside), -1, 4).sum(2) == 2).all()
    both = torch.cat(
        [
            lanes(outcome.model.matrix(path).square(), outcome.model.info.layer(path).gemm)  # type: ignore[arg-type]
            for path in ("left", "right")
        ]
    )
    assert kept(both, 2, 4, order) > kept(both, 2, 4)
    notes = [note for note in outcome.report.notes if "order of its input channels" in note]
    assert [note.split(":")[0] for note in notes] == ["left", "right", "last"]


def test_masks_keep_their_orders_on_disk(tmp_path: Path) -> None:
    masks = pruned(net(), rule("left"), rule("right")).masks
    masks.save(tmp_path / "masks.safetensors")
    again = Masks.load(tmp_path / "masks.safetensors")
    assert list(again.orders) == ["left"]
    assert torch.equal(again.orders["left"], masks.orders["left"])
    assert torch.equal(again.layers["right"], masks.layers["right"])


def test_a_folded_model_computes_the_same_in_plain_runs() -> None:
    outcome = pruned(net(), rule("left"), rule("right"), rule("last"), rule("first", "filter",
                     sparsity=0.25))  # fmt: skip
    model, masks, notes = folded(outcome.model, outcome.masks)
    assert not masks.orders
    assert notes
    for path in ("left", "right", "last"):
        gemm = model.info.layer(path).gemm
        assert gemm is not None
        inside = lanes(masks.layers[path], gemm)
        assert (inside.view(len(inside), -1, 4).sum(2) == 2).all()
        assert not torch.equal(masks.layers[path], outcome.masks.layers[path])
    args, _ = outcome.model.inputs(4)  # type: ignore[misc]
    with torch.no_grad():
        expected = committed(outcome.model, outcome.masks)(*args)
        torch.testing.assert_close(committed(model, masks)(*args), expected)
    # Folding leaves the model that it was given as it was.
    assert torch.equal(outcome.model.matrix("left"), net().matrix("left"))


# N:M does not nest, so that a run never has both an order and levels.
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "nested"])
def test_exports_hold_plain_runs_and_give_the_masked_outputs(format: str, tmp_path: Path) -> None:
    model = open_model("sample:digits-vit")
    outcome = pruned(model, rule("*.linear2"), rule("blocks.3.linear1", "element", sparsity=0.3))
    path = tmp_path / "model"
    exported = export(outcome.model, outcome.masks, format, path)
    assert exported.equal
    assert any("another order" in note for note in exported.notes)
    if format == "compressed":
        formats = {row.name: row.format for row in exported.tensors}
        assert formats["blocks.0.linear2.weight"] == "nm:2:4"
    assert verify(path, outcome.model, outcome.masks).equal


def test_without_orders_nothing_is_folded() -> None:
    model, masks = net(), Masks()
    assert folded(model, masks)[:2] == (model, masks)


@pytest.mark.parametrize(
    ("layers", "pattern", "words"),
    [
        (
            "first",
            {**PERMUTED, "kind": "nm:1:2"},
            "first cannot have its input channels in another",
        ),
        ("fc", PERMUTED, "fc reads 128 inputs that are 8 channels at several positions"),
        ("left", {**PERMUTED, "order": "flattened"}, "left is a convolution, where permute needs"),
    ],
)
def test_what_cannot_be_reordered_is_refused(layers: str, pattern: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        pruned(net(), rule(layers, pattern))


@pytest.mark.parametrize(
    "other", ["nm:2:4", "vector:4", "block:2x2", {**PERMUTED, "kind": "nm:1:4"}]
)
def test_readers_that_would_disagree_are_refused(other: Any) -> None:
    sparsity = 0.5 if isinstance(other, str) else 0.75
    with pytest.raises(BadInput, match="reads the same channels as left"):
        pruned(net(), rule("left"), rule("right", other, sparsity=sparsity))


def test_bare_weights_have_no_order() -> None:
    model = net()
    bare = Model("bare", model.info, model.state)
    with pytest.raises(BadInput, match="left cannot have its input channels in another order"):
        pruned(bare, rule("left"))


def test_weights_are_updated_for_the_mask_in_its_order() -> None:
    model = open_model("sample:digits-vit")
    path = "blocks.0.linear2"
    outcome = pruned(model, rule(path, criterion={"kind": "obs", "samples": 32}))
    mask, order = outcome.masks.layers[path], outcome.masks.orders[path]
    assert (mask[:, order].view(len(mask), -1, 4).sum(2) == 2).all()
    assert outcome.trained
    assert not outcome.model.matrix(path)[~mask].any()
    assert not torch.equal(outcome.model.matrix(path)[mask], model.matrix(path)[mask])


def test_training_goes_on_in_the_order_that_was_found() -> None:
    model = open_model("sample:digits-vit")
    outcome = pruned(
        model,
        rule("blocks.0.linear2"),
        schedule={"kind": "agp", "end": 12, "every": 4},
        training={"epochs": 1, "batch": 256},
    )
    order = outcome.masks.orders["blocks.0.linear2"]
    inside = outcome.masks.layers["blocks.0.linear2"][:, order]
    assert (inside.view(len(inside), -1, 4).sum(2) == 2).all()
    assert folded(outcome.model, outcome.masks)[2]
