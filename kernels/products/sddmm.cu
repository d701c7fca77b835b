// values[k] = sum over j of A[row_k, j] * B[col_k, j] at the non-zeros k of a CSR pattern [out, in]:
// A[out, n] B[in, n]^T sampled. With A = dY^T and B = X^T it is the gradient of a sparse weight.
//
// Bytes: nnz * n * sizeof(T) of B, nearly all from the caches; 4 * nnz of the pattern; out * n of A;
// nnz * sizeof(T) written. Operations: 2 * nnz * n. Dense takes 2 * out * in * n and then throws most
// away. Limit as in csr_spmm.cu: the L1's 128 bytes a cycle, here softened by AT_ONCE.
//
// Shape (Gale et al. 2020, Sputnik, section 6): a warp makes a row of the pattern. LANES threads take
// the dot product of one non-zero, VEC entries each, so that its B row is read in whole 128-byte
// lines; the warp's WARP / LANES parts take different non-zeros, and each takes AT_ONCE of them
// together: A is then read once for AT_ONCE products, and AT_ONCE loads are under way. With LANES = 8
// the sum over lanes costs 3 shuffles for 4 non-zeros, where whole warps would take 20.

#include "types.cuh"

constexpr int LANES = 8, AT_ONCE = 4, PARTS = WARP / LANES;

// Grid (rows), a warp to a row. `order` may be null. n is a multiple of VEC and A, B are aligned to it.
extern "C" __global__ void sddmm(const int* crow, const int* columns, const T* a, const T* b, const int* order,
                                 T* values, long long out, long long n) {
    int lane = threadIdx.x % LANES, part = threadIdx.x % WARP / LANES;
    unsigned lanes = part_of_warp<LANES>(threadIdx.x % WARP);
    long long place = (long long)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (place >= out) return;
    long long row = order ? order[place] : place;
    int start = crow[row], end = crow[row + 1];
    a += row * n;

    for (int at = start + part * AT_ONCE; at < end; at += PARTS * AT_ONCE) {
        const T* rows[AT_ONCE];
        float sums[AT_ONCE] = {};
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) rows[k] = b + columns[at + k < end ? at + k : at] * n;
        for (long long j = lane * VEC; j < n; j += LANES * VEC) {
            Pack<T, VEC> left = load<VEC>(a + j);
#pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) {
                Pack<T, VEC> right = load<VEC>(rows[k] + j);
#pragma unroll
                for (int i = 0; i < VEC; ++i) sums[k] = fmaf(to_float(left.at[i]), to_float(right.at[i]), sums[k]);
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            float sum = warp_sum<LANES>(sums[k], lanes);
            if (lane == k && at + k < end) values[at + k] = from_float<T>(sum);
        }
    }
}
