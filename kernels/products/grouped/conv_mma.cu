// y[n, o, p] = sum over k of values[o, k] * x[n, c_k, p * stride + d_k], + bias[o] on the tensor
// cores: the tile of conv.cu, whose bytes and operations are these too.
//
// Per step of DEPTH k a block reads BM * DEPTH values, 16 bytes a load, and BN * DEPTH entries of x,
// one load each with 32 neighbouring pixels a warp (64 or 128 bytes, aligned only by chance: a shift
// by one pixel forbids wider loads and cp.async of 16-bit entries). By the instructions in the loop,
// some four besides the load for each entry of x, a warp's scheduler and not its tensor core is what
// is short on Hopper: the tile of 256 outputs shares each entry among twice as many products as the
// one of 128, and takes as many registers as there are for one block a multiprocessor.
#include "types.cuh"
#include "mma.cuh"
#include "grouped_pixels.cuh"
#include "grouped_mma.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BM > 128 ? 1 : 2)
    grouped_conv_mma(const T *x, const T *values, const int *kept, const T *bias, T *y, float *parts,
                     long long pitch, long long depth, long long splits, GEOMETRY_ARGUMENTS) {
    DYNAMIC_SHARED(Tiles, tiles);
    using Gather = Pixels<DEPTH, BN, THREADS, PACKED>;
    using End = PixelsEnd<SLAB, BN, THREADS>;
    __shared__ Place places[Gather::PLACES];
    const Geometry g = GEOMETRY;
    const long long outs = all_outs / groups, tall = (outs + BM - 1) / BM;
    const long long first = blockIdx.x % tall * BM, start = blockIdx.x / tall * BN;
    const int group = static_cast<int>(blockIdx.z / splits), split = blockIdx.z % splits;
    const Span span(depth, splits, split, DEPTH);
    const Result result{y, parts ? parts + split * batch * all_outs * g.positions() : nullptr, bias};
    Gather gather(x, kept, g, group, places, start, span);
    auto end = [&] { return End(result, g, group, start); };
    values += group * outs * pitch;
    product<End>(*tiles, gather, end, values, pitch, outs, first, span);
}

extern "C" __global__ void grouped_conv_mma_sum(const float *parts, const T *bias, T *y,
                                                long long count, long long splits, long long inner,
                                                long long outs) {
    sum_parts(parts, bias, y, count, splits, inner, outs);
}
