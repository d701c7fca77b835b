"""The bundled networks: a residual and an attention network for 8x8 images of digits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., Deep Residual Learning, 2016, fig. 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


class DigitsResNet(nn.Module):
    """A residual network of 16, 32 and 64 channels: [n, 1, 8, 8] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class EncoderBlock(nn.Module):
    """Self-attention and two linear layers, each normed before it: [t, n, width] -> the same."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        # Tokens first: with the batch first, PyTorch replaces the whole module by one fused
        # operation at inference, whose outputs differ in the last bits and which exports badly.
        self.self_attention = nn.MultiheadAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.gelu = nn.GELU()
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.linear2(self.gelu(self.linear1(self.norm2(x))))


class DigitsViT(nn.Module):
    """A vision transformer over sixteen patches of 2x2 pixels: [n, 1, 8, 8] -> logits [n, 10].

    The class is read from the mean of the tokens.
    """

    def __init__(self, width: int = 48, layers: int = 4, heads: int = 4, hidden: int = 96) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        # A wide start: with the usual 0.02 so short a training hardly learns where a patch is.
        self.position = nn.Parameter(torch.randn(16, 1, width) * 0.5)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).permute(2, 0, 1) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(0))


SAMPLES: dict[str, Callable[[], nn.Module]] = {
    "digits-resnet": DigitsResNet,
    "digits-vit": DigitsViT,
}
"""The networks by the name in ``sample:NAME``, each with random weights when called."""
