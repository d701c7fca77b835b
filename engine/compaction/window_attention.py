"""Shifted-window attention (Swin) with fewer heads than torchvision's function can express."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = -100.0  # what torchvision adds to hide a place, so that trained models see the same


def is_window_attention(module: nn.Module) -> bool:
    """Whether the module is torchvision's attention of Swin or Swin V2."""
    swin = sys.modules.get("torchvision.models.swin_transformer")
    return swin is not None and isinstance(module, swin.ShiftedWindowAttention)


class FewerWindowHeads(nn.Module):
    """A ``torchvision`` `ShiftedWindowAttention` of which some heads are gone; same call and names.

    torchvision takes the width of a head to be the input's over the number of heads; here the heads
    keep their width, and their number alone falls. Computes the same as the original with those
    heads' weights at zero (Z. Liu and others, Swin Transformer, 2021, section 3.2; V2 with cosine
    attention and continuous biases, 2022, section 3.3).
    """

    relative_position_index: Tensor
    relative_coords_table: Tensor

    def __init__(self, original: Any) -> None:
        """Take over the parameters of `original`, which may be cut afterwards."""
        super().__init__()
        self.window_size = tuple(original.window_size)
        self.shift_size = tuple(original.shift_size)
        self.num_heads = original.num_heads
        self.head_dim = original.proj.in_features // original.num_heads
        self.attention_dropout = original.attention_dropout
        self.dropout = original.dropout
        self.qkv, self.proj = original.qkv, original.proj
        self.register_buffer("relative_position_index", original.relative_position_index)
        self.cosine = hasattr(original, "logit_scale")
        if self.cosine:
            self.logit_scale, self.cpb_mlp = original.logit_scale, original.cpb_mlp
            self.register_buffer("relative_coords_table", original.relative_coords_table)
            if self.qkv.bias is not None:
                # V2 has no bias on keys, whatever stands there.
                with torch.no_grad():
                    self.qkv.bias.chunk(3)[1].zero_()
        else:
            self.relative_position_bias_table = original.relative_position_bias_table
        self.train(original.training)

    def forward(self, x: Tensor) -> Tensor:
        """[n, height, width, channels] to the same shape."""
        _, height, width, _ = x.shape
        tall, wide = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % wide, 0, -height % tall))
        rows, columns = x.shape[1] // tall, x.shape[2] // wide
        # One window that sees everything is not moved.
        shift = [s if n > 1 else 0 for s, n in zip(self.shift_size, (rows, columns), strict=True)]
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        windows = x.unflatten(2, (columns, wide)).unflatten(1, (rows, tall)).transpose(2, 3)
        # [n, rows, columns, places, channels]
        mixed = self._attend(windows.flatten(3, 4), shift)
        x = functional.dropout(self.proj(mixed), self.dropout, self.training)
        x = x.unflatten(3, (tall, wide)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(shift):
            x = x.roll((shift[0], shift[1]), (1, 2))
        return x[:, :height, :width]

    def _attend(self, windows: Tensor, shift: list[int]) -> Tensor:
        """What each place takes from the others in its window, all heads in a row."""
        qkv = self.qkv(windows).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = (part.transpose(3, 4) for part in qkv.unbind(4))
        if self.cosine:
            q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
            q = q * self.logit_scale.clamp(max=math.log(100)).exp()
        else:
            q = q * self.head_dim**-0.5
        scores = q @ k.transpose(-2, -1) + self._bias(windows.shape[3])
        if any(shift):
            scores = scores + self._apart(windows, shift).unsqueeze(2)
        shares = functional.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        return (shares @ v).transpose(3, 4).flatten(4)

    def _bias(self, places: int) -> Tensor:
        """[heads, places, places]: what is added for where two places lie to each other."""
        if self.cosine:
            table = self.cpb_mlp(self.relative_coords_table).flatten(0, -2)
        else:
            table = self.relative_position_bias_table
        bias = table[self.relative_position_index].view(places, places, -1).permute(2, 0, 1)
        return 16 * bias.sigmoid() if self.cosine else bias

    def _apart(self, windows: Tensor, shift: list[int]) -> Tensor:
        """[rows, columns, places, places]: hides places that only the shift put side by side."""
        rows, columns = windows.shape[1:3]
        sides = []
        for count, size, moved in zip((rows, columns), self.window_size, shift, strict=True):
            at = torch.arange(count * size, device=windows.device)
            # The last window holds places that were at the other end before.
            sides.append((at >= (count - 1) * size).int() + (at >= count * size - moved))
        kinds = (3 * sides[0][:, None] + sides[1]).unflatten(1, (columns, -1))
        kinds = kinds.unflatten(0, (rows, -1)).transpose(1, 2).flatten(2)
        apart = kinds.unsqueeze(-1) != kinds.unsqueeze(-2)
        return apart.to(windows.dtype) * _HIDDEN
