// A tile of BM outputs by BN columns in float arithmetic: TM x TN sums a thread, from two tiles in
// shared memory that are filled for the next BK kept positions while these are multiplied.
//
// Shared reads: a warp reads BM-side packs of 16 bytes as broadcasts and BN-side packs in order, so
// TM + TN words feed TM * TN multiply-adds (8 x 8: 4 of them a word read).

#define BK 8
constexpr int ACROSS = BN / TN, DOWN = BM / TM, THREADS = ACROSS * DOWN;

struct Tiles {
    alignas(16) float values[2][BK][BM + 4];
    alignas(16) float x[2][BK][BN + 4];
};

template <typename End, typename Gather, typename MakeEnd>
__device__ __forceinline__ void product(Tiles &tiles, Gather &gather, MakeEnd make_end,
                                        const T *values, long long pitch, long long outs,
                                        long long first, const Span &span) {
    static_assert(sizeof(Tiles) >= sizeof(float) * DOWN * End::PITCH, "the end needs more room");
    constexpr int OWN = BM * BK / THREADS;
    const int across = threadIdx.x % ACROSS, down = threadIdx.x / ACROSS;
    float sums[TM][TN] = {};
    T weights[OWN];

    constexpr int ROWS = THREADS / BK;
    const int row = threadIdx.x / BK, column = threadIdx.x % BK;
    const int rows = static_cast<int>(min(outs - first - row, static_cast<long long>(BM)));
    const T *from = values + (first + row) * pitch + column;
    const int step = static_cast<int>(pitch) * ROWS;
    auto fetch_values = [&](int k) {
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            weights[i] = i * ROWS < rows && k + column < span.end ? from[i * step + k] : T{};
    };
    auto put = [&](int stage) {
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            tiles.values[stage][column][row + i * ROWS] = to_float(weights[i]);
#pragma unroll
        for (int i = 0; i < Gather::WORDS; ++i)
            tiles.x[stage][gather.deep(i)][gather.column(i)] = to_float(gather.taken[i]);
    };

    gather.prepare();
    __syncthreads();
    gather.fetch();
    fetch_values(span.begin);
    gather.prepare();
    put(0);
    __syncthreads();
    int stage = 0;
    for (int k = span.begin; k < span.end; k += BK, stage ^= 1) {
        const bool more = k + BK < span.end;
        if (more) {
            gather.fetch();
            fetch_values(k + BK);
            gather.prepare();
        }
#pragma unroll
        for (int i = 0; i < BK; ++i) {
            float a[TM], b[TN];
#pragma unroll
            for (int q = 0; q < TM; q += 4) {
                const auto pack = load<4>(&tiles.values[stage][i][q * DOWN + down * 4]);
#pragma unroll
                for (int r = 0; r < 4; ++r) a[q + r] = pack.at[r];
            }
#pragma unroll
            for (int q = 0; q < TN; q += 4) {
                const auto pack = load<4>(&tiles.x[stage][i][q * ACROSS + across * 4]);
#pragma unroll
                for (int r = 0; r < 4; ++r) b[q + r] = pack.at[r];
            }
#pragma unroll
            for (int m = 0; m < TM; ++m)
#pragma unroll
                for (int n = 0; n < TN; ++n) sums[m][n] = fmaf(a[m], b[n], sums[m][n]);
        }
        if (more) put(stage ^ 1);
        __syncthreads();
    }

    // One row of each thread at a time through shared memory, so that the end writes whole lines.
    const End end = make_end();  // as late as here, to hold no registers before
    float *slab = reinterpret_cast<float *>(&tiles);
#pragma unroll
    for (int m = 0; m < TM; ++m) {
#pragma unroll
        for (int n = 0; n < TN; ++n)
            slab[down * End::PITCH + n / 4 * 4 * ACROSS + across * 4 + n % 4] = sums[m][n];
        __syncthreads();
        end.write(slab, [&](int r) { return first + m / 4 * 4 * DOWN + r * 4 + m % 4; });
        __syncthreads();
    }
}
