// What the group-wise products share: y = values * X for values[out, kept] and X[kept, columns],
// where X is never made. A block works on a tile of outputs by columns; a *gather* reads the tile's
// part of X straight from the input, DEPTH kept positions at a time, into registers, and an *end*
// writes the tile.
//
// A gather packs PACKED entries, consecutive in k, into one word. Each thread holds WORDS words;
// word i belongs to word `deep(i)` along k and to column `column(i)` of the tile. Its life:
// prepare(), barrier, then per step fetch(), prepare() for the step after, barrier. The indices are
// read two steps ahead and the entries one, so that neither wait is in the way.
//
// An end writes ROWS rows of the tile from shared memory at a time; its `output` says which output a
// row is.

// The part of k that a split works on, in whole steps.
struct Span {
    int begin, end;

    __device__ __forceinline__ Span(long long kept, long long splits, int split, int depth) {
        const int all = static_cast<int>(kept), steps = (all + depth - 1) / depth;
        const int each = (steps + static_cast<int>(splits) - 1) / static_cast<int>(splits);
        begin = min(all, split * each * depth);
        end = min(all, begin + each * depth);
    }
};

// Where results go: y in T with the bias, or this split's part of the sum in float.
struct Result {
    T *y;
    float *part;  // null where k is not split
    const T *bias;  // null where there is none

    __device__ __forceinline__ void put(long long place, long long output, float sum) const {
        if (part)
            part[place] = sum;
        else
            y[place] = from_float<T>(bias ? sum + to_float(bias[output]) : sum);
    }
};

// y[i] = sum over the splits of parts[split, i], and the bias of output i / inner % outs.
__device__ __forceinline__ void sum_parts(const float *parts, const T *bias, T *y, long long count,
                                          long long splits, long long inner, long long outs) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = bias ? to_float(bias[i / inner % outs]) : 0.0f;
    for (long long split = 0; split < splits; ++split) sum += parts[split * count + i];
    y[i] = from_float<T>(sum);
}
