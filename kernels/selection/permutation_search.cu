// What the runs of an N:M matrix keep with any other channel in any of their places: for every
// place p and channel c the sum over the rows r of max(limits[p][r], columns[c][r]). Exchanging two
// channels gains what both places then keep, less what they keep now, so that one such table judges
// all exchanges at once; the host picks.
//
// Operations: 2 P C R for P places, C channels and R rows (a maximum and an addition; no tensor
// core has them): 1.1 G for 512 places and channels of 2,048 rows, 33 us at 33 T/s, where 8 places
// of two exchanged runs take 17 M. Bytes: 4 R (P + C) once from memory, 8 R P C / TILE from the
// cache.
//
// Shape: as a product's: a block makes TILE x TILE sums from stretches of DEPTH rows in shared
// memory, a thread 4 x 4 of them in registers, so 8 loads of shared memory feed 32 operations. Rows
// are cut into `splits` for a table of few tiles; each split writes a table of its own, added up
// afterwards in order, so that the result is the same every time.
//
// Source: Pool & Yu, Channel Permutations for N:M Sparsity (2021).

#include "types.cuh"

#define TILE 64
#define DEPTH 32
#define PITCH (TILE + 4)  // a multiple of 4, for loads of four
#define THREADS 256

// `limits` is [places, rows], `columns` [channels, rows]; `out` [splits, places, channels], where
// split z has `stretch` rows from z * stretch on.
extern "C" __global__ void __launch_bounds__(THREADS)
larger_sums(const float* limits, const float* columns, long long places, long long channels,
            long long rows, long long stretch, float* out) {
    alignas(16) __shared__ float down[DEPTH * PITCH];
    alignas(16) __shared__ float across[DEPTH * PITCH];
    long long first_place = blockIdx.y * (long long)TILE;
    long long first_channel = blockIdx.x * (long long)TILE;
    long long end = min(rows, (blockIdx.z + 1) * stretch);
    int lane = threadIdx.x % DEPTH, line = threadIdx.x / DEPTH;
    int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
    float sums[4][4] = {};

    for (long long row = blockIdx.z * stretch; row < end; row += DEPTH) {
        // Beyond an edge there are zeros: the larger of two is zero, and adds nothing.
        bool inside = row + lane < end;
#pragma unroll
        for (int i = line; i < TILE; i += THREADS / DEPTH) {
            long long p = first_place + i, c = first_channel + i;
            int at = lane * PITCH + i;
            down[at] = inside && p < places ? limits[p * rows + row + lane] : 0.0f;
            across[at] = inside && c < channels ? columns[c * rows + row + lane] : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < DEPTH; k++) {
            Pack<float, 4> limit = load<4>(down + k * PITCH + y);
            Pack<float, 4> column = load<4>(across + k * PITCH + x);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sums[i][j] += fmaxf(limit.at[i], column.at[j]);
            }
        }
        __syncthreads();
    }

    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            long long p = first_place + y + i, c = first_channel + x + j;
            if (p < places && c < channels)
                out[(blockIdx.z * places + p) * channels + c] = sums[i][j];
        }
    }
}
