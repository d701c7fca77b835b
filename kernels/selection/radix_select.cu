// The lowest `count` scores of many tensors together, as masks: a radix select by histograms.
//
// The scores are made from the tensors while they are read: the values as given (SCORE 0), |w|
// (SCORE 1) or |w * g| (SCORE 2). Each is turned into an unsigned key of the same order. A sample
// (`radix_sample`) says between which two keys the count-th lowest very likely lies. One reading of
// everything (`radix_collect`) counts what is below and lists the keys between. Among these the
// count-th is found from its highest bits down: `radix_count` counts how many keys have each value
// of the next 10 or 11 bits, among those that agree with what is known already, and the next launch
// begins by looking up in which bin the count-th falls. Where the sample was wrong, or too much
// lies between, `radix_count` reads everything instead. `radix_mask` writes what is at most that
// key. Where more entries are equal to it than may go, `radix_trim` takes the surplus back from the
// end, so that ties fall to the lower index; otherwise it returns at once. All counts are integers:
// the result does not depend on the order in which blocks run, and nothing waits for the host.
//
// Bytes: n entries of b bytes are read once to collect and once for the mask, which takes n bytes,
// or n/8 packed; a share c between the bounds, 5 to 12 % of a normal distribution, is written once
// and read in each of PASSES counts (3; 2 where 16-bit values leave the low bits of a key empty):
//     n (2 b + 1) + 4 c n (1 + PASSES)        twice the b for products
//     n (b (1 + PASSES + 1) + 1)              where the sample does not help: many equal scores
// Operations: about 10 integer ones per entry and reading. The limit is the memory: for 100M float
// scores, c = 10 %, 1.06 GB, by the model 0.22 ms at 4.8 TB/s. Ties at the cut cost one more
// reading of the chunks beyond it.
//
// Shape: two blocks of 512 threads on each multiprocessor walk over chunks of the tensors, with
// four loads of 16 bytes in flight per thread, 64 KB in all: enough to cover the memory's latency.
// Listing takes one step per warp for all that its lanes hold, into a part of the list that is the
// block's own. Weights have few exponents, so most of them fall into some ten bins: every bin is
// counted in COPIES places in shared memory, side by side in different banks, of which neighbouring
// threads take different ones.
//
// Source: GPU radix select as in Alabi et al., Fast k-selection algorithms for graphics processing
// units (2012); the sample as in Floyd & Rivest, Expected time bounds for selection
// (1975).

#include "types.cuh"

typedef unsigned long long Count;

#define WIDE (16 / (int)sizeof(T))
#define DEPTH (SCORE == 2 ? 2 : 4)
#define BINS 2048
#define COPIES 4
#define THREADS 512
#define TOP (SCORE == 0 ? 21 : 20)  // the lowest bit of the first digit: |x| has no sign to rank

// A tensor; `start` counts the chunks before it. Null pointers: not needed.
struct Segment {
    const T* values;
    const T* others;
    unsigned char* mask;
    unsigned char* bits;
    long long length, start;
};

typedef Pack<T, WIDE> Values;

__device__ static int low_bit(long long pass) { return pass <= 0 ? TOP : pass == 1 ? 10 : 0; }

__device__ static int bins_of(long long pass) {
    return pass <= 0 ? BINS : 1 << (low_bit(pass - 1) - low_bit(pass));
}

__device__ static unsigned key_of(T value, T other) {
#if SCORE == 2
    float score = to_float(value) * to_float(other);
#else
    float score = to_float(value);
#endif
    unsigned bits = __float_as_uint(score), magnitude = bits & 0x7fffffffu;
#if SCORE == 0
    // Both zeros get one key, and the low bits that 16-bit values leave empty stay empty.
    return bits >> 31 ? 0x80000000u - magnitude : 0x80000000u + magnitude;
#else
    return magnitude;
#endif
}

__device__ static void read(Values& to, const T* from, long long first, long long end) {
    if (first + WIDE <= end && ((Count)from & 15) == 0) {
        to = load<WIDE>(from + first);
    } else {
        for (int j = 0; j < WIDE; j++)
            if (first + j < end) to.at[j] = from[first + j];
    }
}

__device__ static void read_both(Values& value, Values& other, const Segment& segment,
                                 long long first, long long end) {
    read(value, segment.values, first, end);
#if SCORE == 2
    read(other, segment.others, first, end);
#else
    other = value;
#endif
}

// The sum of `own` over the threads up to this one.
__device__ static Count scan(Count own, Count* sums) {
    int thread = threadIdx.x;
    sums[thread] = own;
    __syncthreads();
    for (int step = 1; step < (int)blockDim.x; step *= 2) {
        Count left = thread >= step ? sums[thread - step] : 0;
        __syncthreads();
        sums[thread] += left;
        __syncthreads();
    }
    return sums[thread];
}

struct Known {
    Count prefix, rank;
};

// The bin in which the `rank`-th of what a histogram counts lies (from 0), and its rank in there.
__device__ static Known find(const Count* histogram, int bins, Count rank, Count* sums) {
    __shared__ Known found;
    int each = (bins + blockDim.x - 1) / blockDim.x;
    int first = threadIdx.x * each, last = min(first + each, bins);
    Count own = 0;
    for (int bin = first; bin < last; bin++) own += histogram[bin];
    Count upto = scan(own, sums), below = upto - own;
    if (below <= rank && rank < upto) {
        int bin = first;
        while (below + histogram[bin] <= rank) below += histogram[bin++];
        found.prefix = bin;
        found.rank = rank - below;
    }
    __syncthreads();
    return found;
}

// What is known after `passes` counts: the upper bits of the wanted key, and its rank (from 0)
// among the keys with these bits. `state` holds both for every number of passes; the last one is
// new. `skipped` keys below the wanted one were not counted at all.
__device__ static Known look_up(const Count* histograms, Known* state, long long passes,
                                Count skipped, Count* sums) {
    if (passes == 0) return state[0];
    Known before = state[passes - 1];
    if (passes == 1) before.rank -= skipped;
    int bins = bins_of(passes - 1);
    Known known = find(histograms + (passes - 1) * BINS, bins, before.rank, sums);
    known.prefix += before.prefix * bins;
    if (blockIdx.x == 0 && threadIdx.x == 0) state[passes] = known;
    return known;
}

// What a sample's bounds hold: so many keys are below them, so many between, and whether all of
// these found room in the list.
struct Between {
    Count below, inside, full;
};

// The keys that come before pass 0, and in `all` whether everything has to be read.
__device__ static Count skip(const Between* between, const Known* state, bool& all) {
    Count rank = state[0].rank;
    all = between->full || rank < between->below || rank >= between->below + between->inside;
    return all ? 0 : between->below;
}

// Counts the first digit of `taken` neighbouring entries of each chunk, somewhere in it.
extern "C" __global__ void __launch_bounds__(THREADS)
radix_sample(const Segment* segments, long long chunks, long long chunk_size, long long taken,
             Count* histogram) {
    __shared__ unsigned counts[BINS];
    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) counts[bin] = 0;
    __syncthreads();
    int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    long long chunk = blockIdx.x * (long long)warps + threadIdx.x / WARP;
    for (; chunk < chunks; chunk += (long long)gridDim.x * warps) {
        while (chunk >= segments[1].start) segments++;
        const Segment segment = segments[0];
        long long base = (chunk - segment.start) * chunk_size;
        long long length = min(chunk_size, segment.length - base), here = min(taken, length);
        // Always the same place would be always the same columns.
        base += (Count)chunk * 0x9e3779b97f4a7c15ull % (Count)(length - here + 1);
        for (long long i = base + lane; i < base + here; i += WARP) {
#if SCORE == 2
            unsigned key = key_of(segment.values[i], segment.others[i]);
#else
            unsigned key = key_of(segment.values[i], segment.values[i]);
#endif
            atomicAdd(&counts[key >> TOP], 1u);
        }
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x)
        if (counts[bin]) atomicAdd(&histogram[bin], (Count)counts[bin]);
}

// Lists the keys in the bins around the wanted one, of `entries`, by the `sample` of them. Block i
// puts up to `room` of them from i * room on and their number into `listed`.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
radix_collect(const Segment* segments, long long chunks, long long chunk_size,
              const Count* sample, const Known* state, long long entries, Between* between,
              unsigned* list, long long room, int* listed) {
    __shared__ Count memory[THREADS];
    __shared__ int used;
    if (threadIdx.x == 0) used = 0;
    find(sample, BINS, 0, memory);  // its sums end with the sample's size
    double size = (double)memory[blockDim.x - 1], margin = 4 * sqrt(size);
    double rank = size * (double)state[0].rank / (double)entries;
    unsigned low = 0, high = 0xffffffffu;  // the first and the last key to list
    __syncthreads();
    if (rank >= margin)
        low = (unsigned)find(sample, BINS, (Count)(rank - margin), memory).prefix << TOP;
    if (rank + margin < size) {
        Count last = find(sample, BINS, (Count)(rank + margin), memory).prefix;
        high = (unsigned)(((last + 1) << TOP) - 1);
    }
    list += blockIdx.x * room;
    int lane = threadIdx.x % WARP;
    unsigned under = 0;

    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        while (chunk >= segments[1].start) segments++;
        const Segment segment = segments[0];
        long long base = (chunk - segment.start) * chunk_size;
        long long end = min(base + chunk_size, segment.length);
        for (; base < end; base += (long long)blockDim.x * WIDE * DEPTH) {
            Values values[DEPTH], others[DEPTH];
            long long first = base + threadIdx.x * WIDE, apart = blockDim.x * WIDE;
#pragma unroll
            for (int d = 0; d < DEPTH; d++)
                read_both(values[d], others[d], segment, first + d * apart, end);
            unsigned inside = 0;
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    if (first + d * apart + j >= end) continue;
                    unsigned key = key_of(values[d].at[j], others[d].at[j]);
                    under += key < low;
                    inside |= (unsigned)(key - low <= high - low) << (d * WIDE + j);
                }
            }
            int own = __popc(inside), upto = own;
            for (int step = 1; step < WARP; step *= 2) {
                int left = __shfl_up_sync(FULL_WARP, upto, step);
                if (lane >= step) upto += left;
            }
            int start = lane == WARP - 1 && upto ? atomicAdd(&used, upto) : 0;
            long long to = __shfl_sync(FULL_WARP, start, WARP - 1) + upto - own;
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    if (!(inside >> (d * WIDE + j) & 1)) continue;
                    if (to < room) list[to] = key_of(values[d].at[j], others[d].at[j]);
                    to++;
                }
            }
        }
    }

    Count below = under;
    for (int apart = WARP / 2; apart; apart /= 2)
        below += __shfl_down_sync(FULL_WARP, below, apart);
    if (lane == 0 && below) atomicAdd(&between->below, below);
    __syncthreads();
    if (threadIdx.x == 0) {
        listed[blockIdx.x] = (int)min((long long)used, room);
        atomicAdd(&between->inside, (Count)used);
        if (used > room) atomicAdd(&between->full, 1ull);
    }
}

// Counts a key's next digit if its upper ones are known to be right.
__device__ static void count(unsigned key, long long pass, unsigned known, unsigned* counts) {
    if (pass > 0 && key >> low_bit(pass - 1) != known) return;
    int bin = (key >> low_bit(pass)) & (bins_of(pass) - 1);
    atomicAdd(&counts[bin * COPIES + threadIdx.x % COPIES], 1u);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
radix_count(const Segment* segments, long long chunks, long long chunk_size, Count* histograms,
            Known* state, long long pass, const Between* between, const unsigned* list,
            long long room, const int* listed) {
    __shared__ Count memory[COPIES * BINS / 2];
    unsigned* counts = (unsigned*)memory;
    bool all;
    Count skipped = skip(between, state, all);
    unsigned known = (unsigned)look_up(histograms, state, pass, skipped, memory).prefix;
    for (int i = threadIdx.x; i < COPIES * BINS; i += blockDim.x) counts[i] = 0;
    __syncthreads();

    if (!all) {
        for (int i = threadIdx.x; i < listed[blockIdx.x]; i += blockDim.x)
            count(list[blockIdx.x * room + i], pass, known, counts);
        chunks = 0;
    }
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        while (chunk >= segments[1].start) segments++;
        const Segment segment = segments[0];
        long long base = (chunk - segment.start) * chunk_size;
        long long end = min(base + chunk_size, segment.length);
        for (; base < end; base += (long long)blockDim.x * WIDE * DEPTH) {
            Values values[DEPTH], others[DEPTH];
            long long first = base + threadIdx.x * WIDE, apart = blockDim.x * WIDE;
#pragma unroll
            for (int d = 0; d < DEPTH; d++)
                read_both(values[d], others[d], segment, first + d * apart, end);
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
#pragma unroll
                for (int j = 0; j < WIDE; j++)
                    if (first + d * apart + j < end)
                        count(key_of(values[d].at[j], others[d].at[j]), pass, known, counts);
            }
        }
    }

    __syncthreads();
    for (int bin = threadIdx.x; bin < bins_of(pass); bin += blockDim.x) {
        Count sum = 0;
        for (int copy = 0; copy < COPIES; copy++) sum += counts[bin * COPIES + copy];
        if (sum) atomicAdd(&histograms[pass * BINS + bin], sum);
    }
}

// Writes WIDE flags from `first` on, as far as `end`; all threads of a warp come here together.
__device__ static void write(unsigned chosen, bool keep, const Segment& segment, long long first,
                             long long end) {
    unsigned flags = 0;
    for (int j = 0; j < WIDE; j++)
        if (first + j < end && ((chosen >> j) & 1) != keep) flags |= 1u << j;
    if (segment.mask && first + WIDE <= end) {
        for (int j = 0; j < WIDE; j += 4)  // four bits to the lowest ones of four bytes
            *(unsigned*)(segment.mask + first + j) = ((flags >> j & 15) * 0x204081u) & 0x01010101u;
    } else if (segment.mask) {
        for (int j = 0; first + j < end; j++) segment.mask[first + j] = flags >> j & 1;
    }
    if (segment.bits) {
        unsigned next = WIDE == 4 ? __shfl_down_sync(FULL_WARP, flags, 1) : 0;
        if (first < end && first % 8 == 0)
            segment.bits[first / 8] = (unsigned char)(flags | next << 4);
    }
}

// True bits where the thread's keys go for sure, and in `ties` where they equal the threshold.
__device__ static unsigned compare(const Values& values, const Values& others, unsigned threshold,
                                   int count, unsigned& ties) {
    unsigned below = 0;
    ties = 0;
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
        if (j >= count) continue;
        unsigned key = key_of(values.at[j], others.at[j]);
        below |= (unsigned)(key < threshold) << j;
        ties |= (unsigned)(key == threshold) << j;
    }
    return below;
}

// Writes True for the keys up to the threshold (or False, and True elsewhere, to `keep` the rest),
// and counts each chunk's ties. `passes` counts were made.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
radix_mask(const Segment* segments, long long chunks, long long chunk_size,
           const Count* histograms, Known* state, long long passes, int* ties, long long keep) {
    __shared__ Count memory[THREADS];
    __shared__ int total;
    unsigned threshold =
        (unsigned)look_up(histograms, state, passes, 0, memory).prefix << low_bit(passes - 1);
    if (threadIdx.x == 0) total = 0;
    __syncthreads();

    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        while (chunk >= segments[1].start) segments++;
        const Segment segment = segments[0];
        long long base = (chunk - segment.start) * chunk_size;
        long long end = min(base + chunk_size, segment.length);
        int own = 0;
        for (; base < end; base += (long long)blockDim.x * WIDE * DEPTH) {
            Values values[DEPTH], others[DEPTH];
            long long first = base + threadIdx.x * WIDE, apart = blockDim.x * WIDE;
#pragma unroll
            for (int d = 0; d < DEPTH; d++)
                read_both(values[d], others[d], segment, first + d * apart, end);
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                long long at = first + d * apart;
                unsigned equal, below = compare(values[d], others[d], threshold,
                                                (int)min((long long)WIDE, end - at), equal);
                own += __popc(equal);
                write(below | equal, keep != 0, segment, at, end);
            }
        }
        for (int apart = 16; apart; apart /= 2) own += __shfl_down_sync(FULL_WARP, own, apart);
        if (threadIdx.x % 32 == 0 && own) atomicAdd(&total, own);
        __syncthreads();
        if (threadIdx.x == 0) {
            ties[chunk] = total;
            total = 0;
        }
        __syncthreads();
    }
}

// Takes back the ties beyond those that may go. `upto` [chunks] are the sums of `ties`.
extern "C" __global__ void __launch_bounds__(THREADS)
radix_trim(const Segment* segments, long long chunks, long long chunk_size, const Known* state,
           long long passes, const long long* upto, long long keep) {
    __shared__ Count memory[THREADS];
    unsigned threshold = (unsigned)state[passes].prefix << low_bit(passes - 1);
    long long may_go = (long long)state[passes].rank + 1;
    if (upto[chunks - 1] == may_go) return;

    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        while (chunk >= segments[1].start) segments++;
        const Segment segment = segments[0];
        long long seen = chunk ? upto[chunk - 1] : 0;
        if (upto[chunk] <= may_go || upto[chunk] == seen) continue;
        long long base = (chunk - segment.start) * chunk_size;
        long long end = min(base + chunk_size, segment.length);
        for (; base < end; base += (long long)blockDim.x * WIDE) {
            Values values, others;
            long long first = base + threadIdx.x * WIDE;
            read_both(values, others, segment, first, end);
            unsigned equal, below = compare(values, others, threshold,
                                            (int)min((long long)WIDE, end - first), equal);
            long long rank = seen + (long long)scan(__popc(equal), memory) - __popc(equal);
            seen += (long long)memory[blockDim.x - 1];
            for (int j = 0; j < WIDE; j++)
                if (equal >> j & 1 && rank++ < may_go) below |= 1u << j;
            write(below, keep != 0, segment, first, end);
            __syncthreads();
        }
    }
}
