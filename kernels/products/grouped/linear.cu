// y[b, o] = sum over k of values[o, k] * x[b, kept[k]], + bias[o]: a linear layer of which whole
// columns are gone (Liu et al., "Performance characterization and optimization of pruning patterns
// for sparse DNN inference", algorithm 2). With s bytes an entry, d = kept / ins the density:
//
//   operations  2 * batch * outs * kept, a share d of the dense layer's
//   bytes       s * (outs * kept + batch * (lines + outs)) + 4 * kept: each once; `lines` is what the
//               32-byte sectors with a kept entry hold, between kept and ins entries: the kept
//               entries of a row are not neighbours, and at d = 1/4 in 16 bit all sectors are touched
//   intensity   for batch, outs >> kept / 2: about 2 * kept / s operations a byte: bound by arithmetic
//               beyond a few hundred kept (an H200's balance: 14 operations a byte in fp32, about 200
//               in bf16); for a small batch about 2 * batch / s: bound by the bytes of the values
//
// Three ways, one for each of those regimes:
// - rows: batch to 8. A warp streams four rows of values, 16 bytes a lane, against the gathered x,
//   which its block holds in shared memory as float; the values are read once from memory.
// - tile: the product as tiles in float arithmetic with the gather inside. Every tile of outputs
//   gathers x again (from the L2), one load an entry: right for few outputs. The tensor cores' form
//   of it is grouped_linear_mma.cu.
// - gather: only x[:, kept], packed, for a product by the vendor's library. It moves
//   s * batch * (lines + 2 * kept) bytes, which the product pays back from some hundred outputs on.
#include "types.cuh"
#include "grouped_inputs.cuh"
#include "grouped_tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    grouped_linear(const T *x, const T *values, const int *kept, const T *bias, T *y, float *parts,
                   long long pitch, long long depth, long long outs, long long batch, long long ins,
                   long long splits) {
    __shared__ Tiles tiles;
    const long long tall = (outs + BM - 1) / BM, first = blockIdx.x % tall * BM;
    const long long start = blockIdx.x / tall * BN;
    const Span span(depth, splits, blockIdx.z, BK);
    const Result result{y, parts ? parts + blockIdx.z * batch * outs : nullptr, bias};
    Inputs<BK, BN, THREADS, 1> gather(x, kept, ins, batch, start, span);
    auto end = [&] { return InputsEnd<DOWN, BN, THREADS>{result, start, batch, outs}; };
    product<InputsEnd<DOWN, BN, THREADS>>(tiles, gather, end, values, pitch, outs, first, span);
}

extern "C" __global__ void grouped_linear_sum(const float *parts, const T *bias, T *y,
                                              long long count, long long splits, long long inner,
                                              long long outs) {
    sum_parts(parts, bias, y, count, splits, inner, outs);
}

#define CHUNK 1024  // kept positions of x in shared memory at a time
constexpr int LANE = 16 / sizeof(T), WARP_ROWS = 4;

// Lane l multiplies entries l * LANE on, which it reads from shared memory four at a time: they lie
// so that a warp's packs of four are in order.
__device__ __forceinline__ int chunk_slot(int k) {
    return k % LANE / 4 * (CHUNK * 4 / LANE) + k / LANE * 4 + k % 4;
}

template <int BATCH>
__device__ __forceinline__ void rows(float (&gathered)[BATCH][CHUNK], const T *x, const T *values,
                                     const int *kept, const T *bias, T *y, long long pitch,
                                     long long depth, long long outs, long long batch,
                                     long long ins) {
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const long long first =
        (static_cast<long long>(blockIdx.x) * warps + threadIdx.x / WARP) * WARP_ROWS;
    float sums[WARP_ROWS][BATCH] = {};
    for (long long from = 0; from < depth; from += CHUNK) {
        const int some = static_cast<int>(min(depth - from, static_cast<long long>(CHUNK)));
        __syncthreads();
        for (int k = threadIdx.x; k < CHUNK; k += blockDim.x) {
            const int column = k < some ? kept[from + k] : -1;
#pragma unroll
            for (int b = 0; b < BATCH; ++b)
                gathered[b][chunk_slot(k)] =
                    column >= 0 && b < batch ? to_float(x[b * ins + column]) : 0.0f;
        }
        __syncthreads();
        for (int k = lane * LANE; k < some; k += WARP * LANE) {
            float weights[WARP_ROWS][LANE];
#pragma unroll
            for (int r = 0; r < WARP_ROWS; ++r) {
                // The last rows again where there are no more; entries past the end don't count.
                const auto pack =
                    load<LANE>(values + min(first + r, outs - 1) * pitch + from + k);
#pragma unroll
                for (int e = 0; e < LANE; ++e)
                    weights[r][e] = k + e < some ? to_float(pack.at[e]) : 0.0f;
            }
#pragma unroll
            for (int b = 0; b < BATCH; ++b)
#pragma unroll
                for (int q = 0; q < LANE; q += 4) {
                    const auto entries = load<4>(&gathered[b][chunk_slot(k + q)]);
#pragma unroll
                    for (int e = 0; e < 4; ++e)
#pragma unroll
                        for (int r = 0; r < WARP_ROWS; ++r)
                            sums[r][b] = fmaf(weights[r][q + e], entries.at[e], sums[r][b]);
                }
        }
    }
#pragma unroll
    for (int r = 0; r < WARP_ROWS; ++r)
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            const float sum = warp_sum(sums[r][b]);
            const long long o = first + r;
            if (lane == 0 && o < outs && b < batch)
                y[b * outs + o] = from_float<T>(bias ? sum + to_float(bias[o]) : sum);
        }
}

#define ROWS(BATCH)                                                                              \
    extern "C" __global__ void __launch_bounds__(128) grouped_linear_rows_##BATCH(               \
        const T *x, const T *values, const int *kept, const T *bias, T *y, long long pitch,      \
        long long depth, long long outs, long long batch, long long ins) {                       \
        alignas(16) __shared__ float gathered[BATCH][CHUNK];                                     \
        rows(gathered, x, values, kept, bias, y, pitch, depth, outs, batch, ins);                \
    }
ROWS(1)
ROWS(4)
ROWS(8)

// to[b, k] = x[b, kept[k]], zero for depth <= k < pitch: four k and four rows of x a thread, so that
// an index is read once for four entries and sixteen loads are under way; `pitch` is a multiple of 4.
extern "C" __global__ void grouped_linear_gather(const T *x, const int *kept, T *to, long long pitch,
                                                 long long depth, long long batch, long long ins) {
    const long long k = (static_cast<long long>(blockIdx.y) * blockDim.x + threadIdx.x) * 4;
    if (k >= pitch) return;
    int columns[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) columns[e] = k + e < depth ? kept[k + e] : -1;
    const long long first = static_cast<long long>(blockIdx.x) * 4;
    Pack<T, 4> packs[4];
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int e = 0; e < 4; ++e)
            packs[r].at[e] =
                columns[e] >= 0 && first + r < batch ? x[(first + r) * ins + columns[e]] : T{};
#pragma unroll
    for (int r = 0; r < 4; ++r)
        if (first + r < batch) store(to + (first + r) * pitch + k, packs[r]);
}
