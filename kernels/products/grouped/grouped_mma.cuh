// A tile of BM outputs by BN columns on the tensor cores: fp16, bf16, or float rounded to tf32, with
// float sums. WARPS_M x WARPS_N warps, DEEP words of k a step.
//
// The values come in by cp.async, 16 bytes a thread, and reach the fragments by ldmatrix. The
// gathered side can't use cp.async: it copies 4 bytes or more between addresses aligned to them,
// and a kept 16-bit entry stands alone or at an odd pixel. So it goes through registers, read for
// the next step before this step's products start and stored after them. Rows of shared memory are
// padded (20 words; BN + 8 words) so that each fragment load touches all 32 banks once.

#define DEEP 16
constexpr int PACKED = 4 / sizeof(T), DEPTH = DEEP * PACKED;
constexpr int WARPS = WARPS_M * WARPS_N, THREADS = WARPS * WARP, SLAB = WARPS_M * 16;
constexpr int TALL = BM / WARPS_M / 16, WIDE = BN / WARPS_N / 8;  // a warp's fragments
constexpr int PITCH = DEEP + 4;

struct Tiles {
    alignas(16) unsigned values[2][BM][PITCH];
    alignas(16) unsigned x[2][BN * PITCH > DEEP * (BN + 8) ? BN * PITCH : DEEP * (BN + 8)];
};

__device__ __forceinline__ unsigned word_of(const half *taken) {
    return taken[0].bits | static_cast<unsigned>(taken[1].bits) << 16;
}
__device__ __forceinline__ unsigned word_of(const bfloat16 *taken) {
    return taken[0].bits | static_cast<unsigned>(taken[1].bits) << 16;
}
__device__ __forceinline__ unsigned word_of(const float *taken) {
    return to_tf32(__float_as_uint(taken[0]));
}

template <typename Gather>
__device__ __forceinline__ constexpr int slot(int deep, int column) {
    return Gather::ALONG_K ? column * PITCH + deep : deep * (BN + 8) + column;
}

template <typename End, typename Gather, typename MakeEnd>
__device__ __forceinline__ void product(Tiles &tiles, Gather &gather, MakeEnd make_end,
                                        const T *values, long long pitch, long long outs,
                                        long long first, const Span &span) {
    static_assert(sizeof(Tiles) >= sizeof(float) * SLAB * End::PITCH, "the end needs more room");
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int group = lane / 4, quad = lane % 4;
    const int top = warp / WARPS_N * (BM / WARPS_M), left = warp % WARPS_N * (BN / WARPS_N);
    float sums[TALL][WIDE][4] = {};

    // Each thread copies the same four words of every ROWS-th row.
    constexpr int ROWS = THREADS / (DEEP / 4);
    const int row = threadIdx.x / (DEEP / 4), word = threadIdx.x % (DEEP / 4) * 4;
    const int rows = static_cast<int>(min(outs - first - row, static_cast<long long>(BM)));
    const T *from = rows > 0 ? values + (first + row) * pitch + span.begin + word * PACKED : values;
    const int step = static_cast<int>(pitch) * ROWS;
    auto copy_values = [&](int stage, int k) {
        const int entries = min(max(span.end - k - word * PACKED, 0), 4 * PACKED);
#pragma unroll
        for (int i = 0; i < BM / ROWS; ++i) {
            const int bytes = i * ROWS < rows ? entries * static_cast<int>(sizeof(T)) : 0;
            copy_async(&tiles.values[stage][row + i * ROWS][word],
                       bytes ? from + i * step + (k - span.begin) : values, bytes);
        }
    };
    auto put = [&](int stage) {
#pragma unroll
        for (int i = 0; i < Gather::WORDS; ++i)
            tiles.x[stage][slot<Gather>(gather.deep(i), gather.column(i))] =
                word_of(gather.taken + i * PACKED);
    };

    gather.prepare();
    __syncthreads();
    copy_values(0, span.begin);
    gather.fetch();
    gather.prepare();
    put(0);
    copy_wait();
    __syncthreads();
    int stage = 0;
    for (int k = span.begin; k < span.end; k += DEPTH, stage ^= 1) {
        const bool more = k + DEPTH < span.end;
        if (more) {
            copy_values(stage ^ 1, k + DEPTH);
            gather.fetch();
            gather.prepare();
        }
#pragma unroll
        for (int deep = 0; deep < DEEP; deep += 8) {
            unsigned a[TALL][4], b[WIDE][2];
#pragma unroll
            for (int i = 0; i < TALL; ++i) {
                // Matrices 0 to 3: rows 0-7 and 8-15 at words 0-3, then both at words 4-7.
                load_matrices(a[i], &tiles.values[stage][top + i * 16 + lane % 16]
                                                 [deep + lane / 16 * 4]);
                if (sizeof(T) == 4)
#pragma unroll
                    for (int j = 0; j < 4; ++j) a[i][j] = to_tf32(a[i][j]);
            }
#pragma unroll
            for (int i = 0; i < WIDE; ++i)
#pragma unroll
                for (int j = 0; j < 2; ++j)
                    b[i][j] = tiles.x[stage][slot<Gather>(deep + quad + j * 4, left + i * 8 + group)];
#pragma unroll
            for (int i = 0; i < TALL; ++i)
#pragma unroll
                for (int j = 0; j < WIDE; ++j) mma(sums[i][j], a[i], b[j], T{});
        }
        if (more) put(stage ^ 1);
        copy_wait();
        __syncthreads();
    }

    // Sixteen rows of each warp at a time through shared memory, so that the end writes whole lines.
    const End end = make_end();  // as late as here, to hold no registers before
    float *slab = reinterpret_cast<float *>(&tiles);
#pragma unroll
    for (int i = 0; i < TALL; ++i) {
#pragma unroll
        for (int j = 0; j < WIDE; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                slab[(warp / WARPS_N * 16 + group + e / 2 * 8) * End::PITCH + left + j * 8 +
                     quad * 2 + e % 2] = sums[i][j][e];
        __syncthreads();
        end.write(slab, [&](int r) { return first + r / 16 * (BM / WARPS_M) + i * 16 + r % 16; });
        __syncthreads();
    }
}
