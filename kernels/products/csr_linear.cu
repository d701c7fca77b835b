// y[b, o] = bias[o] + sum over the non-zeros (o, c) of W[o, c] * x[b, c], for small batches.
//
// Bytes: nnz * (sizeof(T) + 4) + 4 * out for W, once per tile of BATCH samples: this is the limit.
// Dense reads out * in * sizeof(T), so at density d fp32 can win by 1 / (2 d), fp16 by 1 / (3 d).
// Operations: 2 * batch * nnz, and one look-up in x per non-zero and tile.
//
// Shape: as the ELL product (small_batch.cuh): lanes of a warp per row, W in wide coalesced runs, x
// transposed in shared memory, where one load brings all samples of a column. Rows differ in length;
// a block walks over many, which evens that out.

#include "types.cuh"
#include "small_batch.cuh"

template <int BATCH, bool STAGED>
__device__ inline void csr(const int* crow, const int* columns, const T* values, const T* x, const T* bias, T* y,
                           long long out, long long total, long long in, long long batch, int lanes, void* shared) {
    long long first = (long long)blockIdx.y * BATCH;
    Input<BATCH, STAGED> input(x, shared, in, first, batch);
    int mine = threadIdx.x % lanes, at_once = blockDim.x / lanes;
    for (long long rows = (long long)blockIdx.x * at_once; rows < out; rows += (long long)gridDim.x * at_once) {
        long long row = rows + threadIdx.x / lanes;
        long long start = row < out ? crow[row] : 0, end = row < out ? crow[row + 1] : 0;
        float sums[BATCH] = {};
        for (long long run = start / 8 * 8 + 8 * mine; run < end; run += 8 * lanes) {
            Eight<int> column = load_eight(columns + run, total - run);
            Eight<T> value = load_eight(values + run, total - run);
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (run + i >= start && run + i < end) input.add(sums, to_float(value.at[i]), column.at[i]);
        }
        write_row<BATCH>(sums, y, bias, bias != nullptr, first, input.samples, out, row, mine, lanes);
    }
}

#define KERNEL(name, BATCH, STAGED)                                                                                   \
    extern "C" __global__ void name(const int* crow, const int* columns, const T* values, const T* x, const T* bias, \
                                    T* y, long long out, long long total, long long in, long long batch,             \
                                    long long lanes) {                                                               \
        DYNAMIC_SHARED(unsigned char, shared);                                                                       \
        csr<BATCH, STAGED>(crow, columns, values, x, bias, y, out, total, in, batch, int(lanes), shared);            \
    }

KERNEL(csr_linear_1, 1, true)
KERNEL(csr_linear_2, 2, true)
KERNEL(csr_linear_4, 4, true)
KERNEL(csr_linear_8, 8, true)
KERNEL(csr_linear_direct, 8, false)
