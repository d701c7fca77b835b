"""Convolutions and linear layers of which whole columns are gone, against cuDNN and cuBLAS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.kernels.products.grouped.columns import pack_columns
from secateur.kernels.products.grouped.conv import grouped_conv
from secateur.kernels.products.grouped.linear import grouped_linear
from secateur.tests.bench.gpu.contest import Calls, Contest, contest
from secateur.tests.bench.gpu.setting import Case, Setting, trimmed

BATCH = 32
# Against the peer's result, which is rounded too; the correctness tables are stricter.
TOLERANCES = {"fp32": 1e-4, "tf32": 4e-3, "bf16": 2e-2, "fp16": 4e-3}
DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
LINEARS = ((4096, 4096), (11008, 4096), (4096, 11008), (14336, 4096), (4096, 14336))
LINEAR_BATCHES = (1, 8, 64, 512, 4096)
_FROM_MEMORY = 16  # samples up to which a layer's time is that of reading its weights


@dataclass(frozen=True)
class Conv:
    """A convolution's shape; square, padded to keep `size` where the stride is 1."""

    model: str
    ins: int
    out: int
    kernel: int
    stride: int
    size: int

    def __str__(self) -> str:
        kernel = f"{self.kernel}x{self.kernel}/{self.stride}"
        return f"{self.model} {self.ins}-{self.out}, {kernel} at {self.size}"

    @property
    def walk(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.kernel // 2}

    @property
    def walk2d(self) -> dict[str, tuple[int, int]]:
        walk = {name: (number, number) for name, number in self.walk.items()}
        return walk | {"kernel": (self.kernel, self.kernel), "dilation": (1, 1)}


CONVOLUTIONS = (
    Conv("ResNet", 64, 64, 3, 1, 56),
    Conv("ResNet", 64, 128, 3, 2, 56),
    Conv("ResNet", 128, 128, 3, 1, 28),
    Conv("ResNet", 128, 256, 3, 2, 28),
    Conv("ResNet", 256, 256, 3, 1, 14),
    Conv("ResNet", 256, 512, 3, 2, 14),
    Conv("ResNet", 512, 512, 3, 1, 7),
    Conv("ResNet", 256, 64, 1, 1, 56),
    Conv("ResNet", 128, 512, 1, 1, 28),
    Conv("ResNet", 1024, 256, 1, 1, 14),
    Conv("ResNet", 512, 2048, 1, 1, 7),
    Conv("VGG", 64, 64, 3, 1, 224),
    Conv("VGG", 64, 128, 3, 1, 112),
    Conv("VGG", 128, 128, 3, 1, 112),
    Conv("VGG", 128, 256, 3, 1, 56),
    Conv("VGG", 256, 256, 3, 1, 56),
    Conv("VGG", 256, 512, 3, 1, 28),
    Conv("VGG", 512, 512, 3, 1, 28),
    Conv("VGG", 512, 512, 3, 1, 14),
)
_TINY = (Conv("tiny", 8, 12, 3, 1, 9), Conv("tiny", 8, 12, 1, 1, 9))


def convolutions(setting: Setting, topic: str, rate: str, sparsity: float) -> list[Case]:
    """Against cuDNN in the same precision; fp32 against im2col and cuBLAS, as S1 has it."""
    shapes = _TINY if setting.quick else CONVOLUTIONS
    precision = "tf32" if rate == "tf32" else "ieee"
    return [
        contest(topic, str(shape), partial(_convolution, shape, rate, sparsity), precision)
        for shape in shapes
    ]


def _convolution(shape: Conv, rate: str, sparsity: float, setting: Setting) -> Contest:
    dtype, batch = DTYPES[rate], 2 if setting.quick else BATCH
    fan = shape.ins * shape.kernel**2
    mask = setting.columns(fan, 1 - sparsity)
    matrix = setting.randn(shape.out, fan, fan=fan) * mask
    weight = matrix.to(dtype).view(shape.out, shape.ins, shape.kernel, shape.kernel)
    x = setting.randn(batch, shape.ins, shape.size, shape.size, dtype=dtype)
    last = [each.contiguous(memory_format=torch.channels_last) for each in (x, weight)]
    values, kept = pack_columns(weight.flatten(1), mask)
    run = partial(
        grouped_conv, values=values, kept=kept, bias=None, tf32=rate == "tf32", **shape.walk2d
    )
    dense = partial(F.conv2d, x, weight, **shape.walk)
    cudnn: dict[str, Calls] = {
        "cuDNN channels_last": [partial(F.conv2d, *last, **shape.walk)],
        "cuDNN contiguous": [dense],
    }
    also: dict[str, Calls] = {"ours, from channels_last": [partial(run, last[0])]}
    if rate == "fp32":
        also |= cudnn
        peers: dict[str, Calls] = {"im2col + cuBLAS": [partial(_im2col, x, weight, shape)]}
    else:
        also["ours, tile"] = [partial(run, x, method="tile")]
        peers = cudnn
    y = dense()
    return Contest(
        ours=[partial(run, x)],
        peers=peers,
        also=also,
        wanted=dense,
        tolerance=TOLERANCES[rate],
        moved=x.nbytes + values.nbytes + kept.nbytes + y.nbytes,
        work=2.0 * len(kept) * y.numel(),
        rate=rate,
    )


def _im2col(x: Tensor, weight: Tensor, shape: Conv) -> Tensor:
    columns = F.unfold(x, shape.kernel, **shape.walk)
    size = (shape.size + 2 * (shape.kernel // 2) - shape.kernel) // shape.stride + 1
    return (weight.flatten(1) @ columns).view(len(x), len(weight), size, size)


def linears(setting: Setting, topic: str, sparsity: float) -> list[Case]:
    """In bf16 against cuBLAS."""
    shapes = trimmed(LINEARS, setting, 0) or [(48, 64)]
    return [
        contest(topic, f"{out}x{ins}, batch {batch}", partial(_linear, out, ins, batch, sparsity))
        for batch in trimmed(LINEAR_BATCHES, setting, 3)
        for out, ins in shapes
    ]


def _linear(out: int, ins: int, batch: int, sparsity: float, setting: Setting) -> Contest:
    dtype = torch.bfloat16
    few = batch <= _FROM_MEMORY
    copies = setting.copies(round(2 * out * ins * (1 - sparsity))) if few else 1
    weights, packed = [], []
    for _ in range(copies):
        mask = setting.columns(ins, 1 - sparsity)
        weights.append((setting.randn(out, ins, fan=ins) * mask).to(dtype))
        packed.append(pack_columns(weights[-1], mask))
    x = setting.randn(batch, ins, dtype=dtype)
    ways = ("tile", "mma", "gathered", *(("rows",) if batch <= 8 else ()))
    values, kept = packed[0]
    return Contest(
        ours=[partial(grouped_linear, x, *each) for each in packed],
        peers={"cuBLAS": [partial(F.linear, x, weight) for weight in weights]},
        also={
            f"ours, {way}": [partial(grouped_linear, x, *each, method=way) for each in packed]
            for way in ways
        },
        wanted=partial(F.linear, x, weights[0]),
        tolerance=TOLERANCES["bf16"],
        moved=x.nbytes + values.nbytes + kept.nbytes + 2 * batch * out,
        work=2.0 * batch * out * len(kept),
        rate="bf16",
    )
