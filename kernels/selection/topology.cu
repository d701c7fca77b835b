// A new topology for a CSR matrix: entries of |w| <= threshold go, grown ones come in, and columns
// stay ascending, without a sort of what was there. `topology_count` counts what each row keeps, a
// running sum says where rows begin, `topology_merge` moves the rest there.
//
// Bytes: k entries of b bytes, k' of them after the update, g grown:
//     k (b + 4)                                  to count
//     k (b + 4) + k' (b + 8) + 2 g (b + 4)       to merge: new columns and values, and where each
//                                                comes from, for momentum and the like
// Operations: a binary search among the row's grown entries per entry that stays; the limit is
// memory.
//
// Shape: a warp per row, 32 entries at a time. A ballot tells every lane how many entries before it
// stay. An entry that stays moves on by the grown ones in front of it; a grown one finds its place
// among the 32 columns that the warp holds, by a search through the lanes' registers. Nothing
// depends on the order in which warps run.
//
// Source: S3 (Ertl, section on evolution), where this step runs on the CPU.

#include "types.cuh"

#define BEYOND 0x7fffffff

// The first place in [from, to) whose column is not below `column`.
__device__ static long long first_from(const int* columns, long long from, long long to,
                                       int column) {
    while (from < to) {
        long long middle = (from + to) / 2;
        if (columns[middle] < column)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

// `counts` [rows] gets how many entries rows have after the update, `clashes` [1] how many grown
// ones are there already. `grown_starts` [rows + 1] says where each row's begin in `grown_columns`.
extern "C" __global__ void topology_count(const int* crow, const int* columns, const T* values,
                                          long long rows, float threshold,
                                          const long long* grown_starts, const int* grown_columns,
                                          int* counts, int* clashes) {
    long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (row >= rows) return;
    int lane = threadIdx.x % WARP, count = 0, clashing = 0, end = crow[row + 1];
    long long grown = grown_starts[row], grown_end = grown_starts[row + 1];
    for (int i = crow[row] + lane; i < end; i += WARP) {
        if (!(fabsf(to_float(values[i])) > threshold)) continue;
        count++;
        if (grown == grown_end) continue;
        long long at = first_from(grown_columns, grown, grown_end, columns[i]);
        clashing += at < grown_end && grown_columns[at] == columns[i];
    }
    for (int apart = WARP / 2; apart; apart /= 2) {
        count += __shfl_xor_sync(FULL_WARP, count, apart);
        clashing += __shfl_xor_sync(FULL_WARP, clashing, apart);
    }
    if (lane == 0) counts[row] = count + (int)(grown_end - grown);
    if (lane == 0 && clashing) atomicAdd(clashes, clashing);
}

// `starts` [rows + 1] are the new rows' beginnings. `sources` gets each entry's old place, -1 if it
// is grown. No grown entry may be one that stays.
extern "C" __global__ void topology_merge(const int* crow, const int* columns, const T* values,
                                          long long rows, float threshold,
                                          const long long* grown_starts, const int* grown_columns,
                                          const T* grown_values, const long long* starts,
                                          int* new_columns, T* new_values, int* sources) {
    long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (row >= rows) return;
    int lane = threadIdx.x % WARP, begin = crow[row], end = crow[row + 1];
    long long grown_begin = grown_starts[row], grown_end = grown_starts[row + 1];
    long long grown = grown_begin, start = starts[row];
    int seen = 0;  // entries that stay, before these 32
    for (int base = begin; base < end || base == begin; base += WARP) {
        int i = base + lane;
        int column = i < end ? columns[i] : BEYOND;
        T value = i < end ? values[i] : from_float<T>(0);
        bool stays = i < end && fabsf(to_float(value)) > threshold;
        unsigned flags = __ballot_sync(FULL_WARP, stays);
        if (stays) {
            long long before = first_from(grown_columns, grown, grown_end, column) - grown_begin;
            long long to = start + before + seen + __popc(flags & ((1u << lane) - 1));
            new_columns[to] = column;
            new_values[to] = value;
            sources[to] = i;
        }
        // The grown entries before the last of these columns; in the row's end, all the rest.
        int last = __shfl_sync(FULL_WARP, column, WARP - 1);
        while (grown < grown_end) {
            long long mine = grown + lane;
            int place = mine < grown_end ? grown_columns[mine] : BEYOND, below = 0;
            for (int step = WARP / 2; step; step /= 2)
                if (__shfl_sync(FULL_WARP, column, below + step - 1) < place) below += step;
            if (__shfl_sync(FULL_WARP, column, below) < place) below++;
            bool here = mine < grown_end && (place < last || last == BEYOND || base + WARP >= end);
            if (here) {
                unsigned front = below == WARP ? FULL_WARP : (1u << below) - 1;
                long long to = start + seen + __popc(flags & front) + (mine - grown_begin);
                new_columns[to] = place;
                new_values[to] = grown_values[mine];
                sources[to] = -1;
            }
            int taken = __popc(__ballot_sync(FULL_WARP, here));
            grown += taken;
            if (taken < WARP) break;
        }
        seen += __popc(flags);
    }
}
