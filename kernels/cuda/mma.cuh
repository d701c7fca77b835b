// The tensor cores' warp-wide operations, one function each (PTX ISA, "Matrix multiply-accumulate
// operation using mma instruction" and "ldmatrix"). sm_80 and above.
//
// Everything is counted in 32-bit words along k: a word holds two fp16 or bf16 entries or one tf32,
// so m16n8k16 of halves and m16n8k8 of tf32 have the same fragments. With lane = 4 * group + slot:
//   a[0..3]  words (group, slot), (group + 8, slot), (group, slot + 4), (group + 8, slot + 4) of A[16, 8]
//   b[0..1]  words (slot, group), (slot + 4, group) of B[8, 8]
//   d[0..3]  floats (group, 2 slot), (group, 2 slot + 1), (group + 8, 2 slot), (group + 8, 2 slot + 1)
//
// The host emulation has each of them from shuffles, so that the index arithmetic around them is
// tested without a GPU; it multiplies what the words hold and adds in float.

#ifndef EMULATION

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// d += a b
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    half) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    bfloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    float) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 4-word matrices from shared memory: lane l points at row l % 8 of matrix l / 8 (16 bytes,
// aligned to them) and gets word l % 4 of row l / 4 of each.
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const unsigned *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// The nearest tf32, ties away from zero.
__device__ __forceinline__ unsigned to_tf32(unsigned bits) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
    return rounded;
}

// Starts copying 16 bytes to shared memory, past L1: `bytes` (0 to 16) of them read, the rest zeros.
__device__ __forceinline__ void copy_async(unsigned *shared, const void *global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}

// Waits for this thread's copies; a barrier after it shows them to the block.
__device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

#else

inline float mma_entry(unsigned word, int place, half) {
    return to_float(half{static_cast<unsigned short>(word >> (16 * place))});
}

inline float mma_entry(unsigned word, int place, bfloat16) {
    return to_float(bfloat16{static_cast<unsigned short>(word >> (16 * place))});
}

// The tensor cores ignore the low 13 bits of a tf32.
inline float mma_entry(unsigned word, int, float) { return __uint_as_float(word & ~0x1fffu); }

template <typename Number>
void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Number tag) {
    constexpr int PACKED = 4 / sizeof(Number);
    const int lane = threadIdx.x % 32, group = lane / 4, slot = lane % 4;
    for (int k = 0; k < 8; ++k) {
        // Word k of A's rows `group` and `group + 8` and of B's columns `2 slot` and `2 slot + 1`.
        unsigned rows[2], columns[2];
        for (int half_of = 0; half_of < 2; ++half_of) {
            unsigned low = __shfl_sync(0xffffffffu, a[half_of], 4 * group + k % 4);
            unsigned high = __shfl_sync(0xffffffffu, a[half_of + 2], 4 * group + k % 4);
            rows[half_of] = k < 4 ? low : high;
            low = __shfl_sync(0xffffffffu, b[0], 4 * (2 * slot + half_of) + k % 4);
            high = __shfl_sync(0xffffffffu, b[1], 4 * (2 * slot + half_of) + k % 4);
            columns[half_of] = k < 4 ? low : high;
        }
        for (int entry = 0; entry < PACKED; ++entry)
            for (int i = 0; i < 4; ++i)
                d[i] += mma_entry(rows[i / 2], entry, tag) * mma_entry(columns[i % 2], entry, tag);
    }
}

inline void load_matrices(unsigned (&r)[4], const unsigned *row) {
    const int lane = threadIdx.x % 32;
    if (reinterpret_cast<unsigned long long>(row) % 16)
        emulation::stop("a row of ldmatrix is not aligned to 16 bytes");
    for (int matrix = 0; matrix < 4; ++matrix) {
        unsigned long long from = __shfl_sync(
            0xffffffffu, reinterpret_cast<unsigned long long>(row), 8 * matrix + lane / 4);
        r[matrix] = reinterpret_cast<const unsigned *>(from)[lane % 4];
    }
}

inline unsigned to_tf32(unsigned bits) { return (bits + 0x1000u) & ~0x1fffu; }

inline void copy_async(unsigned *shared, const void *global, int bytes) {
    if (reinterpret_cast<unsigned long long>(shared) % 16 ||
        reinterpret_cast<unsigned long long>(global) % 16)
        emulation::stop("16 bytes are copied from or to an address that is not aligned to them");
    memset(shared, 0, 16);
    memcpy(shared, global, bytes);
}

inline void copy_wait() {}

#endif
