// The gather and the end (grouped.cuh) of a linear layer: columns are the rows of x[batch, ins].

#include "grouped.cuh"

template <int DEPTH, int TILE, int THREADS, int PACKED>
struct Inputs {  // lanes run along k, within a row's lines
    static constexpr int DEEP = DEPTH / PACKED, STEP = THREADS / DEEP, WORDS = TILE / STEP;
    static constexpr bool ALONG_K = true;
    static_assert(THREADS % DEEP == 0 && TILE % STEP == 0, "the threads do not tile X");

    const int *kept;
    const T *from;
    int step;  // entries of x between two words of a thread
    int next, last, rows;
    int now[PACKED], ahead[PACKED];
    T taken[WORDS * PACKED];

    __device__ __forceinline__ Inputs(const T *x, const int *kept, long long ins, long long batch,
                                      long long start, const Span &span)
        : kept(kept), step(static_cast<int>(ins) * STEP), next(span.begin + deep(0) * PACKED),
          last(span.end) {
        const long long row = start + column(0);
        from = x + row * ins;
        rows = static_cast<int>(min(batch - row, static_cast<long long>(TILE)));
        look();
    }

    __device__ __forceinline__ static int deep(int) { return threadIdx.x % DEEP; }
    __device__ __forceinline__ static int column(int i) { return threadIdx.x / DEEP + i * STEP; }

    __device__ __forceinline__ void look() {
#pragma unroll
        for (int j = 0; j < PACKED; ++j) ahead[j] = next + j < last ? kept[next + j] : -1;
        next += DEPTH;
    }

    __device__ __forceinline__ void prepare() {
#pragma unroll
        for (int j = 0; j < PACKED; ++j) now[j] = ahead[j];
        look();
    }

    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < WORDS; ++i) {
#pragma unroll
            for (int j = 0; j < PACKED; ++j)
                taken[i * PACKED + j] = i * STEP < rows && now[j] >= 0 ? from[i * step + now[j]] : T{};
        }
    }
};

template <int ROWS, int TILE, int THREADS>
struct InputsEnd {  // to y[batch, outs], lanes along the outputs
    static constexpr int PITCH = TILE + 1;
    const Result &result;
    long long start, batch, outs;

    template <typename Output>
    __device__ __forceinline__ void write(const float *slab, Output output) const {
        const int r = threadIdx.x % ROWS;
        const long long o = output(r);
        if (o < outs)
            for (int n = threadIdx.x / ROWS; n < TILE && start + n < batch; n += THREADS / ROWS)
                result.put((start + n) * outs + o, o, slab[r * PITCH + n]);
    }
};
