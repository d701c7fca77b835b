"""Multi-head attention with fewer heads than ``torch.nn.MultiheadAttention`` can express."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FewerHeads(nn.Module):
    """An `nn.MultiheadAttention` of which some heads are gone; same call, outputs and names.

    Its inner width, heads x head_dim, is smaller than the width of what it reads and gives. Adapted
    modules compute the same as the original with those heads' weights at zero, in eval mode; the
    attention weights that it returns are those of the heads that are left, or their mean.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        """Take over the parameters of `original`, which may be cut afterwards.

        Raises ValueError for one with biases on keys and values, or with a row of zeros added.
        """
        super().__init__()
        if original.bias_k is not None or original.add_zero_attn:
            raise ValueError("its keys have entries of their own")
        self.embed_dim = original.embed_dim
        self.num_heads = original.num_heads
        self.head_dim = original.head_dim
        self.dropout = original.dropout
        self.batch_first = original.batch_first
        # What `nn.TransformerEncoderLayer` asks before it computes past its own modules.
        self._qkv_same_embed_dim = False
        for name in (
            "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias",
        ):  # fmt: skip
            self.register_parameter(name, getattr(original, name))
        self.out_proj = original.out_proj
        self.train(original.training)

    in_proj_weight: Tensor | None
    in_proj_bias: Tensor | None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See `nn.MultiheadAttention`: [n, t, width], or [t, n, width] without `batch_first`."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(x) for x in self._projected(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            shares = (scores if mask is None else scores + mask).softmax(-1)
            mixed = functional.dropout(shares, self.dropout, self.training) @ v
            weights = shares.mean(1) if average_attn_weights else shares
        else:
            dropout = self.dropout if self.training else 0.0
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        given = (query, key, value)
        return [functional.linear(*all_) for all_ in zip(given, weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor
    ) -> Tensor | None:
        """Both masks as one that is added to the scores [n, heads, t, s]; True hides a key."""
        total = None
        if mask is not None:
            total = _added(mask, q.dtype)
            if total.dim() == 3:
                total = total.view(q.shape[0], -1, *total.shape[1:])
        if padding is not None:
            hidden = _added(padding, q.dtype)[:, None, None, :]
            total = hidden if total is None else total + hidden
        return total


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
