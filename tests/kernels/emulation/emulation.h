// CUDA's model of execution on one CPU thread, as far as the kernels here use it.
//
// Each thread of a block is a fibre; blocks run one after another. A fibre runs until it waits, at
// __syncthreads or at an operation of its warp, and goes on when all that it waits for have come.
// What would be undefined on a GPU is an error with its line: barriers reached by some threads only,
// warp operations that not all named lanes reach, indices outside of an array, misaligned loads.
// Shared memory starts as NaN. Threads run in rising order at one time, in falling order at another,
// so that a missing barrier shows.
#pragma once
#define EMULATION 1

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __shared__ static __attribute__((section("shared_memory")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::dynamic_shared())

struct uint3 { unsigned x, y, z; };
using dim3 = uint3;
static uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

#define VECTORS(type, name)                                                                  \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                 \
    struct name##3 { type x, y, z; };                                                        \
    struct alignas(sizeof(type) > 4 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; };   \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                         \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
#define uint3 uint3_again  // CUDA's own is above
VECTORS(unsigned, uint)
#undef uint3
VECTORS(int, int)
VECTORS(float, float)
VECTORS(double, double)
VECTORS(char, char)
VECTORS(unsigned char, uchar)
VECTORS(short, short)
VECTORS(unsigned short, ushort)
VECTORS(long long, longlong)
VECTORS(unsigned long long, ulonglong)

namespace emulation {

using Word = unsigned long long;  // what a lane gives to the others, whatever its type

constexpr int most_threads = 1024;
constexpr size_t stack_bytes = 64 << 10;
constexpr unsigned most_shared = 227 << 10;  // what the largest architectures have
constexpr size_t guard = 256;

enum class State { ready, barrier, warp, done };

struct Fibre {
    ucontext_t start;
    jmp_buf place;
    bool started;
    State state;
    int line;  // where it waits
    unsigned mask;
    int operation, source;
    Word given, taken;
    unsigned votes;
};

inline Fibre fibres[most_threads];
inline char* stacks = nullptr;
alignas(256) inline unsigned char shared_bytes[guard + most_shared + guard];
inline int threads, current;
inline jmp_buf scheduler;
inline char failure[400];
inline void (*body)(void*);
inline void* body_data;

inline void* dynamic_shared() { return shared_bytes + guard; }

inline bool fail(const char* format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(failure, sizeof failure, format, args);
    va_end(args);
    return false;
}

[[noreturn]] inline void back() { _longjmp(scheduler, 1); }

// Also from inside a kernel: the other fibres are left as they are.
[[noreturn]] inline void stop(const char* format, ...) {
    va_list args;
    va_start(args, format);
    int length = snprintf(failure, sizeof failure, "thread (%u, %u, %u) of block (%u, %u, %u): ",
                          threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
    vsnprintf(failure + length, sizeof failure - length, format, args);
    va_end(args);
    back();
}

inline void wait(State state, int line) {
    Fibre& self = fibres[current];
    self.state = state;
    self.line = line;
    if (!_setjmp(self.place)) back();
}

inline void run_body() {
    body(body_data);
    fibres[current].state = State::done;
    back();
}

inline void resume(int thread) {
    Fibre& fibre = fibres[thread];
    current = thread;
    unsigned x = blockDim.x, y = blockDim.y, at = thread;
    threadIdx = {at % x, at / x % y, at / x / y};
    if (_setjmp(scheduler)) return;
    if (fibre.started) _longjmp(fibre.place, 1);
    fibre.started = true;
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = stacks + thread * stack_bytes;
    fibre.start.uc_stack.ss_size = stack_bytes;
    fibre.start.uc_link = nullptr;
    makecontext(&fibre.start, run_body, 0);
    setcontext(&fibre.start);
}

// ---- operations of a warp -----------------------------------------------------------------------

enum Operation { sync, shuffle, vote, match };

inline Fibre& exchange(Operation operation, unsigned mask, Word given, int source, int line) {
    Fibre& self = fibres[current];
    if (!(mask >> current % 32 & 1)) stop("line %d: the mask %08x leaves out its own lane", line, mask);
    self.mask = mask;
    self.operation = operation;
    self.given = given;
    self.source = source;
    wait(State::warp, line);
    return self;
}

// Lets a warp's lanes go on if all that one of them named are here.
inline bool release_warps() {
    bool any = false;
    for (int first = 0; first < threads; first += 32)
        for (int i = first; i < first + 32 && i < threads; ++i) {
            Fibre& leader = fibres[i];
            if (leader.state != State::warp) continue;
            unsigned votes = 0, here = 0;
            bool whole = true;
            for (int lane = 0; lane < 32 && whole; ++lane) {
                // Lanes that are gone, or were never there, are not waited for.
                if (!(leader.mask >> lane & 1) || first + lane >= threads) continue;
                Fibre& other = fibres[first + lane];
                if (other.state == State::done) continue;
                whole = other.state == State::warp && other.mask == leader.mask &&
                        other.operation == leader.operation && other.line == leader.line;
                here |= 1u << lane;
                if (other.given) votes |= 1u << lane;
            }
            if (!whole) continue;
            for (int lane = 0; lane < 32; ++lane) {
                if (!(here >> lane & 1)) continue;
                Fibre& other = fibres[first + lane];
                // A lane that takes no part gives NaN.
                other.taken = here >> other.source & 1 ? fibres[first + other.source].given : ~Word(0);
                other.votes = votes;
                if (other.operation == match) {
                    other.votes = 0;
                    for (int k = 0; k < 32; ++k)
                        if (here >> k & 1 && fibres[first + k].given == other.given) other.votes |= 1u << k;
                }
            }
            for (int lane = 0; lane < 32; ++lane)
                if (here >> lane & 1) fibres[first + lane].state = State::ready;
            any = true;
        }
    return any;
}

inline bool release_barrier() {
    int line = -1;
    for (int i = 0; i < threads; ++i) {
        if (fibres[i].state == State::done) continue;
        if (fibres[i].state != State::barrier) return false;
        if (line >= 0 && fibres[i].line != line)
            return fail("threads of block (%u, %u, %u) are at different barriers, lines %d and %d",
                        blockIdx.x, blockIdx.y, blockIdx.z, line, fibres[i].line);
        line = fibres[i].line;
    }
    if (line < 0) return false;
    for (int i = 0; i < threads; ++i)
        if (fibres[i].state == State::barrier) fibres[i].state = State::ready;
    return true;
}

inline void describe_deadlock() {
    const char* names[] = {"", "at __syncthreads", "at an operation of the warp", ""};
    int length = snprintf(failure, sizeof failure, "block (%u, %u, %u) waits for ever:",
                          blockIdx.x, blockIdx.y, blockIdx.z);
    for (int i = 0, told = 0; i < threads && told < 4; ++i) {
        Fibre &fibre = fibres[i], &before = fibres[i ? i - 1 : 0];
        if (i && fibre.state == before.state && fibre.line == before.line) continue;
        if (fibre.state == State::done)
            length += snprintf(failure + length, sizeof failure - length, " from thread %d on ended;", i);
        else
            length += snprintf(failure + length, sizeof failure - length, " from thread %d on %s, line %d;",
                               i, names[int(fibre.state)], fibre.line);
        ++told;
    }
}

// ---- a launch -----------------------------------------------------------------------------------

extern "C" char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

inline bool run_block(bool rising) {
    memset(shared_bytes, 0xff, sizeof shared_bytes);
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    for (int i = 0; i < threads; ++i) fibres[i].state = State::ready, fibres[i].started = false;
    for (;; rising = !rising) {
        bool over = true;
        for (int k = 0; k < threads; ++k) {
            int i = rising ? k : threads - 1 - k;
            if (fibres[i].state == State::ready) resume(i);
            if (failure[0]) return false;
            over &= fibres[i].state == State::done;
        }
        if (over) return true;
        bool released = release_warps();
        released |= release_barrier();
        if (!released && !failure[0]) describe_deadlock();
        if (failure[0]) return false;
    }
}

// A wild address ends the kernel and not the tests.
inline void segfault(int, siginfo_t* info, void*) { stop("nothing is at the address %p", info->si_addr); }

struct CatchSegfault {
    struct sigaction before;
    CatchSegfault() {
        struct sigaction action = {};
        action.sa_sigaction = segfault;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigaction(SIGSEGV, &action, &before);
    }
    ~CatchSegfault() { sigaction(SIGSEGV, &before, nullptr); }
};

inline const char* run_grid(const unsigned* grid, const unsigned* block, unsigned shared) {
    failure[0] = 0;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned long long size = 1ull * block[0] * block[1] * block[2];
    if (size == 0 || size > most_threads || block[2] > 64)
        fail("a block of %u x %u x %u threads; 1024 are the most", block[0], block[1], block[2]);
    if (grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535)
        fail("a grid of %u x %u x %u blocks; 2^31 - 1, 65535 and 65535 are the most", grid[0], grid[1], grid[2]);
    if (shared > most_shared) fail("%u bytes of dynamic shared memory; %u are the most", shared, most_shared);
    if (failure[0]) return failure;
    threads = int(size);
    if (!stacks)
        stacks = static_cast<char*>(mmap(nullptr, most_threads * stack_bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    CatchSegfault caught;
    bool rising = true;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x, rising = !rising) {
                blockIdx = {x, y, z};
                if (!run_block(rising)) return failure;
                for (size_t i = 0; i < guard; ++i)
                    if (shared_bytes[i] != 0xff || shared_bytes[guard + shared + i] != 0xff) {
                        fail("block (%u, %u, %u) wrote outside of its %u bytes of dynamic shared memory",
                             x, y, z, shared);
                        return failure;
                    }
            }
    return nullptr;
}

template <typename Parameter> constexpr char kind() {
    if (std::is_pointer_v<Parameter>) return 'p';
    if (std::is_same_v<Parameter, long long>) return 'i';
    return std::is_same_v<Parameter, float> ? 'f' : '?';
}

// `kinds` says what `args` point at: p a pointer, i a long long, f a float.
template <typename... Parameters, size_t... Is>
const char* run_kernel(void (*kernel)(Parameters...), std::index_sequence<Is...>, const unsigned* grid,
                       const unsigned* block, unsigned shared, void** args, const char* kinds) {
    const char expected[] = {kind<Parameters>()..., 0};
    if (strcmp(expected, kinds)) {
        fail("the arguments are of kinds %s, the kernel takes %s", kinds, expected);
        return failure;
    }
    auto call = [&] { kernel(*static_cast<std::remove_cv_t<Parameters>*>(args[Is])...); };
    body = [](void* data) { (*static_cast<decltype(call)*>(data))(); };
    body_data = &call;
    return run_grid(grid, block, shared);
}

template <typename... Parameters>
const char* run_kernel(void (*kernel)(Parameters...), const unsigned* grid, const unsigned* block,
                       unsigned shared, void** args, const char* kinds) {
    return run_kernel(kernel, std::index_sequence_for<Parameters...>(), grid, block, shared, args, kinds);
}

template <typename Value> Word to_word(Value value) {
    static_assert(sizeof value <= sizeof(Word));
    Word word = 0;
    memcpy(&word, &value, sizeof value);
    return word;
}

template <typename Value> Value from_word(Word word) {
    Value value;
    memcpy(&value, &word, sizeof value);
    return value;
}

template <typename To, typename From> To as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    return from_word<To>(to_word(from));
}

template <typename Value>
Value take(unsigned mask, Value value, int source, int line) {
    return from_word<Value>(exchange(shuffle, mask, to_word(value), source, line).taken);
}

template <typename Value> Value shuffle_to(unsigned mask, Value value, int from, int width, int line) {
    int lane = current % 32, part = lane / width * width;
    return take(mask, value, part + (from & (width - 1)), line);
}
template <typename Value> Value shuffle_xor(unsigned mask, Value value, int with, int width, int line) {
    int lane = current % 32, from = lane ^ with;
    return take(mask, value, from < (lane / width + 1) * width ? from : lane, line);
}
template <typename Value> Value shuffle_down(unsigned mask, Value value, unsigned by, int width, int line) {
    int lane = current % 32, from = lane + int(by);
    return take(mask, value, from < (lane / width + 1) * width ? from : lane, line);
}
template <typename Value> Value shuffle_up(unsigned mask, Value value, unsigned by, int width, int line) {
    int lane = current % 32, from = lane - int(by);
    return take(mask, value, from >= lane / width * width ? from : lane, line);
}

struct Place {  // how the sanitizer's data begin
    const char* file;
    unsigned line, column;
};
}  // namespace emulation

// ---- what g++'s checks call ---------------------------------------------------------------------

extern "C" {
__attribute__((used, visibility("hidden"))) void __ubsan_handle_out_of_bounds_abort(void* data, void* index) {
    emulation::stop("line %u: index %td is outside of the array",
                    static_cast<emulation::Place*>(data)->line, reinterpret_cast<ptrdiff_t>(index));
}
__attribute__((used, visibility("hidden"))) void __ubsan_handle_type_mismatch_v1_abort(void* data, void* address) {
    emulation::stop("line %u: the address %p is not aligned",
                    static_cast<emulation::Place*>(data)->line, address);
}
__attribute__((used, visibility("hidden"))) void __ubsan_handle_divrem_overflow_abort(void* data, void*, void*) {
    emulation::stop("line %u: division by zero", static_cast<emulation::Place*>(data)->line);
}
__attribute__((used, visibility("hidden"))) void __ubsan_handle_shift_out_of_bounds_abort(void* data, void*, void* by) {
    emulation::stop("line %u: shift by %td", static_cast<emulation::Place*>(data)->line,
                    reinterpret_cast<ptrdiff_t>(by));
}
}

// ---- barriers, shuffles, votes ------------------------------------------------------------------

#define __syncthreads() emulation::wait(emulation::State::barrier, __LINE__)
#define SYNCWARP(mask, ...) emulation::exchange(emulation::sync, mask, 0, 0, __LINE__)
#define __syncwarp(...) SYNCWARP(__VA_ARGS__ __VA_OPT__(,) 0xffffffffu)
#define WIDTH(width, ...) width
#define SHUFFLE(how, mask, value, lane, ...) \
    emulation::how(mask, value, lane, WIDTH(__VA_ARGS__ __VA_OPT__(,) 32, 32), __LINE__)
#define __shfl_sync(...) SHUFFLE(shuffle_to, __VA_ARGS__)
#define __shfl_xor_sync(...) SHUFFLE(shuffle_xor, __VA_ARGS__)
#define __shfl_down_sync(...) SHUFFLE(shuffle_down, __VA_ARGS__)
#define __shfl_up_sync(...) SHUFFLE(shuffle_up, __VA_ARGS__)
#define __ballot_sync(mask, set) emulation::exchange(emulation::vote, mask, (set) ? 1 : 0, 0, __LINE__).votes
#define __any_sync(mask, set) (__ballot_sync(mask, set) != 0)
#define __all_sync(mask, set) (__ballot_sync(mask, !(set)) == 0)
#define __match_any_sync(mask, value) \
    emulation::exchange(emulation::match, mask, emulation::to_word(value), 0, __LINE__).votes
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- atomics: one thread runs at a time, so they are plain --------------------------------------

#define ATOMIC(name, type, next)               \
    inline type name(type* place, type value) { \
        type old = *place;                      \
        *place = next;                          \
        return old;                             \
    }
#define ATOMIC_INTEGERS(type)                            \
    ATOMIC(atomicMax, type, old > value ? old : value)   \
    ATOMIC(atomicMin, type, old < value ? old : value)   \
    ATOMIC(atomicAnd, type, old & value)                 \
    ATOMIC(atomicOr, type, old | value)                  \
    ATOMIC(atomicXor, type, old ^ value)                 \
    ATOMIC(atomicExch, type, value)                      \
    inline type atomicCAS(type* place, type expected, type value) { \
        type old = *place;                               \
        if (old == expected) *place = value;             \
        return old;                                      \
    }
ATOMIC_INTEGERS(int)
ATOMIC_INTEGERS(unsigned)
ATOMIC_INTEGERS(unsigned long long)
ATOMIC(atomicMax, long long, old > value ? old : value)
ATOMIC(atomicMin, long long, old < value ? old : value)
ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
ATOMIC(atomicAdd, unsigned, old + value)
ATOMIC(atomicAdd, unsigned long long, old + value)
ATOMIC(atomicAdd, float, old + value)
ATOMIC(atomicAdd, double, old + value)
ATOMIC(atomicSub, int, int(unsigned(old) - unsigned(value)))
ATOMIC(atomicSub, unsigned, old - value)
ATOMIC(atomicExch, float, value)

// ---- arithmetic ---------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline unsigned __brev(unsigned x) {
    unsigned result = 0;
    for (int i = 0; i < 32; ++i) result |= (x >> i & 1) << (31 - i);
    return result;
}
inline unsigned __float_as_uint(float x) { return emulation::as<unsigned>(x); }
inline int __float_as_int(float x) { return emulation::as<int>(x); }
inline float __uint_as_float(unsigned x) { return emulation::as<float>(x); }
inline float __int_as_float(int x) { return emulation::as<float>(x); }
inline long long __double_as_longlong(double x) { return emulation::as<long long>(x); }
inline double __longlong_as_double(long long x) { return emulation::as<double>(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <typename Value> Value __ldg(const Value* from) { return *from; }
template <typename Value> Value __ldcs(const Value* from) { return *from; }
template <typename Value> void __stcs(Value* to, Value value) { *to = value; }

// CUDA's: for floats a NaN loses against a number.
template <typename A, typename B> auto min(A a, B b) {
    using Both = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<Both>) return Both(fmin(a, b));
    else return Both(a) < Both(b) ? Both(a) : Both(b);
}
template <typename A, typename B> auto max(A a, B b) {
    using Both = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<Both>) return Both(fmax(a, b));
    else return Both(a) > Both(b) ? Both(a) : Both(b);
}

inline float half_bits_to_float(unsigned short bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent ? ldexpf(float(1024 + fraction), exponent - 25) : ldexpf(float(fraction), -24);
    return bits >> 15 ? -size : size;
}

inline unsigned short float_to_half_bits(float value) {
    unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff;                   // NaN
    if (size >= 0x477ff000u) return sign | 0x7c00u;          // 65520 and above round to infinity
    if (size < 0x38800000u) return sign | unsigned(nearbyintf(ldexpf(__uint_as_float(size), 24)));
    return sign | ((size + 0xfffu + (size >> 13 & 1u)) - (112u << 23)) >> 13;
}
