"""Convolutions of one to three dimensions in any of the sparse forms, through their GEMM view."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ..cuda.launch import launchable
from ..products.cpu_sparse import CpuSparse, sparse_matrix_cpu
from ..products.grouped.cpu import Gather, Window, grouped_conv_cpu
from ..products.scattered_conv import scattered_conv_cpu, scattered_plan
from .form import Packed
from .forms import pack
from .layers import bias_of, is_convolution, matrix_of
from .linear import SparseLayer, state_of
from .operators import grouped_conv, run_grouped_conv

if TYPE_CHECKING:
    from ..compiled.conv import Panels
    from ..compiled.csr_conv import Plan as Scattered

# Sizes of inputs for which a layer remembers how to go about them.
_MOST_PLANS = 8


class SparseConv(SparseLayer):
    """A convolution whose weight is in a sparse form: [n, c, *size] -> [n, out, *outputs].

    The grouped form gathers the kept positions inside its product. On the CPU the others multiply
    images as they lie, where loops can be compiled. All else goes through the patches of the input,
    which are made whole: worth it for kernels of one place and for few entries.
    Padding of any mode; several groups in the grouped form only, which share the kept positions.
    """

    kept: Tensor

    def __init__(
        self,
        form: str,
        packed: Packed,
        bias: Tensor | None,
        window: Window,
        *,
        groups: int = 1,
        padding: list[int] | None = None,
        padding_mode: str = "constant",
        trainable: bool = False,
    ) -> None:
        """`padding` is what goes around the input before the window's own, as `F.pad` takes it.

        The window's own is with zeros, the same on both sides. Raises ValueError for several groups
        in another form than the grouped one.
        """
        if groups != 1 and form != "grouped":
            raise ValueError(f"a convolution of {groups} groups has only the grouped form")
        super().__init__(form, packed, bias, trainable=trainable)
        self.window, self.groups = window, groups
        self.padding, self.padding_mode = padding or [], padding_mode
        self._plans: tuple[object, dict[object, Any]] = (None, {})
        self._packed: tuple[object, Panels] | None = None

    @classmethod
    def from_dense(
        cls,
        module: nn.Module,
        form: str = "grouped",
        mask: Tensor | None = None,
        *,
        trainable: bool = False,
        **settings: Any,
    ) -> Self:
        """Take a convolution; `mask` and the settings, over its GEMM view, as those of `pack`.

        Raises ValueError for other layers, and whatever `pack` raises.
        """
        if not is_convolution(module):
            raise ValueError(f"{type(module).__name__} is no convolution")
        matrix = matrix_of(module)
        assert matrix is not None
        packed = pack(form, matrix, mask, **settings)
        return cls.like(module, form, packed, bias_of(module), trainable=trainable)

    @classmethod
    def like(
        cls,
        module: nn.Module,
        form: str,
        packed: Packed,
        bias: Tensor | None,
        *,
        trainable: bool = False,
    ) -> Self:
        """With this matrix and bias; all else as the convolution `module` has it."""
        conv: Any = module
        around = list(conv._reversed_padding_repeated_twice)
        before, after = around[-2::-2], around[::-2]
        inside = conv.padding_mode == "zeros" and before == after
        window = Window(
            conv.kernel_size,
            conv.stride,
            conv.dilation,
            tuple((pad, pad) for pad in (before if inside else [0] * len(before))),
        )
        layer = cls(
            form,
            packed,
            bias,
            window,
            groups=conv.groups,
            padding=None if inside else around,
            padding_mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode,
            trainable=trainable,
        )
        return layer.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == len(self.window.kernel) + 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self.check(x, 1, self.sizes[1] // math.prod(self.window.kernel) * self.groups)
        x = self.padded(x)
        if self.form == "grouped":
            return self._gathered(x)
        matrix = self.matrix_on_cpu(x)
        plan = None if matrix is None else self.scattered(matrix, x)
        if matrix is not None and plan is not None:
            return scattered_conv_cpu(x, matrix, self.bias, plan)
        patches, outputs = self.patches(x)
        return self.by_patches(patches).unflatten(2, outputs)

    def padded(self, x: Tensor) -> Tensor:
        """The input with what goes around it beside the window's own padding."""
        return F.pad(x, self.padding, self.padding_mode) if any(self.padding) else x

    def _gathered(self, x: Tensor) -> Tensor:
        if x.is_cpu and not self.as_operator(x) and not launchable(x):
            plan = self.plan(x)
            panels = None if plan.loops is None else self._panels()
            return grouped_conv_cpu(x, self.values, self.bias, plan, self.groups, panels)
        window = self.window
        run = grouped_conv if self.as_operator(x) else run_grouped_conv
        return run(
            x,
            self.values,
            self.bias,
            self.kept,
            list(window.kernel),
            list(window.stride),
            [before for before, _ in window.padding],
            list(window.dilation),
            self.groups,
        )

    def plan(self, x: Tensor) -> Gather:
        """The plan of the grouped form for inputs like `x`."""
        make = partial(Gather.plan, self.window, self.kept, x, self.groups)
        plan: Gather = self._plan(state_of(self.kept), x, make)
        return plan

    def scattered(self, matrix: CpuSparse, x: Tensor) -> Scattered | None:
        """The plan of loops without patches for inputs like `x`, if they take them."""
        plan: Scattered | None = self._plan(
            matrix, x, partial(scattered_plan, self.window, matrix, x)
        )
        return plan

    def _plan(self, structure: object, x: Tensor, make: Callable[[], Any]) -> Any:
        """What `make` gives for inputs like `x`, remembered while the structure stays."""
        if self._plans[0] != structure:
            self._plans = structure, {}
        plans = self._plans[1]
        key = x.shape, x.dtype, x.is_contiguous()
        if key not in plans:
            if len(plans) == _MOST_PLANS:
                del plans[next(iter(plans))]
            plans[key] = make()
        return plans[key]

    def _panels(self) -> Panels:
        """The weight and bias as the compiled loops read them, anew when one has changed."""
        from ..compiled.conv import Panels

        state = [None if part is None else state_of(part) for part in (self.values, self.bias)]
        if self._packed is None or self._packed[0] != state:
            self._packed = state, Panels.of(self.values, self.bias)
        return self._packed[1]

    def patches(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """What the kernel sees at each pixel: [n, pixels, in], made whole by one copy; output size.

        The CPU has them as columns, which are rows of images and so copied in long runs. `x` has
        its `padding` around it already.
        """
        window = self.window
        around = [side for pair in reversed(window.padding) for side in pair]
        x = F.pad(x, around) if any(around) else x
        walks = zip(window.kernel, window.stride, window.dilation, strict=True)
        for dim, (taps, step, far) in enumerate(walks, 2):
            x = x.unfold(dim, far * (taps - 1) + 1, step)[..., ::far]
        dims = len(window.kernel)
        outputs = tuple(x.shape[2 : 2 + dims])
        pixels, places = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
        shape = (x.shape[0], self.sizes[1], math.prod(outputs))
        if launchable(x):
            whole = x.permute(0, *pixels, 1, *places).reshape(shape[0], shape[2], shape[1])
        else:
            whole = x.permute(0, 1, *places, *pixels).reshape(shape).transpose(1, 2)
        return whole, outputs

    def by_patches(self, patches: Tensor) -> Tensor:
        """The product with patches [n, pixels, in]: [n, out, pixels]."""
        matrix = self.matrix_on_cpu(patches)
        if matrix is not None and matrix.block == 1:
            return _by_pixels(matrix, patches.transpose(1, 2), self.bias)
        return self.multiply(patches).transpose(1, 2)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_plans": (None, {}), "_packed": None}

    def extra_repr(self) -> str:
        window = self.window
        walk = f"kernel={window.kernel}, stride={window.stride}, groups={self.groups}"
        return f"{super().extra_repr()}, {walk}"


def _by_pixels(weight: CpuSparse, patches: Tensor, bias: Tensor | None) -> Tensor:
    """W times each image's patches [n, in, pixels], without turning them: [n, out, pixels]."""
    y = patches.new_empty(len(patches), weight.shape[0], patches.shape[2])
    for image, result in zip(patches, y, strict=True):
        result.copy_(sparse_matrix_cpu(weight, image, bias))
    return y
