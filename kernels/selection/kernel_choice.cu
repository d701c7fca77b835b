// Gives every convolution kernel the pattern of a small library on which its scores sum highest; of
// equal ones the earlier pattern of the library.
//
// Bytes: n kernels of t taps of b bytes: n t (b + 1), and 4 n for the patterns' numbers.
// Operations: p patterns of e entries: n p e additions, at most 8 * 4 = 32 for the usual 9 taps.
// The limit is the memory.
//
// Shape: a block brings its kernels into shared memory as they lie, rows padded to an odd length so
// that threads read from different banks; then a thread per kernel adds up each pattern. The
// patterns are words of 64 bits, the same for all threads, so no thread waits for another. The
// scores of a pattern are added from its first tap to its last, in float.
//
// Source: S4 (PCONV: Ma et al. 2020).

#include "types.cuh"

// `library` [patterns] has bit t set where tap t is in the pattern; `mask` is [kernels, taps].
extern "C" __global__ void kernel_choice(const T* scores, const unsigned long long* library,
                                         long long kernels, long long taps, long long patterns,
                                         unsigned char* mask, int* best) {
    DYNAMIC_SHARED(float, staged);
    int pitch = (int)taps | 1, width = (int)taps;
    long long first = (long long)blockIdx.x * blockDim.x;
    int count = (int)min((long long)blockDim.x, kernels - first);
    int* chosen = (int*)(staged + blockDim.x * pitch);
    for (int i = threadIdx.x; i < count * width; i += blockDim.x)
        staged[i / width * pitch + i % width] = to_float(scores[first * taps + i]);
    __syncthreads();

    if (threadIdx.x < count) {
        const float* kernel = staged + threadIdx.x * pitch;
        float highest = 0;
        int which = -1;
        for (int p = 0; p < (int)patterns; p++) {
            float sum = 0;
            for (unsigned long long left = library[p]; left; left &= left - 1)
                sum += kernel[__ffsll(left) - 1];
            if (which < 0 || sum > highest) {
                highest = sum;
                which = p;
            }
        }
        chosen[threadIdx.x] = which;
        best[first + threadIdx.x] = which;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * width; i += blockDim.x)
        mask[first * taps + i] = library[chosen[i / width]] >> i % width & 1;
}
