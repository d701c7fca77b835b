"""2:4 products: by the vendor's library on a GPU that has one, by the N:M product elsewhere."""

from __future__ import annotations

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.formats import NM, Unfit
from secateur.kernels.products.two_four import (
    TwoFour,
    Unsupported,
    pack,
    refusal,
    two_four_conv2d,
    two_four_linear,
)
from secateur.kernels.selection.select import keep_n_of_m

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pruned(out: int, ins: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(seeded(out, ins), (0, -ins % 4))
    return (padded * keep_n_of_m(padded.abs(), 2, 4))[:, :ins].contiguous()


def close(result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert result.dtype == dtype
    assert result.shape == expected.shape
    error = (result.cpu().double() - expected.cpu()).norm()
    assert error <= TOLERANCE[dtype] * expected.norm(), float(error / expected.norm())


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(
    ("out", "ins", "leading"), [(32, 64, (8,)), (17, 37, (3,)), (5, 10, (2, 3))]
)
def test_linear(backend, dtype, out, ins, leading):
    matrix, x = pruned(out, ins).to(dtype), seeded(*leading, ins, seed=1).to(dtype)
    bias = seeded(out, seed=2).to(dtype)
    device = backend.device
    packed = pack(matrix.to(device))
    assert isinstance(packed, TwoFour if refusal(dtype, device) is None else NM)
    with backend.active():
        result = two_four_linear(packed, x.to(device), bias.to(device))
        without = two_four_linear(packed, x.to(device))
    close(result, reference.linear(matrix, x, bias), dtype)
    close(without, reference.linear(matrix, x), dtype)


CONVOLUTIONS = [
    {"kernel": (3, 3), "padding": (1, 1)},
    {"kernel": (3, 3), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)},
    {"kernel": (1, 1), "stride": (2, 2)},
]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("order", ["flattened", "channel"])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolution(backend, dtype, order, options):
    kernel, device = options["kernel"], backend.device
    matrix = pruned(6, 5 * kernel[0] * kernel[1]).to(dtype)
    if order == "flattened":
        weight = matrix.view(6, 5, *kernel)
    else:
        weight = matrix.view(6, *kernel, 5).movedim(-1, 1)
    bias = seeded(6, seed=2).to(dtype)
    others = {name: value for name, value in options.items() if name != "kernel"}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = seeded(2, 5, 7, 6, seed=1).to(dtype).to(memory_format=memory_format)
        expected = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), **others)
        with backend.active():
            result = two_four_conv2d(
                pack(matrix.to(device)), x.to(device), bias.to(device), order=order, **options
            )
        close(result, expected, dtype)
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_part_of_a_larger_input():
    matrix = pruned(6, 18)
    x = seeded(2, 4, 9, 9, seed=1)[:, 1:3, 1:8, ::2]
    result = two_four_conv2d(pack(matrix), x, kernel=(3, 3))
    close(result, torch.nn.functional.conv2d(x, matrix.view(6, 2, 3, 3)).double(), torch.float32)


def test_what_the_library_does_not_take_is_refused_in_one_sentence():
    for_cpu = refusal(torch.float16, torch.device("cpu"))
    assert for_cpu is not None
    assert for_cpu.count(".") == 1
    with pytest.raises(Unsupported, match="on cpu"):
        TwoFour.from_dense(pruned(8, 8).half())


def test_another_pattern_is_refused():
    with pytest.raises(Unfit, match="2:4"):
        pack(torch.ones(4, 8))
