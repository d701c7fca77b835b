// y[b, o] = sum over k of values[o, k] * x[b, kept[k]], + bias[o], on the tensor cores: the tile way
// of linear.cu, whose bytes and operations are these too.
//
// Per step of DEPTH k a block reads BM * DEPTH values, 16 bytes a load, and BN * DEPTH kept entries
// of x, one load each (an entry's neighbours in x are mostly pruned): 32 of a row side by side, so that
// at density d a warp's loads touch about 32 s / d bytes of one row each. These loads and their
// addresses, not the products, set the pace. They are made once for each BM outputs, so few outputs
// are what this is for; for many, gather once and multiply by the vendor's library
// (grouped_linear_gather).
#include "types.cuh"
#include "mma.cuh"
#include "grouped_inputs.cuh"
#include "grouped_mma.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BM > 128 ? 1 : 2)
    grouped_linear_mma(const T *x, const T *values, const int *kept, const T *bias, T *y,
                       float *parts, long long pitch, long long depth, long long outs,
                       long long batch, long long ins, long long splits) {
    DYNAMIC_SHARED(Tiles, tiles);
    const long long tall = (outs + BM - 1) / BM, first = blockIdx.x % tall * BM;
    const long long start = blockIdx.x / tall * BN;
    const Span span(depth, splits, blockIdx.z, DEPTH);
    const Result result{y, parts ? parts + blockIdx.z * batch * outs : nullptr, bias};
    Inputs<DEPTH, BN, THREADS, PACKED> gather(x, kept, ins, batch, start, span);
    auto end = [&] { return InputsEnd<SLAB, BN, THREADS>{result, start, batch, outs}; };
    product<InputsEnd<SLAB, BN, THREADS>>(*tiles, gather, end, values, pitch, outs, first, span);
}

extern "C" __global__ void grouped_linear_mma_sum(const float *parts, const T *bias, T *y,
                                                  long long count, long long splits,
                                                  long long inner, long long outs) {
    sum_parts(parts, bias, y, count, splits, inner, outs);
}
