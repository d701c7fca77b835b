// Bitmap product for small batches on CUDA cores:
//   y[b, o] = bias[o] + sum over i of W[o, i] * x[b, i]
//
// Limit: bytes of W, nonzeros * sizeof(T) + out * in * (1 + 1/32) / 8, read once per tile of
// BATCH samples. Against dense, fp16 can win at most 1.77x at 50 % and 3.8x at 80 % zeros, fp32
// 1.9x and 4.3x.
// Operations: 2 * batch * out * in, zeros included. This is what fp32 takes; fp16 and bf16 only
// where there are no tensor cores for them to use (bitmap_mma.cu).
//
// Shape (reading W: bitmap.cuh): a block takes a strip of 8 rows, its warps take the strip's
// chunks in turn. A lane keeps the sums of one row over a quarter of the columns; four lanes,
// then the warps, add theirs at the end. x is read from global memory, 16 neighbouring columns
// per tile and sample, which stay in L1. The layout and its decoding by counts follow SpInfer
// (Fan et al., EuroSys 2025), with tiles as wide as one fragment of the tensor cores.

#include "types.cuh"
#include "bitmap.cuh"

#define ROWS 8
#define MOST_WARPS 16

template <int BATCH>
__device__ __forceinline__ void bitmap(const unsigned* words, const int* offsets, const T* values,
                                       const T* x, const T* bias, T* y, long long out,
                                       long long chunks, long long stride, long long batch,
                                       long long biased) {
    __shared__ float partial[MOST_WARPS][BATCH][ROWS];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    long long strip = blockIdx.x, first = (long long)blockIdx.y * BATCH;
    float sums[BATCH] = {};
    for (long long c = warp; c < chunks; c += warps) {
        Chunk chunk = load_chunk(words, offsets, strip * chunks + c, lane);
#pragma unroll(BATCH > 2 ? 2 : 4)
        for (int tile = 0; tile < TILES; ++tile) {
            Pack<T, 4> entries = load_entries(chunk, tile, values, lane);
            long long column = c * CHUNK_COLUMNS + tile * TILE_COLUMNS + lane % 4 * 4;
#pragma unroll
            for (int b = 0; b < BATCH; ++b) {
                Pack<T, 4> input = load_input(x, first + b, batch, column, stride);
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    sums[b] = fmaf(to_float(entries.at[i]), to_float(input.at[i]), sums[b]);
            }
        }
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
        float sum = sums[b] + __shfl_xor_sync(FULL_WARP, sums[b], 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        if (lane % 4 == 0) partial[warp][b][lane / 4] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BATCH * ROWS; i += blockDim.x) {
        long long row = strip * ROWS + i % ROWS, sample = first + i / ROWS;
        if (row >= out || sample >= batch) continue;
        float sum = biased ? to_float(bias[row]) : 0.0f;
        for (int w = 0; w < warps; ++w) sum += partial[w][i / ROWS][i % ROWS];
        y[sample * out + row] = from_float<T>(sum);
    }
}

#define KERNEL(name, BATCH)                                                                     \
    extern "C" __global__ void name(const unsigned* words, const int* offsets, const T* values, \
                                    const T* x, const T* bias, T* y, long long out,             \
                                    long long chunks, long long stride, long long batch,        \
                                    long long biased) {                                         \
        bitmap<BATCH>(words, offsets, values, x, bias, y, out, chunks, stride, batch, biased);  \
    }

KERNEL(bitmap_1, 1)
KERNEL(bitmap_2, 2)
KERNEL(bitmap_4, 4)
KERNEL(bitmap_8, 8)
