"""Products of pruned layers on the CPU against torch's dense ones (oneDNN and MKL, fp32).

Convolutions of ResNet and VGG shapes with 75 % of the columns gone, or 90 % of single weights
(`scattered`), against the dense convolution, both contiguous and channels-last, and the gradients
of the first of ResNet; linear layers at 90 %, by pattern, and less sparse ones by bitmaps; and the
three products of a training step with a CSR weight, forwards and for both gradients, against the
three dense ones. All candidates of a layer take turns in one run. Ratios are given of the medians,
of the least times, and of the least of the processor time that all threads took together: on a
machine that others use, the medians measure the others too, and the last moves least. `share of the
limit` is the work that is left (its operations by a large product's, or its bytes by a large copy's
rate) over the least time; a product of torch's is not always the fastest that a machine can do.

Run: python tests/bench/bench_cpu_products.py [--seconds S] [--out RESULTS.md]
[--only convolutions scattered gradients linear bitmaps training]
[--batches 1 16 256 (of the linear layers)]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.engine.machine import describe
from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.reduced import ReducedLayer
from secateur.kernels.products.cpu_sparse import CpuSparse, sparse_linear_cpu
from secateur.kernels.products.grouped.conv import grouped_conv_backward
from secateur.kernels.products.sddmm import sddmm
from secateur.kernels.reference import spread_columns

# Model, inputs, outputs, kernel, stride, height and width.
CONVOLUTIONS = (
    ("ResNet", 3, 64, 7, 2, 224),
    ("ResNet", 64, 64, 3, 1, 56),
    ("ResNet", 64, 128, 3, 2, 56),
    ("ResNet", 128, 128, 3, 1, 28),
    ("ResNet", 128, 256, 3, 2, 28),
    ("ResNet", 256, 256, 3, 1, 14),
    ("ResNet", 256, 512, 3, 2, 14),
    ("ResNet", 512, 512, 3, 1, 7),
    ("ResNet", 256, 64, 1, 1, 56),
    ("ResNet", 128, 512, 1, 1, 28),
    ("ResNet", 1024, 256, 1, 1, 14),
    ("ResNet", 512, 2048, 1, 1, 7),
    ("VGG", 64, 64, 3, 1, 224),
    ("VGG", 64, 128, 3, 1, 112),
    ("VGG", 128, 128, 3, 1, 112),
    ("VGG", 128, 256, 3, 1, 56),
    ("VGG", 256, 256, 3, 1, 56),
    ("VGG", 256, 512, 3, 1, 28),
    ("VGG", 512, 512, 3, 1, 28),
    ("VGG", 512, 512, 3, 1, 14),
)
CONV_BATCHES, CONV_KEPT = (1, 8), 0.25
SCATTERED_KEPT = 0.1
LINEAR = ((1024, 4096), (4096, 1024), (4096, 4096))
LINEAR_BATCHES, LINEAR_KEPT = (1, 16, 256), 0.1
BITMAP_KEPT, BITMAP_BATCHES = (0.3, 0.5, 0.7), (1, 8)
TARGETS = {1: 2.4, 256: 4.0}
BLOCKS = (8, 16, 32)
FEWEST = 7

Call = Callable[[], object]
MEDIAN, LEAST, CPU = "medians", "least times", "processor time"
Times = dict[str, dict[str, float]]


def rounds(candidates: dict[str, Call], seconds: float) -> Times:
    """Milliseconds by kind and candidate, of rounds of which every other one is backwards."""
    names = list(candidates)
    for name in names:
        candidates[name]()
    clock: dict[str, list[float]] = {name: [] for name in names}
    spent: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    while len(clock[names[0]]) < FEWEST or time.perf_counter() < end:
        for name in names if len(clock[names[0]]) % 2 else reversed(names):
            begin, used = time.perf_counter(), time.process_time()
            candidates[name]()
            spent[name].append((time.process_time() - used) * 1e3)
            clock[name].append((time.perf_counter() - begin) * 1e3)
    return {
        MEDIAN: {name: statistics.median(clock[name]) for name in names},
        LEAST: {name: min(clock[name]) for name in names},
        CPU: {name: min(spent[name]) for name in names},
    }


def limits(seconds: float) -> tuple[float, float]:
    """Operations and bytes that this machine does in a millisecond, at best."""
    left, right, product = (torch.randn(2048, 2048) for _ in range(3))
    source, target = torch.randn(2, 1 << 25)
    calls: dict[str, Call] = {
        "gemm": partial(torch.mm, left, right, out=product),
        "copy": partial(target.copy_, source),
    }
    times = rounds(calls, seconds)
    return 2 * 2048**3 / times[LEAST]["gemm"], 2 * source.nbytes / times[LEAST]["copy"]


def same(calls: dict[str, Call], wanted: Tensor) -> None:
    """Every candidate computes what the dense layer with the masked weight does."""
    for name, call in calls.items():
        found = call()
        assert isinstance(found, Tensor)
        error = (found - wanted).norm() / wanted.norm()
        assert error < 1e-5, f"{name} is off by {error:.1e}"


def group_wise(layer: nn.Conv2d) -> nn.Module:
    mask = torch.rand(layer.weight[0].numel()) < CONV_KEPT
    layer.weight.mul_(mask.view(layer.weight[0].shape))
    return (ReducedLayer if layer.kernel_size == (1, 1) else SparseConv).from_dense(layer)


def scattered(layer: nn.Conv2d) -> nn.Module:
    layer.weight.mul_(torch.rand_like(layer.weight) < SCATTERED_KEPT)
    return SparseConv.from_dense(layer, "csr")


def convolutions(
    title: str, prune: Callable[[nn.Conv2d], nn.Module], seconds: float, peak: float
) -> list[str]:
    """`prune` zeroes weights of a layer, and gives the layer that skips them."""
    lines = [
        f"{title}, fp32: the peer is the faster layout",
        "",
        "| layer | batch | dense ms | channels-last | ours ms | channels-last | times faster | "
        "by the least | by processor time | share of the limit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios: dict[str, list[float]] = {MEDIAN: [], LEAST: [], CPU: []}
    for model, ins, out, kernel, stride, size in CONVOLUTIONS:
        for batch in CONV_BATCHES:
            torch.manual_seed(0)
            layer = nn.Conv2d(ins, out, kernel, stride, kernel // 2, bias=model == "VGG")
            small = prune(layer)
            x = torch.randn(batch, ins, size, size)
            last = x.to(memory_format=torch.channels_last)
            calls: dict[str, Call] = {
                "dense": partial(layer, x),
                "dense, last": partial(
                    copy.deepcopy(layer).to(memory_format=torch.channels_last), last
                ),
                "ours": partial(small, x),
                "ours, last": partial(copy.deepcopy(small), last),
            }
            wanted = layer(x)
            same(calls, wanted)
            times = rounds(calls, seconds)
            for kind, found in ratios.items():
                found.append(best_ratio(times[kind]))
            work = 2 * int(layer.weight.count_nonzero()) * wanted[:, 0].numel()
            share = work / peak / min(times[LEAST]["ours"], times[LEAST]["ours, last"])
            words = " | ".join(f"{times[MEDIAN][name]:.2f}" for name in calls)
            gained = " | ".join(f"{found[-1]:.2f}" for found in ratios.values())
            lines.append(
                f"| {model} {ins}-{out}, {kernel}x{kernel}/{stride} at {size} | {batch} | {words} "
                f"| {gained} | {share:.0%} |"
            )
    for name, found in ratios.items():
        slower = sum(ratio < 1 for ratio in found)
        lines += ["", f"By the {name}: {summary(found)}; below 1, so better dense: {slower}"]
    return lines


def gradients(seconds: float) -> list[str]:
    lines = [
        f"Gradients of group-wise convolutions at {1 - CONV_KEPT:.0%}, fp32: the dense layer's by "
        "its input and weight, and by what is kept",
        "",
        "| layer | batch | dense ms | ours ms | times faster | by the least | by processor time |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios: dict[str, list[float]] = {MEDIAN: [], LEAST: [], CPU: []}
    for model, ins, out, kernel, stride, size in CONVOLUTIONS:
        for batch in CONV_BATCHES if model == "ResNet" else ():
            torch.manual_seed(0)
            pad = kernel // 2
            kept = (torch.rand(ins * kernel**2) < CONV_KEPT).nonzero().flatten().int()
            values = torch.randn(out, len(kept))
            matrix = spread_columns(values, kept, ins * kernel**2)
            weight = matrix.view(out, ins, kernel, kernel)
            x = torch.randn(batch, ins, size, size)
            grad = torch.randn_like(F.conv2d(x, weight, None, stride, pad))
            dense = partial(
                torch.ops.aten.convolution_backward, grad, x, weight, None, *walked(stride, pad),
                False, [0, 0], 1, (True, True, False),
            )  # fmt: skip
            names = ("stride", "padding", "dilation")
            walk = dict(zip(names, walked(stride, pad), strict=True))
            ours = partial(
                grouped_conv_backward, grad, x, values, kept, kernel=(kernel, kernel), **walk
            )
            (by_x, by_weight, _), (found, by_values) = dense(), ours()
            same({"by x": lambda f=found: f}, by_x)
            wanted = by_weight.flatten(1).index_select(1, kept)
            same({"by the values": lambda f=by_values: f}, wanted)
            times = rounds({"dense": dense, "ours": ours}, seconds)
            for kind, gained in ratios.items():
                gained.append(times[kind]["dense"] / times[kind]["ours"])
            words = " | ".join(f"{each[-1]:.2f}" for each in ratios.values())
            lines.append(
                f"| {ins}-{out}, {kernel}x{kernel}/{stride} at {size} | {batch} | "
                f"{times[MEDIAN]['dense']:.2f} | {times[MEDIAN]['ours']:.2f} | {words} |"
            )
    return [*lines, *(f"\nBy the {name}: {summary(found)}" for name, found in ratios.items())]


def walked(stride: int, pad: int) -> tuple[tuple[int, int], ...]:
    return (stride, stride), (pad, pad), (1, 1)


def best_ratio(times: dict[str, float]) -> float:
    """The dense time over ours, each in its better layout."""
    return min(times["dense"], times["dense, last"]) / min(times["ours"], times["ours, last"])


def summary(ratios: Iterable[float]) -> str:
    found = list(ratios)
    return f"geometric mean {statistics.geometric_mean(found):.2f}, worst {min(found):.2f}"


def pruned(weight: Tensor) -> dict[str, tuple[Tensor, Callable[[Tensor], Tensor], int]]:
    """By pattern: the weight with its zeros, its product, and the bytes that this reads of it."""
    out, ins = weight.shape
    scattered = weight * (torch.rand(out, ins) < LINEAR_KEPT)
    columns, rows = torch.rand(ins) < LINEAR_KEPT, torch.rand(out) < LINEAR_KEPT
    kept = torch.nonzero(rows).flatten()
    layer = nn.Linear(ins, out, bias=False)
    layer.weight.copy_(weight)
    reduced, short = (
        SparseLinear.from_dense(layer, "grouped", columns.expand(out, -1)),
        weight[kept],
    )
    csr = CpuSparse.from_dense(scattered)
    found: dict[str, tuple[Tensor, Callable[[Tensor], Tensor], int]] = {
        "column: reduced": (weight * columns, reduced, reduced.values.nbytes),
        "row: reduced": (
            weight * rows[:, None],
            lambda x: x.new_zeros(len(x), out).index_copy_(1, kept, F.linear(x, short)),
            short.nbytes,
        ),
        "element: CSR": (scattered, partial(sparse_linear_cpu, csr), 8 * csr.matrix._nnz()),
    }
    for side in BLOCKS:
        tiles = torch.rand(out // side, ins // side) < LINEAR_KEPT
        masked = weight * tiles.repeat_interleave(side, 0).repeat_interleave(side, 1)
        stored, single = CpuSparse.from_dense(masked, side), CpuSparse.from_dense(masked)
        values = stored.matrix.values()
        found[f"block:{side}x{side}: BSR"] = (
            masked,
            partial(sparse_linear_cpu, stored),
            values.nbytes,
        )
        found[f"block:{side}x{side}: CSR"] = (
            masked,
            partial(sparse_linear_cpu, single),
            8 * single.matrix._nnz(),
        )
    return found


def linear(
    seconds: float, peak: float, bandwidth: float, batches: Iterable[int] = LINEAR_BATCHES
) -> list[str]:
    lines = [
        f"Linear layers at {1 - LINEAR_KEPT:.0%}, fp32",
        "",
        "| W | batch | pattern: product | dense ms | ours ms | times faster | by the least | "
        "by processor time | share of the limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, int], list[list[float]]] = {}
    for out, ins in LINEAR:
        torch.manual_seed(0)
        weight = torch.randn(out, ins)
        candidates = pruned(weight)
        for batch in batches:
            x = torch.randn(batch, ins)
            calls: dict[str, Call] = {"dense": partial(F.linear, x, weight)}
            for name, (masked, product, _) in candidates.items():
                calls[name] = partial(product, x)
                same({name: calls[name]}, F.linear(x, masked))
            times = rounds(calls, seconds)
            for name, (masked, _, size) in candidates.items():
                gained = [each["dense"] / each[name] for each in times.values()]
                found.setdefault((name, batch), []).append(gained)
                moved = size + 4 * batch * (out + ins)
                work = 2 * batch * int(masked.count_nonzero())
                bound = max(work / peak, moved / bandwidth)
                lines.append(
                    f"| {out}x{ins} | {batch} | {name} | {times[MEDIAN]['dense']:.3f} | "
                    f"{times[MEDIAN][name]:.3f} | {gained[0]:.2f} | {gained[1]:.2f} | "
                    f"{gained[2]:.2f} | {bound / times[LEAST][name]:.0%} |"
                )
    lines += [
        "",
        "| pattern: product | batch | times faster | by the least | by processor time | target |",
        "|---|---|---|---|---|---|",
    ]
    for (name, batch), ratios in sorted(found.items(), key=lambda item: item[0][1]):
        words = " | ".join(summary(each) for each in zip(*ratios, strict=True))
        lines.append(f"| {name} | {batch} | {words} | {TARGETS.get(batch, '')} |")
    return lines


def bitmaps(seconds: float) -> list[str]:
    lines = [
        "Linear layers with single weights left, fp32, against the dense one",
        "",
        "| W | kept | batch | dense ms | bitmap ms | CSR ms | bitmap, times faster | CSR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[float, int], list[float]] = {}
    for out, ins in LINEAR:
        torch.manual_seed(0)
        for kept in BITMAP_KEPT:
            layer = nn.Linear(ins, out)
            layer.weight.mul_(torch.rand(out, ins) < kept)
            forms = {form: SparseLinear.from_dense(layer, form) for form in ("bitmap", "csr")}
            for batch in BITMAP_BATCHES:
                x = torch.randn(batch, ins)
                calls: dict[str, Call] = {"dense": partial(layer, x)}
                calls |= {form: partial(made, x) for form, made in forms.items()}
                same(calls, layer(x))
                times = rounds(calls, seconds)[MEDIAN]
                gained = [times["dense"] / times[form] for form in forms]
                found.setdefault((kept, batch), []).append(gained[0])
                words = " | ".join(f"{each:.3f}" for each in times.values())
                ratios = " | ".join(f"{each:.2f}" for each in gained)
                lines.append(f"| {out}x{ins} | {kept:.0%} | {batch} | {words} | {ratios} |")
    lines += ["", "| kept | batch | bitmap, times faster |", "|---|---|---|"]
    for (kept, batch), ratios_found in found.items():
        lines.append(f"| {kept:.0%} | {batch} | {summary(ratios_found)} |")
    return lines


def training(seconds: float) -> list[str]:
    out = ins = 3072
    lines = [
        f"The products of a training step, {out}x{ins}, fp32: forwards, by x, by the weight",
        "",
        "| sparsity | batch | dense ms | ours ms | of it by the weight | torch's | times faster | "
        "by processor time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    torch.manual_seed(0)
    weight = torch.randn(out, ins)
    for kept in (0.2, 0.1, 0.05, 0.01):
        masked = weight * (torch.rand(out, ins) < kept)
        stored, turned = CpuSparse.from_dense(masked), CpuSparse.from_dense(masked.t())
        crow, columns = stored.matrix.crow_indices(), stored.matrix.col_indices()
        parts = crow, columns, torch.zeros(len(columns))
        zeros = torch.sparse_csr_tensor(*parts, (out, ins), check_invariants=False)
        for batch in (128, 512):
            x, grad = torch.randn(batch, ins), torch.randn(batch, out)
            peer = partial(torch.sparse.sampled_addmm, zeros, grad.t(), x, beta=0.0)
            by_weight = partial(sddmm, crow, columns, grad.t(), x.t())
            same({"sddmm": by_weight}, peer().values())
            calls: dict[str, Call] = {
                "dense": lambda x=x, grad=grad: (F.linear(x, weight), grad @ weight, grad.t() @ x),
                "linear": partial(sparse_linear_cpu, stored, x),
                "by x": partial(sparse_linear_cpu, turned, grad),
                "by weight": by_weight,
                "torch": peer,
            }
            times = rounds(calls, seconds)
            ours = {
                kind: sum(found[name] for name in ("linear", "by x", "by weight"))
                for kind, found in times.items()
            }
            found = times[MEDIAN]
            lines.append(
                f"| {1 - kept:.0%} | {batch} | {found['dense']:.2f} | {ours[MEDIAN]:.2f} | "
                f"{found['by weight']:.2f} | {found['torch']:.2f} | "
                f"{found['dense'] / ours[MEDIAN]:.2f} | {times[CPU]['dense'] / ours[CPU]:.2f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.5, help="for the rounds of one layer")
    parser.add_argument("--out", type=Path)
    tables = ("convolutions", "scattered", "gradients", "linear", "bitmaps", "training")
    parser.add_argument("--only", nargs="+", choices=tables, default=tables)
    parser.add_argument("--batches", nargs="+", type=int, default=LINEAR_BATCHES)
    given = parser.parse_args()
    torch.set_num_threads(2)
    machine = describe()
    with torch.inference_mode():
        peak, bandwidth = limits(given.seconds)
        head = (
            f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, 2 threads; a "
            f"product of 2048 does {peak / 1e6:.0f} GFLOP/s, a copy {bandwidth / 1e6:.1f} GB/s"
        )
        columns = f"Group-wise convolutions at {1 - CONV_KEPT:.0%}"
        weights = f"Convolutions without {1 - SCATTERED_KEPT:.0%} of their weights"
        makers: dict[str, Callable[[], list[str]]] = {
            "convolutions": partial(convolutions, columns, group_wise, given.seconds, peak),
            "scattered": partial(convolutions, weights, scattered, given.seconds, peak),
            "gradients": partial(gradients, given.seconds),
            "linear": partial(linear, given.seconds, peak, bandwidth, given.batches),
            "bitmaps": partial(bitmaps, given.seconds),
            "training": partial(training, given.seconds),
        }
        found = [["", *make()] for name, make in makers.items() if name in given.only]
        text = "\n".join([head, *(line for lines in found for line in lines)])
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
