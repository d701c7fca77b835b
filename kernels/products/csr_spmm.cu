// Y[out, n] = W X + bias: W[out, in] in CSR, X[in, n] dense with its rows contiguous.
//
// Bytes: nnz * (sizeof(T) + 4) for W, once per tile of columns; nnz * n * sizeof(T) of X, nearly all
// from the caches (a tile of X, in * TILE entries, fits the L2 and is shared by all rows);
// out * n * sizeof(T) written. Operations: 2 * nnz * n.
// Limit: the L1 gives 128 bytes a cycle, hence 32 fp32 or 64 16-bit products a cycle of an SM's 128:
// a quarter or a half of what CUDA cores can do. Scattered rows of W share no X in registers.
//
// Shape (1-D tiling with sub-warps, Gale et al. 2020, Sputnik, section 5): LANES neighbouring threads
// make one row of Y times TILE = LANES * VEC columns, each VEC columns side by side, so that a
// non-zero costs one 16-byte load per lane, coalesced over the lanes. The lanes fetch the next LANES
// non-zeros together, one each, coalesced, and hand them around by shuffles, which cost less than the
// load they accompany. Nothing is reduced over threads. Blocks that run together share the tile of X.
// With `order`, long rows come first and the rows of a warp are of a length (row swizzle, section 5.2).

#include "types.cuh"

constexpr int tile = LANES * VEC;

// sums += W[row, col] * X[col, column ...] for the `count` non-zeros that the lanes hold.
__device__ __forceinline__ void add_products(float (&sums)[VEC], const T* x, long long n, int col, float value,
                                             int count, unsigned lanes, bool inside) {
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
        int from = __shfl_sync(lanes, col, k, LANES);
        float factor = __shfl_sync(lanes, value, k, LANES);
        if (!inside) continue;
        Pack<T, VEC> pack = load<VEC>(x + from * n);
#pragma unroll
        for (int i = 0; i < VEC; ++i) sums[i] = fmaf(factor, to_float(pack.at[i]), sums[i]);
    }
}

// Grid: all rows for the first tile of columns, then for the second, ...; LANES threads to a row.
// `order` and `bias` may be null. n is a multiple of VEC and X, Y are aligned to it.
extern "C" __global__ void csr_spmm(const int* crow, const int* columns, const T* values, const T* x,
                                    const int* order, const T* bias, T* y, long long out, long long n) {
    int lane = threadIdx.x % LANES;
    unsigned lanes = part_of_warp<LANES>(threadIdx.x % WARP);
    unsigned in_block = blockDim.x / LANES, blocks = (unsigned)((out + in_block - 1) / in_block);  // of a tile
    long long place = (long long)(blockIdx.x % blocks) * in_block + threadIdx.x / LANES;
    if (place >= out) return;
    long long row = order ? order[place] : place;
    long long column = (long long)(blockIdx.x / blocks) * tile + lane * VEC;
    bool inside = column < n;
    x += column;

    float sums[VEC];
#pragma unroll
    for (int i = 0; i < VEC; ++i) sums[i] = bias ? to_float(bias[row]) : 0.0f;

    int start = crow[row], end = crow[row + 1];
    for (int at = start; at < end; at += LANES) {
        int mine = at + lane, left = end - at;
        int col = mine < end ? columns[mine] : 0;
        float value = mine < end ? to_float(values[mine]) : 0.0f;
        // Apart, as a known number of rounds lets the compiler start many loads at once.
        if (left >= LANES)
            add_products(sums, x, n, col, value, LANES, lanes, inside);
        else
            add_products(sums, x, n, col, value, left, lanes, inside);
    }
    if (!inside) return;
    Pack<T, VEC> result;
#pragma unroll
    for (int i = 0; i < VEC; ++i) result.at[i] = from_float<T>(sums[i]);
    store(y + row * n + column, result);
}
