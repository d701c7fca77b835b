// Reduces a matrix over the rectangles between given row and column borders: the sum of the entries
// (REDUCE 0), of their sizes (1), of their squares (2), or the largest size (3). Pixels of a
// picture are such cells, and so are blocks, vectors, kernels, columns and filters whose norm is a
// score.
//
// Bytes: every entry within the borders is read once, b bytes each; 4 bytes a cell are written.
// Operations: 2 to 3 per entry. The limit is the memory: 100M float entries take 83 us at 4.8 TB/s.
//
// Shape: a block takes up to BANDS bands of rows and `group` neighbouring cells, about as many
// columns as it has threads. Each thread walks down its own column, so that a warp always reads
// neighbours, with DEPTH rows in flight wherever bands end; its sums go to a strip in shared
// memory, one row per band. Cells then gather their columns from there: a thread each, or a warp
// where they are wide. A place is skipped after every 32 in a strip, so that cells of any width
// from 1 to 32 read from different banks. Sums have a fixed order, so the result is the same every
// time. The wrapper cuts tall and wide cells into parts, which keeps all multiprocessors busy and
// rounding small.

#include "types.cuh"

#define THREADS 256
#define BANDS 8
#define DEPTH 8
#define STRIP (THREADS + THREADS / 32)

__device__ __forceinline__ float to_float(unsigned char value) { return value; }

__device__ static float take(float so_far, float value) {
#if REDUCE == 0
    return so_far + value;
#elif REDUCE == 1
    return so_far + fabsf(value);
#elif REDUCE == 2
    return fmaf(value, value, so_far);
#else
    return fmaxf(so_far, fabsf(value));
#endif
}

__device__ static float join(float one, float two) {
#if REDUCE == 3
    return fmaxf(one, two);
#else
    return one + two;
#endif
}

__device__ static int skewed(int place) { return place + place / 32; }

// `rows` [bands + 1] and `columns` [cells + 1] are the borders in a matrix `stride` entries wide,
// which may leave cells empty; `out` is [bands, cells]. A block takes `at_once` <= BANDS bands.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
cells(const T* matrix, long long stride, const long long* rows, long long bands,
      const long long* columns, long long count, long long at_once, long long group, float* out) {
    __shared__ float strips[BANDS][STRIP];
    __shared__ float totals[BANDS][THREADS];
    long long groups = (count + group - 1) / group;
    long long first_band = blockIdx.x / groups * at_once, first = blockIdx.x % groups * group;
    int here = (int)min(at_once, bands - first_band), wide = (int)min(group, count - first);
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    rows += first_band;
    columns += first;
    long long bottom = rows[here], right = columns[wide];
    // A thread for each cell if they are narrower than a warp on average.
    bool narrow = right - columns[0] < (long long)wide * WARP;
    for (int i = thread; i < BANDS * THREADS; i += THREADS) totals[i / THREADS][i % THREADS] = 0;
    __syncthreads();

    for (long long left = columns[0]; left < right; left += THREADS) {
        bool inside = left + thread < right;
        for (int band = 0; band < here; band++) strips[band][skewed(thread)] = 0;
        int band = 0;
        float sum = 0;
        long long next = rows[1];
        for (long long row = rows[0]; row < bottom; row += DEPTH) {
            float values[DEPTH];
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                bool valid = inside && row + d < bottom;
                values[d] = valid ? to_float(matrix[(row + d) * stride + left + thread]) : 0.0f;
            }
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                if (row + d >= bottom) continue;
                while (row + d >= next) {
                    strips[band][skewed(thread)] = sum;
                    sum = 0;
                    next = rows[++band + 1];
                }
                sum = take(sum, values[d]);
            }
        }
        strips[band][skewed(thread)] = sum;
        __syncthreads();

        for (int item = narrow ? thread : warp; item < here * wide;
             item += narrow ? THREADS : THREADS / WARP) {
            int in_band = item / wide, cell = item % wide;
            int from = (int)max(columns[cell] - left, 0ll);
            int to = (int)min(columns[cell + 1] - left, (long long)THREADS);
            float total = 0;
            for (int place = narrow ? from : from + lane; place < to; place += narrow ? 1 : WARP)
                total = join(total, strips[in_band][skewed(place)]);
#if REDUCE == 3
            if (!narrow) total = warp_max(total);
#else
            if (!narrow) total = warp_sum(total);
#endif
            if (narrow || lane == 0) totals[in_band][cell] = join(totals[in_band][cell], total);
        }
        __syncthreads();
    }

    for (int item = thread; item < here * wide; item += THREADS)
        out[(first_band + item / wide) * count + first + item % wide] =
            totals[item / wide][item % wide];
}
