// y[n, o, p] = sum over k of values[o, k] * x[n, c_k, p * stride + d_k], + bias[o]: a convolution of
// which input positions (c, i, j) are gone for all outputs, kept[k] = (c_k, i_k, j_k) flattened (Liu
// et al., "Performance characterization and optimization of pruning patterns for sparse DNN
// inference", algorithm 1). With s bytes an entry, P = batch * positions output pixels:
//
//   operations  2 * P * outs * kept
//   bytes       s * (ins + P * outs + outs * kept) + 4 * kept at best, `ins` the entries of channels
//               with a kept position, each from memory once: the positions of a channel overlap and
//               meet in the L1 and L2
//   intensity   2 * outs * kept / (s * (C + outs)) for C such channels as large as the output
//
// An im2col matrix of the kept positions, written and read again, adds 2 * s * P * kept bytes, outs / s
// operations a byte: with less than some hundred outputs that is more time than the product takes on
// tensor cores. Here the tile of it that a block multiplies next exists only in shared memory.
//
// NCHW, and lanes along the pixels: a kept position is then a row of neighbours (at stride 1 a
// warp's 32 loads are one or two lines), all of it used. In channels_last the kept channels of a pixel
// are lone entries and at density 1/4 the sectors read are four times the entries used. The index
// arithmetic is shared: what a position adds to a pixel's address is worked out by one
// thread of a block, a pixel's own address once a kernel; padding is one AND (grouped_pixels.cuh).
// The float arithmetic bounds this form (a kept entry is loaded once for BM multiply-adds).
// Tiles of outputs that share pixels are neighbours in the grid, so they find x in the L2. One to
// three dimensions, any stride, padding, dilation and groups.
#include "types.cuh"
#include "grouped_pixels.cuh"
#include "grouped_tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    grouped_conv(const T *x, const T *values, const int *kept, const T *bias, T *y, float *parts,
                 long long pitch, long long depth, long long splits, GEOMETRY_ARGUMENTS) {
    __shared__ Tiles tiles;
    using Gather = Pixels<BK, BN, THREADS, 1>;
    using End = PixelsEnd<DOWN, BN, THREADS>;
    __shared__ Place places[Gather::PLACES];
    const Geometry g = GEOMETRY;
    const long long outs = all_outs / groups, tall = (outs + BM - 1) / BM;
    const long long first = blockIdx.x % tall * BM, start = blockIdx.x / tall * BN;
    const int group = static_cast<int>(blockIdx.z / splits), split = blockIdx.z % splits;
    const Span span(depth, splits, split, BK);
    const Result result{y, parts ? parts + split * batch * all_outs * g.positions() : nullptr, bias};
    Gather gather(x, kept, g, group, places, start, span);
    auto end = [&] { return End(result, g, group, start); };
    values += group * outs * pitch;
    product<End>(tiles, gather, end, values, pitch, outs, first, span);
}

extern "C" __global__ void grouped_conv_sum(const float *parts, const T *bias, T *y, long long count,
                                            long long splits, long long inner, long long outs) {
    sum_parts(parts, bias, y, count, splits, inner, outs);
}
