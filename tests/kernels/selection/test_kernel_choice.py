"""The best pattern of a library for every kernel, on each backend."""

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.selection.kernel_choice import choose_cuda
from secateur.kernels.selection.kernel_patterns import choose, learn

pytestmark = pytest.mark.usefixtures("poisoned")
KERNELS = ["emulated", *(["cuda"] if torch.cuda.is_available() else [])]


def scores(count: int, taps: int, dtype: torch.dtype) -> torch.Tensor:
    """Squares, of which the second half tie often; they lie tap by tap in memory."""
    drawn = torch.randn(count, taps, generator=torch.Generator().manual_seed(taps))
    drawn[count // 2 :] = drawn[count // 2 :].round()
    return drawn.square().to(dtype).t().contiguous().t()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("taps", "entries", "size"), [(9, 4, 8), (9, 9, 3), (25, 9, 12), (64, 7, 5)]
)
def test_each_kernel_gets_its_best_pattern(backend, dtype, taps, entries, size):
    for count in (1, 300):
        kernels = scores(count, taps, dtype)
        library = learn(scores(500, taps, torch.float32), entries, size)
        with backend.active():
            mask = choose(kernels.to(backend.device), library.to(backend.device)).cpu()
        assert torch.equal(mask, library[reference.best_patterns(kernels, library)])


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_the_patterns_numbers(backend):
    kernels, library = scores(200, 9, torch.float32), learn(scores(500, 9, torch.float32), 4, 6)
    with backend.active():
        mask, best = choose_cuda(kernels.to(backend.device), library.to(backend.device))
    assert torch.equal(best.cpu().long(), reference.best_patterns(kernels, library))
    assert torch.equal(library[best.cpu().long()], mask.cpu())


def test_no_kernels(backend):
    library = torch.ones(2, 9, dtype=torch.bool, device=backend.device)
    with backend.active():
        assert choose(torch.rand(0, 9, device=backend.device), library).shape == (0, 9)
