// How both bitmap products read W (layout: bitmap_tiles.py).
//
// W is cut into tiles of 8 rows by 16 columns, 128 bits each; lane l of a warp has the four bits
// from 4 l on, that is four columns of row l / 4 from column 4 (l % 4) on. Eight tiles side by side
// make a chunk: 32 words of 32 bits, one per lane, and one offset into the values. A scan of the
// words' counts gives each word's place, two shuffles and one count within a word each lane's, and
// the values of a tile, at most 256 bytes of fp16, are read side by side, so that a load touches
// one or two lines.

#define TILES 8
#define TILE_COLUMNS 16
#define CHUNK_COLUMNS 128

struct Chunk {
    unsigned word;  // the lane's own of the 32
    int place;      // of that word's first value
};

__device__ __forceinline__ Chunk load_chunk(const unsigned* words, const int* offsets,
                                            long long chunk, int lane) {
    unsigned word = words[chunk * WARP + lane];
    int count = __popc(word), place = count;
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        int before = __shfl_up_sync(FULL_WARP, place, step);
        if (lane >= step) place += before;
    }
    return {word, offsets[chunk] + place - count};
}

// The lane's four entries of a tile, zeros among them.
__device__ __forceinline__ Pack<T, 4> load_entries(const Chunk& chunk, int tile, const T* values,
                                                   int lane) {
    int source = 4 * tile + lane / 8, shift = lane % 8 * 4;
    unsigned word = __shfl_sync(FULL_WARP, chunk.word, source);
    int place = __shfl_sync(FULL_WARP, chunk.place, source) + __popc(word & ((1u << shift) - 1));
    Pack<T, 4> entries;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        bool kept = word >> (shift + i) & 1;
        entries.at[i] = kept ? values[place] : T{};
        place += kept;
    }
    return entries;
}

// Four neighbouring entries of a sample; `stride`, the length of a row of x, is a multiple of four.
__device__ __forceinline__ Pack<T, 4> load_input(const T* x, long long sample, long long batch,
                                                 long long column, long long stride) {
    if (sample < batch && column < stride) return load<4>(x + sample * stride + column);
    return {};
}
