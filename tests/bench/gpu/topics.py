"""What is measured: every row of the table of targets, and what must hold before it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from secateur.tests.bench.gpu import (
    choices,
    correctness,
    grouped,
    layers,
    machine,
    moving,
    picking,
    scattered,
    selection,
    small_batch,
)
from secateur.tests.bench.gpu.setting import Case, Setting

# Of a convolution with so many columns gone the product must not lose.
_BREAK_EVEN = 0.6


@dataclass(frozen=True)
class Topic:
    """One table. `cases` makes its rows; `wish` is how many seconds they would like to have.

    `target` is the ratio to reach against the `peer`, by the geometric mean of all rows or by the
    worst; None is no promise. `share` of the machine's limit must be reached as well.
    """

    key: str
    title: str
    peer: str
    cases: Callable[[Setting], list[Case]]
    wish: float
    target: float | None = None
    by: Literal["geometric mean", "worst"] = "geometric mean"
    share: float | None = None


def _convolutions(rate: str, sparsity: float, target: float, wish: float) -> Topic:
    key = f"conv {rate} {sparsity:.0%}"
    return Topic(
        key,
        f"Group-wise convolution, ResNet and VGG shapes, {sparsity:.0%}, {rate}",
        "im2col + cuBLAS fp32" if rate == "fp32" else f"cuDNN benchmark mode, {rate}, best layout",
        partial(grouped.convolutions, topic=key, rate=rate, sparsity=sparsity),
        wish,
        target,
    )


def _bitmap(sparsity: float, target: float) -> Topic:
    key = f"bitmap {sparsity:.0%}"
    cases = partial(small_batch.bitmaps, topic=key, sparsity=sparsity)
    return Topic(
        key, f"Bitmap product, batch to 16, {sparsity:.0%}", "cuBLAS fp16", cases, 15, target
    )


def topics() -> list[Topic]:
    """All tables in order."""
    dense = "double precision"
    return [
        Topic("machine", "Machine, limits, compilation", "", machine.cases, 60),
        Topic("products", "Products", dense, correctness.cases, 50),
        Topic("layers", "Layers", dense, layers.cases, 8),
        Topic("choices", "Choosing and packing", "sorting in torch", choices.cases, 15),
        _convolutions("bf16", 0.75, 1.5, 40),
        _convolutions("tf32", 0.75, 1.5, 40),
        _convolutions("fp32", 0.75, 3.0, 40),
        Topic(
            "linear",
            "Group-wise linear layer, 4096 class, 75%, bf16",
            "cuBLAS bf16",
            partial(grouped.linears, topic="linear", sparsity=0.75),
            25,
            2.5,
        ),
        Topic(
            "csr",
            "CSR product, 80 to 95%, fp32",
            "torch CSR (cuSPARSE)",
            partial(scattered.products, topic="csr", sparsities=(0.8, 0.9, 0.95), peer="cuSPARSE"),
            20,
            1.5,
        ),
        Topic(
            "csr dense",
            "CSR product against dense, 70%, fp32",
            "cuBLAS fp32",
            partial(scattered.products, topic="csr dense", sparsities=(0.7,), peer="cuBLAS"),
            8,
            1.0,
        ),
        _bitmap(0.5, 1.2),
        _bitmap(0.8, 2.0),
        Topic(
            "gradients",
            "SDDMM and transposed CSR product, 95%, fp32",
            "torch.sparse (cuSPARSE)",
            partial(scattered.gradients, topic="gradients", sparsity=0.95),
            6,
            2.0,
        ),
        Topic(
            "cut",
            "Global threshold and mask, 100M entries, 80%",
            "best of torch topk, kthvalue, sort",
            partial(selection.cases, topic="cut"),
            35,
            5.0,
            share=1 / 3,
        ),
        Topic(
            "dispatcher",
            "The dispatcher's pick, any pattern, any shape",
            "best of all candidates",
            partial(picking.cases, topic="dispatcher"),
            70,
            0.95,
            by="worst",
        ),
        _convolutions("bf16", _BREAK_EVEN, 1.0, 20),
        _convolutions("tf32", _BREAK_EVEN, 1.0, 20),
        Topic(
            "ell",
            "Constant fan-in (ELL), batch to 16, 90%",
            "cuBLAS fp16",
            partial(small_batch.even_rows, topic="ell", sparsity=0.9),
            10,
        ),
        Topic(
            "nm",
            "2:4 product, batch to 16",
            "cuBLAS fp16",
            partial(small_batch.runs, topic="nm", n=2, m=4),
            10,
        ),
        Topic(
            "moving",
            "Packing, pooling and choosing, 67M entries, fp16",
            "torch",
            partial(moving.cases, topic="moving"),
            12,
        ),
    ]
