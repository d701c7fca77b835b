// The gather and the end (grouped.cuh) of a convolution: columns are the output pixels of all images.

#include "grouped.cuh"

// A convolution of one to three dimensions, in three. `ins` and `outs` are the sizes of an image.
struct Geometry {
    long long batch, channels, groups, all_outs;
    int ins[3], outs[3], kernel[3], stride[3], padding[3], dilation[3];

    __device__ __forceinline__ long long plane() const {
        return static_cast<long long>(ins[0]) * ins[1] * ins[2];
    }
    __device__ __forceinline__ long long positions() const {
        return static_cast<long long>(outs[0]) * outs[1] * outs[2];
    }
};

#define GEOMETRY_ARGUMENTS                                                                        \
    long long batch, long long channels, long long groups, long long all_outs, long long in0,     \
        long long in1, long long in2, long long out0, long long out1, long long out2,             \
        long long kernel0, long long kernel1, long long kernel2, long long stride0,               \
        long long stride1, long long stride2, long long padding0, long long padding1,             \
        long long padding2, long long dilation0, long long dilation1, long long dilation2
#define INTS(name) \
    { static_cast<int>(name##0), static_cast<int>(name##1), static_cast<int>(name##2) }
#define GEOMETRY                                                                                  \
    {batch,     channels,     groups,       all_outs,      INTS(in), INTS(out),                   \
     INTS(kernel), INTS(stride), INTS(padding), INTS(dilation)}

// A kept position: how far it is in memory from a pixel's first one, and a bit for each of its kernel
// slice, row and column, which are `bits` of a pixel where they fall inside of the image there. That
// makes padding one AND per entry; the bits are those of one word, so the kernel's three sizes may add
// up to 31.
struct alignas(8) Place {
    int offset;
    unsigned bits;
};

template <int DEPTH, int TILE, int THREADS, int PACKED>
struct Pixels {  // lanes run along the pixels
    static constexpr int COLUMNS = 2, LANES = TILE / COLUMNS, STEP = THREADS / LANES;
    static constexpr int DEEP = DEPTH / PACKED, WORDS = DEEP / STEP * COLUMNS;
    static constexpr bool ALONG_K = false;
    static_assert(THREADS % LANES == 0 && DEEP % STEP == 0, "the threads do not tile X");
    // Every RUN steps each thread works out one place, for the RUN steps after those prepared.
    static constexpr int RUN = THREADS / DEPTH, PLACES = 2 * THREADS;
    static_assert(THREADS % DEPTH == 0, "the threads do not share out the places");

    const Geometry &g;
    const int *kept;
    Place *places;  // shared, PLACES of them: one half is read while the other is written
    int reading = 0, prepared = 0, ahead, next, last;
    const T *pixel[COLUMNS];
    unsigned inside[COLUMNS];
    T taken[WORDS * PACKED];

    __device__ __forceinline__ Pixels(const T *x, const int *kept, const Geometry &g, int group,
                                      Place *places, long long start, const Span &span)
        : g(g), kept(kept), places(places), next(span.begin + threadIdx.x), last(span.end) {
        const long long positions = g.positions();
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            const long long place = start + column(c), image = place / positions;
            const int p = static_cast<int>(place - image * positions);
            const int at[] = {p / (g.outs[1] * g.outs[2]), p / g.outs[2] % g.outs[1],
                              p % g.outs[2]};
            long long entry = image * g.channels + group * (g.channels / g.groups);
            unsigned bit = 1;
            inside[c] = 0;
            for (int d = 0; d < 3; ++d) {
                const int first = at[d] * g.stride[d] - g.padding[d];
                entry = entry * g.ins[d] + first;
                for (int i = 0; i < g.kernel[d]; ++i, bit <<= 1) {
                    const int here = first + i * g.dilation[d];
                    if (image < g.batch && here >= 0 && here < g.ins[d]) inside[c] |= bit;
                }
            }
            pixel[c] = x + entry;
        }
        look();
    }

    __device__ __forceinline__ static int deep(int i) {
        return threadIdx.x / LANES + i / COLUMNS * STEP;
    }
    __device__ __forceinline__ static int column(int i) {
        return threadIdx.x % LANES + i % COLUMNS * LANES;
    }

    __device__ __forceinline__ void look() {
        ahead = next < last ? kept[next] : -1;
        next += THREADS;
    }

    __device__ __forceinline__ void prepare() {
        if (prepared % RUN == 0) {
            const unsigned columns = g.kernel[2], rows = g.kernel[1], slices = g.kernel[0];
            const unsigned line = ahead / columns, column = ahead - line * columns;
            const unsigned plane = line / rows, row = line - plane * rows;
            const unsigned channel = plane / slices, slice = plane - channel * slices;
            Place place;
            place.offset = ((channel * g.ins[0] + slice * g.dilation[0]) * g.ins[1] +
                            row * g.dilation[1]) * g.ins[2] + column * g.dilation[2];
            place.bits = ahead < 0 ? ~0u
                                   : 1u << slice | 1u << (slices + row) |
                                         1u << (slices + rows + column);
            places[prepared / RUN % 2 * THREADS + threadIdx.x] = place;
            look();
        }
        ++prepared;
    }

    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < WORDS; i += COLUMNS) {
#pragma unroll
            for (int j = 0; j < PACKED; ++j) {
                // One address for the whole warp: a broadcast.
                const Place place = places[reading + deep(i) * PACKED + j];
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c)
                    taken[(i + c) * PACKED + j] = place.bits & ~inside[c] ? T{} : pixel[c][place.offset];
            }
        }
        reading = (reading + DEPTH) % PLACES;
    }
};

template <int ROWS, int TILE, int THREADS>
struct PixelsEnd {  // to y[batch, groups * outs, positions], lanes along the positions
    static constexpr int PITCH = TILE;
    static_assert(THREADS % TILE == 0, "a thread has one column");
    const Result &result;
    long long outs, first, place, positions;  // `first` output of the group; `place` < 0: no pixel

    __device__ __forceinline__ PixelsEnd(const Result &result, const Geometry &g, int group,
                                         long long start)
        : result(result), outs(g.all_outs / g.groups), positions(g.positions()) {
        const long long column = start + threadIdx.x % TILE, image = column / positions;
        first = group * outs;
        place = image < g.batch
                    ? (image * g.all_outs + first) * positions + column % positions
                    : -1;
    }

    template <typename Output>
    __device__ __forceinline__ void write(const float *slab, Output output) const {
        for (int r = threadIdx.x / TILE; r < ROWS && place >= 0; r += THREADS / TILE) {
            const long long o = output(r);
            if (o < outs)
                result.put(place + o * positions, first + o, slab[r * PITCH + threadIdx.x % TILE]);
        }
    }
};
