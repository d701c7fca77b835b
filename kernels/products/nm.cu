// N:M product for small batches, for the N:M, dtypes and shapes that the vendor's library refuses:
//   y[b, o] = bias[o] + sum over i of W[o, i] * x[b, i], N of every M consecutive i kept
//
// Limit: bytes of W, out * in * N / M * (sizeof(T) + bits / 8) with `bits` = ceil(log2 M) per
// place, read once per tile of BATCH samples; after the first tile mostly from L2. Against
// dense, fp16 can win at most 3.6x at 1:4, 1.8x at 2:4, 1.7x at 4:8, fp32 3.8x, 1.9x, 1.8x.
// Operations: 2 * batch * out * in * N / M on CUDA cores, so batches far above 32 are better off
// dense.
//
// Shape: as the ELL product (ell.cu, small_batch.cuh), of which this is the form with columns of
// 1 to 8 bits. Places are packed row after row without gaps; eight of them, aligned to eight,
// are `bits` whole bytes, which neighbouring lanes read side by side. A run of eight values
// needs one division, by N. Values of one run lie within 8 * M / N inputs, so the look-ups in
// shared memory conflict little.

#include "types.cuh"
#include "small_batch.cuh"

// The places of the eight values from `run` on, `bits` each, lowest first.
__device__ __forceinline__ unsigned long long load_places(const unsigned char* places,
                                                          long long run, long long total,
                                                          int bits) {
    const unsigned char* from = places + run / 8 * bits;
    long long left = total - run;
    int bytes = left >= 8 ? bits : int((left * bits + 7) / 8);
    unsigned long long packed = 0;
    for (int i = 0; i < bytes; ++i) packed |= (unsigned long long)from[i] << (8 * i);
    return packed;
}

template <int BATCH, bool STAGED>
__device__ __forceinline__ void nm(const unsigned char* places, const T* values, const T* x,
                                   const T* bias, T* y, long long out, long long width,
                                   long long in, long long batch, long long biased, int lanes,
                                   unsigned n, unsigned m, int bits, void* shared) {
    long long first = (long long)blockIdx.y * BATCH;
    Input<BATCH, STAGED> input(x, shared, in, first, batch);
    int mine = threadIdx.x % lanes, at_once = blockDim.x / lanes;
    long long total = out * width;
    unsigned mask = (1u << bits) - 1;
    for (long long rows = (long long)blockIdx.x * at_once; rows < out;
         rows += (long long)gridDim.x * at_once) {
        long long row = rows + threadIdx.x / lanes;
        long long start = row * width, end = row < out ? start + width : start;
        float sums[BATCH] = {};
        for (long long run = start / 8 * 8 + 8 * mine; run < end; run += 8 * lanes) {
            unsigned long long packed = load_places(places, run, total, bits);
            Eight<T> value = load_eight(values + run, total - run);
            // `width` is a multiple of n: a group of n values never straddles two rows.
            unsigned group = unsigned(run) / n, member = unsigned(run) % n;
            unsigned base = (group - unsigned(start) / n) * m;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                unsigned column = base + (unsigned(packed >> (i * bits)) & mask);
                bool inside = run + i >= start && run + i < end;
                // Of another row, or a zero that fills up a short last group: times any column.
                if (!inside || column >= unsigned(in)) column = unsigned(in) - 1;
                input.add(sums, inside ? to_float(value.at[i]) : 0.0f, int(column));
                if (++member == n) member = 0, base += m;
            }
        }
        write_row<BATCH>(sums, y, bias, biased, first, input.samples, out, row, mine, lanes);
    }
}

#define KERNEL(name, BATCH, STAGED)                                                              \
    extern "C" __global__ void name(const unsigned char* places, const T* values, const T* x,    \
                                    const T* bias, T* y, long long out, long long width,         \
                                    long long in, long long batch, long long biased,             \
                                    long long lanes, long long n, long long m, long long bits) { \
        DYNAMIC_SHARED(unsigned char, shared);                                                   \
        nm<BATCH, STAGED>(places, values, x, bias, y, out, width, in, batch, biased, int(lanes), \
                          unsigned(n), unsigned(m), int(bits), shared);                          \
    }

KERNEL(nm_1, 1, true)
KERNEL(nm_2, 2, true)
KERNEL(nm_4, 4, true)
KERNEL(nm_8, 8, true)
KERNEL(nm_direct, 8, false)
