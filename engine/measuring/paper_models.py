"""The networks that S1 measures, with random weights: how fast they are does not depend on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.calls import recorded
from ...kernels.dispatch.race import Form
from ..errors import BadInput, nearest
from ..info import LayerInfo
from ..models.layers import layer_rows
from ..patterns import PATTERNS
from .forms import replaced, with_mask

KEPT = (0.75, 0.5, 0.25)
"""The shares of the weights that S1's tables have columns for."""

_TOKENS = 128


@dataclass(frozen=True)
class Data:
    """A data set by the size of its samples; S1 has figures for it at the shares `kept`."""

    name: str
    shape: tuple[int, ...]
    kept: tuple[float, ...] = KEPT

    @property
    def words(self) -> str:
        """The size of a sample in words."""
        return "×".join(map(str, self.shape)) if len(self.shape) > 1 else f"{self.shape[0]} tokens"

    def example(self, batch: int, device: torch.device) -> dict[str, Tensor] | tuple[Tensor]:
        """Random samples, the same every time: images as arguments, tokens by name."""
        generator = torch.Generator().manual_seed(0)
        if len(self.shape) == 1:
            tokens = torch.randint(1000, (batch, *self.shape), generator=generator)
            return {"input_ids": tokens.to(device)}
        return (torch.randn(batch, *self.shape, generator=generator).to(device),)


@dataclass(frozen=True)
class Network:
    """One of S1's networks: what the person calls it, its title, how it is built, and on what."""

    name: str
    title: str
    build: Callable[[], nn.Module]
    data: tuple[Data, ...]


def _torchvision(name: str) -> nn.Module:
    from ..models.torchvision import build

    return build(name)


def _resnet() -> nn.Module:
    """With the first layer that is usual for small images: S1's times tell of this one.

    Off-the-shelf products take as long as there are operations. S1's ResNet-18 takes 1.7 times as
    long as VGG-16 on CIFAR-10, as the operations of this network do; with ImageNet's first layers
    it would have a ninth of them.
    """
    net: Any = _torchvision("resnet18")
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def _bert() -> nn.Module:
    from ..models.huggingface import build

    # The configuration's defaults are those of bert-base-uncased.
    return build({"model_type": "bert", "architectures": ["BertForSequenceClassification"]})


_CIFAR = Data("CIFAR-10", (3, 32, 32))
_TINY = Data("Tiny-ImageNet", (3, 64, 64))
NETWORKS = {
    network.name: network
    for network in (
        Network("resnet18", "ResNet-18", _resnet, (_CIFAR, _TINY)),
        Network(
            "vgg16",
            "VGG-16",
            partial(_torchvision, "vgg16"),
            (_CIFAR, _TINY, Data("ImageNet", (3, 224, 224), (0.5,))),
        ),
        # It takes images of one size; S1's times for both of its data sets are the same.
        Network(
            "vit_b_16",
            "ViT-B/16",
            partial(_torchvision, "vit_b_16"),
            (Data("CIFAR-10", (3, 224, 224)),),
        ),
        Network("bert-base", "BERT-base", _bert, (Data("QQP", (_TOKENS,)),)),
    )
}


def networks(names: tuple[str, ...] | None) -> list[Network]:
    """Those called `names`, None for all; raises BadInput for an unknown one."""
    for name in names or ():
        if name not in NETWORKS:
            raise BadInput(f"the paper has no model '{name}'{nearest(name, NETWORKS)}")
    return [NETWORKS[name] for name in names or NETWORKS]


class Subject:
    """A network on its device, and those of its layers that can be replaced by other forms."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network, self.device = network, device
        self.module = network.build().eval().requires_grad_(False).to(device)
        rows = {row.path: row for row in layer_rows(self.module) if row.prunable}
        args, kwargs = self.call(network.data[0], 1)
        called = recorded(self.module, args, kwargs, rows)
        self.rows: dict[str, LayerInfo] = {path: rows[path] for path in called}
        self.left_out = len(rows) - len(called)

    def call(self, data: Data, batch: int) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What the network is called with."""
        example = data.example(batch, self.device)
        return ((), example) if isinstance(example, dict) else (example, {})

    def masks(self, word: str, kept: float) -> dict[str, Tensor]:
        """Masks bool [out, in] by layer, that keep the largest weights, the same share in each.

        Layers that the pattern does not fit are missing.
        """
        pattern = PATTERNS.parse(word)
        found = {}
        for path, row in self.rows.items():
            if pattern.misfit(row) is None:
                assert row.gemm is not None
                scores = row.gemm.view(self._layer(path).weight).abs()
                found[path] = pattern.mask(scores, 1 - kept, row.gemm)
        return found

    def kept(self, masks: Mapping[str, Tensor]) -> float:
        """The share of the weights that masks leave in the layers that can be replaced."""
        total = sum(self._layer(path).weight.numel() for path in self.rows)
        gone = sum(int((~mask).sum()) for mask in masks.values())
        return 1 - gone / max(1, total)

    def with_layers(
        self, masks: Mapping[str, Tensor], make: Callable[[nn.Module, Tensor], nn.Module]
    ) -> nn.Module:
        """The network with what `make` makes of each layer and its mask."""
        made = {path: make(self._layer(path), mask) for path, mask in masks.items()}
        return replaced(self.module, made)

    def pruned(self, masks: Mapping[str, Tensor]) -> nn.Module:
        """The network, dense, with zeros where masks say so."""
        rows = self.rows

        def zeroed(path: str, mask: Tensor) -> nn.Module:
            gemm = rows[path].gemm
            assert gemm is not None
            return with_mask(self._layer(path), gemm.store(mask))

        return replaced(self.module, {path: zeroed(path, mask) for path, mask in masks.items()})

    def form(self, path: str, module: nn.Module, data: Data, batch: int) -> Form:
        """A whole network to be timed."""
        args, kwargs = self.call(data, batch)
        return Form(path, module, args, kwargs)

    def _layer(self, path: str) -> Any:
        return self.module.get_submodule(path)
