// Keeps the N highest of every M entries of a row, as a mask and, if wanted, packed at once: the
// kept values and their places in the run with as few bits as M needs. Of equal entries the one
// with the lower index goes first. A row's last run is filled up with entries lower than any.
//
// Bytes: for n entries of b bytes
//     n (b + 1)                                        mask only
//     n (b + 1 + N/M (b + log2(M)/8))                  with the packed form
// Operations: an entry's rank is how many of its run go before it, so M - 1 comparisons decide two
// entries each: 3 (M - 1) / 2 instructions per entry in registers, 5 for M = 4 and 47 for M = 32.
// Up to M = 16 the memory is the limit (5 bytes per float entry: 0.10 ms for 100M at 4.8 TB/s), at
// 32 the comparisons take about one and a half times as long.
//
// Shape: a thread ranks one run. `nm_mask` takes neighbouring entries, which blocks bring through
// shared memory, so that a warp reads 32 neighbours at a time whatever M is; rows of M + 1 there
// keep 32 threads in 32 banks. The decisions are kept as one word of M bits per run, from which the
// mask, the values and the indices are written in the order in which they lie. `nm_mask_apart`
// takes entries `step` columns apart (input channels at one kernel position): there neighbouring
// threads already read neighbours.
//
// Source: Mishra et al., Accelerating Sparse Deep Neural Networks (2021).

#include "types.cuh"

#define RUNS 256  // per block, one per thread
#define LOWEST __uint_as_float(0xff800000u)

// The bits of the `n` highest of a run.
__device__ static unsigned choose(const float* run, int n) {
    int after[M];  // how many go later, or not at all
#pragma unroll
    for (int i = 0; i < M; i++) after[i] = M - 1 - i;
#pragma unroll
    for (int i = 0; i < M; i++) {
#pragma unroll
        for (int j = i + 1; j < M; j++) {
            bool later = run[i] > run[j];
            after[i] -= later;
            after[j] += later;
        }
    }
    unsigned kept = 0;
#pragma unroll
    for (int i = 0; i < M; i++) kept |= (unsigned)(after[i] < n) << i;
    return kept;
}

// The place of the set bit of `word` that has `before` set bits below it.
__device__ static int place(unsigned word, int before) {
    while (before--) word &= word - 1;
    return __ffs(word) - 1;
}

// `runs_in_row` runs of M make a row of `columns`, `runs` of them the matrix. With `magnitude`
// entries are ranked by their size. `mask`, `values` and `indices` may be null; `indices` has
// `bits` each.
extern "C" __global__ void __launch_bounds__(RUNS)
nm_mask(const T* scores, unsigned char* mask, T* values, unsigned char* indices, long long runs,
        long long runs_in_row, long long columns, long long n, long long bits,
        long long magnitude) {
    __shared__ float staged[RUNS * (M + 1)];
    __shared__ unsigned kept[RUNS];
    long long first = (long long)blockIdx.x * RUNS;
    int count = (int)min((long long)RUNS, runs - first);
    bool whole = runs_in_row * M == columns;
    // Where an entry of this block lies in the matrix; -1 beyond the end of its row.
    auto at = [&](int run, int j) -> long long {
        if (whole) return (first + run) * M + j;
        unsigned row = (unsigned)(first + run) / (unsigned)runs_in_row;
        long long column = (first + run - row * runs_in_row) * M + j;
        return column < columns ? row * columns + column : -1;
    };

#pragma unroll
    for (int k = 0; k < M; k++) {
        int i = k * RUNS + threadIdx.x, run = i / M, j = i % M;
        long long from = run < count ? at(run, j) : -1;
        float score = from < 0 ? LOWEST : to_float(scores[from]);
        staged[run * (M + 1) + j] = magnitude && from >= 0 ? fabsf(score) : score;
    }
    __syncthreads();
    float run[M];
#pragma unroll
    for (int j = 0; j < M; j++) run[j] = staged[threadIdx.x * (M + 1) + j];
    kept[threadIdx.x] = choose(run, (int)n);
    __syncthreads();

    if (mask && whole) {
        for (int i = threadIdx.x * 4; i < count * M; i += RUNS * 4) {
            unsigned four = kept[i / M] >> i % M & 15;  // its bits to the lowest ones of four bytes
            *(unsigned*)(mask + first * M + i) = (four * 0x204081u) & 0x01010101u;
        }
    } else if (mask) {
        for (int i = threadIdx.x; i < count * M; i += RUNS) {
            long long to = at(i / M, i % M);
            if (to >= 0) mask[to] = kept[i / M] >> i % M & 1;
        }
    }
    if (values) {
        for (int e = threadIdx.x; e < count * (int)n; e += RUNS) {
            int r = e / (int)n;
            long long from = at(r, place(kept[r], e % (int)n));
            values[first * n + e] = from < 0 ? from_float<T>(0) : scores[from];
        }
    }
    if (indices) {  // 256 runs end on a whole byte, whatever n and bits are
        int used = count * (int)(n * bits);
        for (int byte = threadIdx.x; byte * 8 < used; byte += RUNS) {
            unsigned packed = 0;
            for (int k = 0; k < 8 && byte * 8 + k < used; k++) {
                int bit = byte * 8 + k, e = bit / (int)bits;
                int j = place(kept[e / (int)n], e % (int)n);
                packed |= (unsigned)(j >> bit % (int)bits & 1) << k;
            }
            indices[first * n * bits / 8 + byte] = (unsigned char)packed;
        }
    }
}

// As above, for runs of entries that are `step` columns apart; `spans` of M * step columns cover a
// row.
extern "C" __global__ void __launch_bounds__(RUNS)
nm_mask_apart(const T* scores, unsigned char* mask, long long runs, long long spans,
              long long columns, long long step, long long n) {
    long long thread = (long long)blockIdx.x * RUNS + threadIdx.x;
    if (thread >= runs) return;
    unsigned span = (unsigned)thread / (unsigned)step, row = span / (unsigned)spans;
    long long column = (span - row * spans) * M * step + (thread - span * step);
    long long start = row * columns;
    float run[M];
#pragma unroll
    for (int j = 0; j < M; j++)
        run[j] = column + j * step < columns ? to_float(scores[start + column + j * step]) : LOWEST;
    unsigned kept = choose(run, (int)n);
#pragma unroll
    for (int j = 0; j < M; j++)
        if (column + j * step < columns) mask[start + column + j * step] = kept >> j & 1;
}
