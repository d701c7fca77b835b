// Bitmap product for small batches on tensor cores:
//   y[b, o] = bias[o] + sum over i of W[o, i] * x[b, i]
//
// Limit: as in bitmap.cu, bytes of W: fp16 and bf16 can win at most 1.77x with 50 %
// zeros and 3.8x with 80 %.
// Operations: 2 * batch * out * in, zeros included; on tensor cores they cost nothing beside
// reading W, for up to 16 samples at once. What competes with the bytes is the unpacking: per
// tile of 128 entries two shuffles, one count and four loads of 2 bytes per lane, by count of
// instructions some 8 cycles of a multiprocessor. 128 dense fp16 entries come in 14 cycles on an
// H200 and 26 on an A100 (256 bytes at 18.6 and 10 bytes per cycle and multiprocessor). A model,
// not measured: about 1.7x on an H200 however many the zeros, and close to the limit by bytes
// where memory is slower.
//
// Shape (reading W: bitmap.cuh): a block takes 16 rows, two strips of tiles, and its warps take
// their chunks in turn. Two tiles, one above the other, are the A operand of one m16n8k16 as
// they come: a lane has 4 entries of row l / 4 of each. The instruction's k order is permuted by
// that, columns 4 s to 4 s + 3 standing for 2 s, 2 s + 1, 2 s + 8, 2 s + 9; x, the B operand, is
// read in the same order with one load of 8 bytes per sample. Warps add their sums in shared
// memory at the end. After SpInfer (Fan et al., EuroSys 2025).

#include "types.cuh"
#include "mma.cuh"
#include "bitmap.cuh"

#define ROWS 16
#define MOST_WARPS 16

// Two 16-bit entries as the word of a fragment, the first in the low half.
__device__ __forceinline__ unsigned word_of(T low, T high) {
    return low.bits | unsigned(high.bits) << 16;
}

// EIGHTS: how many times 8 samples a block takes.
template <int EIGHTS>
__device__ __forceinline__ void bitmap_mma(const unsigned* words, const int* offsets,
                                           const T* values, const T* x, const T* bias, T* y,
                                           long long out, long long chunks, long long stride,
                                           long long batch, long long biased) {
    __shared__ float partial[MOST_WARPS][8 * EIGHTS][ROWS];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    int group = lane / 4, slot = lane % 4;
    long long strip = 2 * (long long)blockIdx.x, first = (long long)blockIdx.y * 8 * EIGHTS;
    bool second = (strip + 1) * 8 < out;  // whether the lower strip exists
    float sums[EIGHTS][4] = {};
    for (long long c = warp; c < chunks; c += warps) {
        Chunk upper = load_chunk(words, offsets, strip * chunks + c, lane), lower = {};
        if (second) lower = load_chunk(words, offsets, (strip + 1) * chunks + c, lane);
#pragma unroll 4
        for (int tile = 0; tile < TILES; ++tile) {
            Pack<T, 4> above = load_entries(upper, tile, values, lane);
            Pack<T, 4> below = load_entries(lower, tile, values, lane);
            unsigned a[4] = {word_of(above.at[0], above.at[1]), word_of(below.at[0], below.at[1]),
                             word_of(above.at[2], above.at[3]), word_of(below.at[2], below.at[3])};
            long long column = c * CHUNK_COLUMNS + tile * TILE_COLUMNS + 4 * slot;
#pragma unroll
            for (int eight = 0; eight < EIGHTS; ++eight) {
                Pack<T, 4> input = load_input(x, first + 8 * eight + group, batch, column, stride);
                unsigned b[2] = {word_of(input.at[0], input.at[1]),
                                 word_of(input.at[2], input.at[3])};
                mma(sums[eight], a, b, T{});
            }
        }
    }
#pragma unroll
    for (int eight = 0; eight < EIGHTS; ++eight)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            partial[warp][8 * eight + 2 * slot + i % 2][group + i / 2 * 8] = sums[eight][i];
    __syncthreads();
    for (int i = threadIdx.x; i < 8 * EIGHTS * ROWS; i += blockDim.x) {
        long long row = strip * 8 + i % ROWS, sample = first + i / ROWS;
        if (row >= out || sample >= batch) continue;
        float sum = biased ? to_float(bias[row]) : 0.0f;
        for (int w = 0; w < warps; ++w) sum += partial[w][i / ROWS][i % ROWS];
        y[sample * out + row] = from_float<T>(sum);
    }
}

#define KERNEL(name, EIGHTS)                                                                    \
    extern "C" __global__ void name(const unsigned* words, const int* offsets, const T* values, \
                                    const T* x, const T* bias, T* y, long long out,             \
                                    long long chunks, long long stride, long long batch,        \
                                    long long biased) {                                         \
        bitmap_mma<EIGHTS>(words, offsets, values, x, bias, y, out, chunks, stride, batch,      \
                           biased);                                                             \
    }

KERNEL(bitmap_mma_8, 1)
KERNEL(bitmap_mma_16, 2)
