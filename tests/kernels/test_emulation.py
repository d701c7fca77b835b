"""The host emulation itself: what CUDA promises holds; what CUDA leaves undefined is an error."""

from __future__ import annotations

import pytest
import torch

from secateur.kernels.cuda.launch import launch
from secateur.kernels.cuda.source import Source


@pytest.fixture
def run(emulate, tmp_path):
    """Run the body of a kernel whose parameters are `int* a, float* x, long long n, float f`."""

    def run(body, grid=(1,), block=(32,), a=None, x=None, n=0, f=0.0, shared=0, head=""):
        path = tmp_path / "kernel.cu"
        parameters = "int* a, float* x, long long n, float f"
        path.write_text(
            f'#include "types.cuh"\n{head}\n'
            f'extern "C" __global__ void kernel({parameters}) {{\n{body}\n}}\n'
        )
        a = torch.zeros(1, dtype=torch.int32) if a is None else a
        x = torch.zeros(1) if x is None else x
        with emulate.emulated():
            launch(Source(path, ("kernel",)), "kernel", grid, block, (a, x, n, f), shared=shared)

    return run


def ints(count):
    return torch.zeros(count, dtype=torch.int32)


def test_indices_of_threads_and_blocks(run):
    a = ints(2 * 3 * 4 * 5)
    body = """
        int block = blockIdx.x + gridDim.x * blockIdx.y;
        int thread = threadIdx.x + blockDim.x * threadIdx.y;
        int at = block * blockDim.x * blockDim.y + thread;
        a[at] = 1000 * block + thread + n + int(f);"""
    run(body, grid=(2, 3), block=(4, 5), a=a, n=7, f=2.5)
    expected = 1000 * torch.arange(6)[:, None] + torch.arange(20) + 9
    assert a.view(6, 20).equal(expected.int())


def test_barriers_order_shared_memory(run):
    a = torch.randint(100, (8 * 64,), dtype=torch.int32)
    expected = a.view(8, 64).flip(1).cumsum(1).int()
    body = """
        __shared__ int tile[64];
        int i = threadIdx.x, *mine = a + blockIdx.x * 64;
        tile[63 - i] = mine[i];
        for (int step = 1; step < 64; step *= 2) {
            __syncthreads();
            int other = i >= step ? tile[i - step] : 0;
            __syncthreads();
            tile[i] += other;
        }
        mine[i] = tile[i];"""
    run(body, grid=(8,), block=(64,), a=a)
    assert a.view(8, 64).equal(expected)


@pytest.mark.parametrize("written", ["a[i] = tile[(i + 1) % 64];", "a[i] = tile[(i + 63) % 64];"])
@pytest.mark.parametrize("barrier", ["__syncthreads();", ""])
def test_a_missing_barrier_shows(run, written, barrier):
    a = ints(64)
    body = f"__shared__ int tile[64]; int i = threadIdx.x; tile[i] = i; {barrier} {written}"
    run(body, block=(64,), a=a)
    assert (sorted(a.tolist()) == list(range(64))) == bool(barrier)


@pytest.mark.parametrize("step", [1, 63])
def test_a_missing_barrier_before_overwriting_shows(run, step):
    a = ints(2 * 64)
    body = """
        __shared__ int tile[64];
        int i = threadIdx.x;
        tile[i] = i;
        __syncthreads();
        int other = tile[(i + n) % 64];
        tile[i] = -1;
        a[blockIdx.x * 64 + i] = other;"""
    run(body, grid=(2,), block=(64,), a=a, n=step)
    assert -1 in a.tolist()


def test_shared_memory_starts_as_nan(run):
    x = torch.zeros(4)
    body = """
        __shared__ float fixed[32];
        DYNAMIC_SHARED(float, free);
        x[2 * blockIdx.x] = fixed[3];
        x[2 * blockIdx.x + 1] = free[5];
        fixed[3] = free[5] = 1.0f;"""
    run(body, grid=(2,), block=(1,), x=x, shared=64)
    assert x.isnan().all()


def test_shuffles_and_votes(run):
    a = ints(8 * 32)
    body = """
        int i = threadIdx.x;
        a[i] = __shfl_sync(0xffffffffu, i, 5);
        a[32 + i] = __shfl_xor_sync(FULL_WARP, i, 3);
        a[64 + i] = __shfl_down_sync(FULL_WARP, i, 2, 8);
        a[96 + i] = __shfl_up_sync(FULL_WARP, i, 1, 16);
        a[128 + i] = __ballot_sync(FULL_WARP, i % 3 == 0);
        a[160 + i] = __any_sync(FULL_WARP, i == 7) + 2 * __all_sync(FULL_WARP, i < 31);
        a[192 + i] = __match_any_sync(FULL_WARP, i % 4) == (0x11111111u << i % 4);
        a[224 + i] = int(warp_sum(float(i))) + int(warp_max<8>(float(i), FULL_WARP));"""
    run(body, a=a)
    lanes, a = torch.arange(32), a.view(8, 32).long()
    assert a[0].equal(torch.full((32,), 5))
    assert a[1].equal(lanes ^ 3)
    assert a[2].equal(torch.where(lanes % 8 < 6, lanes + 2, lanes))
    assert a[3].equal(torch.where(lanes % 16 > 0, lanes - 1, lanes))
    assert (a[4] % 2**32).eq(sum(1 << lane for lane in range(0, 32, 3))).all()
    assert a[5].eq(1).all()
    assert a[6].eq(1).all()
    assert a[7].equal(496 + lanes // 8 * 8 + 7)


def test_parts_of_a_warp_go_their_own_way(run):
    """Each eight lanes loop as often as they like; a third of a warp does not exist."""
    x = torch.zeros(20)
    body = """
        unsigned lanes = part_of_warp<8>(threadIdx.x);
        float sum = 0.0f;
        for (int k = 0; k <= threadIdx.x / 8; ++k) sum += warp_sum<4>(1.0f, lanes);
        x[threadIdx.x] = sum;"""
    run(body, block=(20,), x=x)
    assert x.tolist() == [4.0] * 8 + [8.0] * 8 + [12.0] * 4


def test_threads_that_ended_are_not_waited_for(run):
    a = ints(40)
    body = """
        int i = threadIdx.x;
        if (i >= 40) return;
        __syncthreads();
        a[i] = __shfl_sync(FULL_WARP, i, i < 8 || i >= 36 ? 7 : 9);"""
    run(body, block=(64,), a=a)
    # In the second warp eight lanes are left: the eighth is there, the tenth gives nothing.
    assert a.tolist() == [7] * 8 + [9] * 24 + [-1] * 4 + [39] * 4


def test_atomics(run):
    a, x = ints(6), torch.zeros(1)
    a[1], a[2] = -1000, 1000
    body = """
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        atomicAdd(&a[0], i);
        atomicMax(&a[1], i);
        atomicMin(&a[2], i);
        atomicOr(reinterpret_cast<unsigned*>(&a[3]), 1u << i % 32);
        int old = a[4], seen;
        do { seen = old; old = atomicCAS(&a[4], seen, seen + 2); } while (old != seen);
        if (atomicExch(&a[5], 1) == 0) atomicAdd(x, 0.5f);"""
    run(body, grid=(4,), block=(48,), a=a, x=x)
    assert a.tolist() == [sum(range(192)), 191, 0, -1, 384, 1]
    assert x.item() == 0.5


def test_intrinsics(run):
    a, x = ints(8), torch.zeros(6)
    body = """
        a[0] = __popc(0xf0f0u); a[1] = __ffs(8); a[2] = __clz(1); a[3] = __popcll(~0ull);
        a[4] = __brev(1u) == 0x80000000u; a[5] = __float_as_uint(1.0f) == 0x3f800000u;
        a[6] = min(3, 5) + max(3u, 5u); a[7] = __clz(0);
        x[0] = fmaf(2.0f, 3.0f, 4.0f); x[1] = rsqrtf(4.0f); x[2] = fmaxf(1.0f, NAN);
        float4 four = make_float4(1, 2, 3, 4);
        x[3] = four.w; x[4] = __ldg(x + 3); x[5] = min(2.5f, 7.0f);"""
    run(body, block=(1,), a=a, x=x)
    assert a.tolist() == [8, 4, 31, 64, 1, 1, 8, 32]
    assert x.tolist() == [10.0, 0.5, 1.0, 4.0, 4.0, 2.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_of_16_bits(emulate, tmp_path, dtype):
    name = {torch.float16: "half", torch.bfloat16: "bfloat16"}[dtype]
    path = tmp_path / "convert.cu"
    path.write_text("""#include "types.cuh"
        extern "C" __global__ void widen(const T* x, float* y) {
            y[blockIdx.x] = to_float(x[blockIdx.x]);
        }
        extern "C" __global__ void round(const float* x, T* y) {
            y[blockIdx.x] = from_float<T>(x[blockIdx.x]);
        }
    """)
    source = Source(path, ("widen", "round"), ({"T": name},))
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype)
    wide = torch.empty(2**16)
    # Halfway between neighbours, and a little to either side.
    between = torch.cat([x.float(), (x[:-1].double() + x[1:].double()).float() / 2])
    between = torch.cat([between, between * (1 + 2**-20), between * (1 - 2**-20)])
    between = torch.cat([between, torch.tensor([torch.inf, -torch.inf, 65519.9, 65520.0, 3e38])])
    rounded = torch.empty(len(between), dtype=dtype)
    with emulate.emulated():
        launch(source, "widen", (2**16,), (1,), (x, wide), variant={"T": name})
        launch(source, "round", (len(between),), (1,), (between, rounded), variant={"T": name})
    assert torch.equal(wide.nan_to_num(nan=12345.0), x.float().nan_to_num(nan=12345.0))
    expected = between.to(dtype)
    assert rounded.isnan().equal(expected.isnan())
    numbers = ~expected.isnan()
    assert rounded[numbers].view(torch.int16).equal(expected[numbers].view(torch.int16))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (n > threadIdx.x) __syncthreads();\n else __syncthreads();", "different barriers"),
        ("if (n > threadIdx.x) __syncthreads(); else __shfl_sync(FULL_WARP, 1, 0);", "for ever"),
        ("if (n > threadIdx.x) __ballot_sync(FULL_WARP, 1); else __syncthreads();", "for ever"),
        ("__shfl_sync(2u << threadIdx.x, 1, 0);", "leaves out its own lane"),
        ("__shared__ int tile[32]; tile[threadIdx.x + n] = 1;", "index 32 is outside"),
        ("int mine[4]; mine[n + 3] = 0; a[0] = mine[n + 3];", "index 4 is outside"),
        ("float4* wide = reinterpret_cast<float4*>(x + n); wide->x = 1.0f;", "not aligned"),
        ("a[0] = 7 / (n - 1);", "division by zero"),
        ("a[0] = 1 << (n + 31);", "shift by 32"),
        ("a[n] = 1;", "outside of a tensor of 4 bytes"),
        ("a[n << 45] = 1;", "nothing is at the address"),
        ("x[-n] = 1.0f;", "outside of a tensor of 4 bytes"),
        ("DYNAMIC_SHARED(int, tile); tile[n] = 1;", "outside of its 4 bytes of dynamic shared"),
    ],
)  # fmt: skip
def test_what_cuda_leaves_undefined_is_an_error(emulate, run, body, message):
    with pytest.raises(emulate.EmulationError, match=message):
        run(body, n=1, shared=4)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"block": (1025,)}, "1024 are the most"),
        ({"block": (1, 1, 65)}, "1024 are the most"),
        ({"grid": (1, 65536)}, "65535"),
        ({"shared": 300 << 10}, "are the most"),
    ],
)
def test_what_no_gpu_takes_is_an_error(emulate, run, size, message):
    with pytest.raises(emulate.EmulationError, match=message):
        run("", **size)


def test_reads_outside_of_a_tensor_give_nan(run):
    x = torch.zeros(4)
    run("x[n] = x[n + 3] + x[-1];", block=(1,), x=x, n=1)
    assert x[1].isnan()


def test_tensors_share_memory_as_they_do_outside(emulate, tmp_path):
    path = tmp_path / "kernel.cu"
    path.write_text(
        'extern "C" __global__ void kernel(float* x, const float* y) { x[1] = 5; x[0] = y[0]; }'
    )
    whole = torch.zeros(4)
    with emulate.emulated():
        launch(Source(path, ("kernel",)), "kernel", (1,), (1,), (whole, whole[1:3]))
    assert whole.tolist() == [5.0, 5.0, 0.0, 0.0]


def test_arguments_of_another_kind_are_an_error(emulate, tmp_path):
    path = tmp_path / "kernel.cu"
    path.write_text('extern "C" __global__ void kernel(float* x, int n) {}')
    source = Source(path, ("kernel",))
    with emulate.emulated():
        with pytest.raises(emulate.EmulationError, match=r"kinds pi, the kernel takes p\?"):
            launch(source, "kernel", (1,), (1,), (torch.zeros(1), 1))
        with pytest.raises(emulate.EmulationError, match="kinds p, the kernel"):
            launch(source, "kernel", (1,), (1,), (torch.zeros(1),))


def test_each_source_is_compiled_once(emulate, tmp_path, monkeypatch):
    monkeypatch.setattr(emulate.tempfile, "tempdir", str(tmp_path))
    text = 'extern "C" __global__ void kernel(int* a) { *a = 3; }'
    first = emulate.library.__wrapped__(text, ("kernel",))
    (built,) = tmp_path.rglob("*.so")
    written = built.stat().st_mtime_ns
    again = emulate.library.__wrapped__(text, ("kernel",))
    assert built.stat().st_mtime_ns == written
    assert first is not again
    emulate.library.__wrapped__(text.replace("3", "4"), ("kernel",))
    assert len(list(tmp_path.rglob("*"))) == 3  # the folder and two libraries, nothing half-made
