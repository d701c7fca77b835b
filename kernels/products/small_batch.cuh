// What the ELL and the N:M product share: x of a small batch kept in shared memory, sums per row.
//
// `lanes` (8, 16 or 32) neighbouring threads of a warp work on one row of W. They read its
// values in runs of eight, aligned to eight entries of the whole array, whatever the length of a
// row: what a run holds of the rows beside counts as zeros. For each value they look up one
// column of x, the entries of BATCH samples, which lie side by side in shared memory and come in
// one load. There each sixteenth column is followed by a gap, so that lanes which look up
// columns a multiple of sixteen apart, as runs of eight values of N:M make them, meet in no
// bank.

template <typename V>
struct alignas(16) Eight {
    V at[8];
};

template <int BATCH>
struct alignas(sizeof(T) * BATCH < 16 ? sizeof(T) * BATCH : 16) Column {
    T at[BATCH];
};

// `left` entries follow `from`; where those are fewer than eight, the rest is zeros.
template <typename V>
__device__ __forceinline__ Eight<V> load_eight(const V* from, long long left) {
    if (left >= 8) return *reinterpret_cast<const Eight<V>*>(from);
    Eight<V> some;
#pragma unroll
    for (int i = 0; i < 8; ++i) some.at[i] = i < left ? from[i] : V{};
    return some;
}

// x[samples, in] from sample `first` on: staged as [in][BATCH] in shared memory, or where it lies.
template <int BATCH, bool STAGED>
struct Input {
    const T* x;
    const Column<BATCH>* staged;
    long long in;
    int samples;  // of this tile that exist, at most BATCH

    __device__ Input(const T* whole, void* shared, long long columns, long long first,
                     long long batch)
        : x(whole + first * columns),
          staged(static_cast<Column<BATCH>*>(shared)),
          in(columns),
          samples(batch - first < BATCH ? int(batch - first) : BATCH) {
        if (!STAGED) return;
        Column<BATCH>* target = static_cast<Column<BATCH>*>(shared);
        for (int c = threadIdx.x; c < in; c += blockDim.x) {
            Column<BATCH> column;
#pragma unroll
            for (int b = 0; b < BATCH; ++b) column.at[b] = b < samples ? x[b * in + c] : T{};
            target[place(c)] = column;
        }
        __syncthreads();
    }

    __device__ static int place(int c) { return c + c / 16; }

    // sums[b] += value * x[b, c]
    __device__ void add(float (&sums)[BATCH], float value, int c) const {
        if (STAGED) {
            Column<BATCH> column = staged[place(c)];
#pragma unroll
            for (int b = 0; b < BATCH; ++b) sums[b] = fmaf(value, to_float(column.at[b]), sums[b]);
        } else {
#pragma unroll
            for (int b = 0; b < BATCH; ++b)
                if (b < samples) sums[b] = fmaf(value, to_float(x[b * in + c]), sums[b]);
        }
    }
};

// Adds the sums of `lanes` neighbours and writes y[first + b, row]. Each step halves what a lane
// still holds, so BATCH = 8 takes 7 + 2 shuffles instead of 40. `mine` is the lane's place in its
// row. All lanes of the warp must call this, also those without a row (row >= out).
template <int BATCH>
__device__ __forceinline__ void write_row(float (&sums)[BATCH], T* y, const T* bias, bool biased,
                                          long long first, int samples, long long out,
                                          long long row, int mine, int lanes) {
    int distance = lanes / 2, sample = 0;
#pragma unroll
    for (int half = BATCH / 2; half > 0; half /= 2, distance /= 2) {
        bool upper = mine & distance;
#pragma unroll
        for (int b = 0; b < half; ++b) {
            float given = upper ? sums[b] : sums[b + half];
            sums[b] =
                (upper ? sums[b + half] : sums[b]) + __shfl_xor_sync(FULL_WARP, given, distance);
        }
        if (upper) sample += half;
    }
    int sharing = lanes / BATCH;  // lanes that now have the same sample
    for (; distance > 0; distance /= 2) sums[0] += __shfl_xor_sync(FULL_WARP, sums[0], distance);
    if (row < out && mine % sharing == 0 && sample < samples)
        y[(first + sample) * out + row] =
            from_float<T>(sums[0] + (biased ? to_float(bias[row]) : 0.0f));
}
