// What every kernel here builds on: 16-bit floats, packs for vector loads, sums over a warp.
//
// No header of the CUDA toolkit is needed, so that NVRTC alone compiles all of it. Storage is in
// `half` or `bfloat16`, arithmetic in float. Macros such as T belong to the kernels: no template
// here names a parameter so.

#define WARP 32
#define FULL_WARP 0xffffffffu

#ifndef EMULATION  // the tests' host emulation has its own for all of these
// Dynamic shared memory under a name; all such names of a kernel are the same bytes.
#define DYNAMIC_SHARED(type, name)                                    \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared)

__device__ __forceinline__ float half_bits_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

struct half {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(double value) { return static_cast<float>(value); }
__device__ __forceinline__ float to_float(half value) { return half_bits_to_float(value.bits); }
__device__ __forceinline__ float to_float(bfloat16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

// from_float<T>(x): to the nearest, ties to even.
template <typename Number>
__device__ __forceinline__ Number from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ double from_float<double>(float value) {
    return value;
}
template <>
__device__ __forceinline__ half from_float<half>(float value) {
    return {float_to_half_bits(value)};
}
template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fc0};  // rounding up would make it infinite
    return {static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// `Size` numbers in a row, loaded and stored as one; their address must be a multiple of the
// pack's bytes, of which 16 is the most that one instruction moves.
template <typename Number, int Size>
struct alignas(sizeof(Number) * Size) Pack {
    Number at[Size];
};

template <int Size, typename Number>
__device__ __forceinline__ Pack<Number, Size> load(const Number* from) {
    return *reinterpret_cast<const Pack<Number, Size>*>(from);
}

template <int Size, typename Number>
__device__ __forceinline__ void store(Number* to, Pack<Number, Size> pack) {
    *reinterpret_cast<Pack<Number, Size>*>(to) = pack;
}

// Over the lanes of a whole warp, or of each aligned part of `Lanes` (a power of two) with `mask`
// naming that part; every lane gets the result.
template <int Lanes = WARP>
__device__ __forceinline__ float warp_sum(float value, unsigned mask = FULL_WARP) {
#pragma unroll
    for (int step = Lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(mask, value, step, Lanes);
    return value;
}

template <int Lanes = WARP>
__device__ __forceinline__ float warp_max(float value, unsigned mask = FULL_WARP) {
#pragma unroll
    for (int step = Lanes / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(mask, value, step, Lanes));
    return value;
}

// The mask of the aligned part of `Lanes` lanes that a lane (0 to 31) is in.
template <int Lanes>
__device__ __forceinline__ unsigned part_of_warp(int lane) {
    return Lanes == WARP ? FULL_WARP : ((1u << (Lanes % WARP)) - 1u) << (lane / Lanes * Lanes);
}
