// ELL product for small batches:
//   y[b, o] = bias[o] + sum over j of values[o, j] * x[b, columns[o, j]]
//
// Limit: bytes of W, out * width * (sizeof(T) + sizeof(index)), read once per tile of BATCH
// samples; after the first tile mostly from L2. Dense reads out * in * sizeof(T): at density d
// fp16 can win by 1 / (2 d) with 16-bit columns, 1 / (3 d) with 32-bit ones; fp32 by 1 / (1.5 d)
// and 1 / (2 d).
// Operations: 2 * batch * out * width, all on CUDA cores, and one look-up in x per entry and tile.
//
// Shape: some lanes of a warp per row (small_batch.cuh), values and columns in runs of eight (16
// bytes of fp16 and of 16-bit columns), so that the traffic that counts is all wide and
// coalesced. The look-ups are random; x therefore lies in shared memory, transposed, and one
// load brings the entries of all BATCH samples. A block keeps x and walks over many rows.
// `ell_direct` reads x where it lies, for x that is larger than shared memory: right for any
// size, and slower.
// BATCH = 8 in fp16 looks up 16 bytes per entry: about the most that keeps up with the memory.

#include "types.cuh"
#include "small_batch.cuh"

#if INDEX_BITS == 16
typedef unsigned short Index;
#else
typedef int Index;
#endif

template <int BATCH, bool STAGED>
__device__ __forceinline__ void ell(const Index* columns, const T* values, const T* x,
                                    const T* bias, T* y, long long out, long long width,
                                    long long in, long long batch, long long biased, int lanes,
                                    void* shared) {
    long long first = (long long)blockIdx.y * BATCH;
    Input<BATCH, STAGED> input(x, shared, in, first, batch);
    int mine = threadIdx.x % lanes, at_once = blockDim.x / lanes;
    long long total = out * width;
    for (long long rows = (long long)blockIdx.x * at_once; rows < out;
         rows += (long long)gridDim.x * at_once) {
        long long row = rows + threadIdx.x / lanes;
        long long start = row * width, end = row < out ? start + width : start;
        float sums[BATCH] = {};
        for (long long run = start / 8 * 8 + 8 * mine; run < end; run += 8 * lanes) {
            Eight<Index> column = load_eight(columns + run, total - run);
            Eight<T> value = load_eight(values + run, total - run);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                bool inside = run + i >= start && run + i < end;
                input.add(sums, inside ? to_float(value.at[i]) : 0.0f, column.at[i]);
            }
        }
        write_row<BATCH>(sums, y, bias, biased, first, input.samples, out, row, mine, lanes);
    }
}

#define KERNEL(name, BATCH, STAGED)                                                                \
    extern "C" __global__ void name(                                                               \
        const Index* columns, const T* values, const T* x, const T* bias, T* y, long long out,     \
        long long width, long long in, long long batch, long long biased, long long lanes) {       \
        DYNAMIC_SHARED(unsigned char, shared);                                                     \
        ell<BATCH, STAGED>(columns, values, x, bias, y, out, width, in, batch, biased, int(lanes), \
                           shared);                                                                \
    }

KERNEL(ell_1, 1, true)
KERNEL(ell_2, 2, true)
KERNEL(ell_4, 4, true)
KERNEL(ell_8, 8, true)
KERNEL(ell_direct, 8, false)
