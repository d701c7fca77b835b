// Dense matrix (and a mask) to the arrays of a sparse format, in order: `pack_count` counts what
// each piece of a row keeps, a running sum over the counts says where each piece begins,
// `pack_fill` writes values and columns there. With the whole matrix as one row that is the bitmap
// format: `pack_count` writes the bits as well, 32 to a word, and no columns are wanted.
//
// Bytes: for n entries of b bytes of which k are kept, with columns of c bytes,
//     n (1 with a mask, otherwise b)                    to count (and n/8 for bits)
//     n (1 + b) + k (b + c)                             to fill with a mask, at most: sectors of
//                                                       values that it leaves out are not read
// Operations: a ballot and a population count per 32 entries; the limit is the memory.
//
// Shape: a warp takes PIECE entries of one row, 32 at a time: the ballot of what they keep is at
// once the bitmap's word, the count, and each lane's place. Pieces rather than rows, so that a
// matrix of few long rows fills the device, too. STEPS loads of 32 entries are in flight per warp.
// Places come from counts alone, so the result is the same every time.
//
// Values are copied as `Word`s, unsigned integers of their size: that is exact, and one source
// serves all dtypes. A zero is what has no bit set but the sign.

#include "types.cuh"

#define PIECE 1024
#define STEPS 4

struct Piece {
    long long row, index, begin, end;  // columns begin to end
};

__device__ static bool find(Piece& piece, long long rows, long long columns) {
    long long pieces = (columns + PIECE - 1) / PIECE;
    piece.index = blockIdx.x * (long long)(blockDim.x / WARP) + threadIdx.x / WARP;
    if (piece.index >= rows * pieces) return false;
    piece.row = piece.index / pieces;
    piece.begin = (piece.index - piece.row * pieces) * PIECE;
    piece.end = min(piece.begin + PIECE, columns);
    return true;
}

// Whether the entry at `at` stays; `mask` may be null, then all but zeros do.
__device__ static bool stays(const WORD* matrix, const unsigned char* mask, long long at) {
    return mask ? mask[at] != 0 : (WORD)(matrix[at] << 1) != 0;
}

// `counts` is [rows * pieces]; `bits`, words of 32 flags, needs a single row, or is null.
extern "C" __global__ void pack_count(const WORD* matrix, const unsigned char* mask, long long rows,
                                      long long columns, int* counts, unsigned* bits) {
    Piece piece;
    if (!find(piece, rows, columns)) return;
    int lane = threadIdx.x % WARP, count = 0;
    const long long start = piece.row * columns;
    for (long long base = piece.begin; base < piece.end; base += WARP * STEPS) {
        bool kept[STEPS];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            long long column = base + s * WARP + lane;
            kept[s] = column < piece.end && stays(matrix, mask, start + column);
        }
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            unsigned flags = __ballot_sync(FULL_WARP, kept[s]);
            count += __popc(flags);
            if (bits && lane == 0 && base + s * WARP < piece.end) bits[base / WARP + s] = flags;
        }
    }
    if (lane == 0) counts[piece.index] = count;
}

// `ends` [rows * pieces] are the running sums of the counts. `columns_out` may be null.
extern "C" __global__ void pack_fill(const WORD* matrix, const unsigned char* mask, long long rows,
                                     long long columns, const long long* ends, WORD* values,
                                     INDEX* columns_out) {
    Piece piece;
    if (!find(piece, rows, columns)) return;
    int lane = threadIdx.x % WARP;
    unsigned before = (1u << lane) - 1;
    const long long start = piece.row * columns;
    long long next = piece.index ? ends[piece.index - 1] : 0;
    for (long long base = piece.begin; base < piece.end; base += WARP * STEPS) {
        bool kept[STEPS];
        WORD value[STEPS];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            long long column = base + s * WARP + lane;
            kept[s] = column < piece.end && stays(matrix, mask, start + column);
            if (kept[s]) value[s] = matrix[start + column];
        }
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            unsigned flags = __ballot_sync(FULL_WARP, kept[s]);
            if (kept[s]) {
                long long to = next + __popc(flags & before);
                values[to] = value[s];
                if (columns_out) columns_out[to] = (INDEX)(base + s * WARP + lane);
            }
            next += __popc(flags);
        }
    }
}
