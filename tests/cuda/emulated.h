// What CUDA C has and C++ lacks, so that g++ compiles a kernel and runs it here: the blocks one after the other, the
// threads of a block as fibers, each of which runs until it waits for the others (emulated.cpp).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct Index { unsigned x, y, z; };
extern Index threadIdx, blockIdx, blockDim, gridDim;

using std::erf;
using std::erfc;
using std::exp;
using std::expm1;
using std::fabs;
using std::log;
using std::log1p;
using std::sqrt;
using std::tanh;
template <typename T> inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> inline T max(T a, T b) { return a < b ? b : a; }

void __syncthreads();

namespace emulated {

void wait_for_warp();
extern uint64_t shown[1024];  // what the threads of a block show each other

// Runs a grid; the result is 0, or why it failed.
int run(const int *grid, const int *block, bool backwards, void (*invoke)(void *), void *data);

// An argument's kind, to be compared with what is passed: a pointer's by what it points to, a struct's by its size.
template <typename A> struct Kind { static void write(char *out) { strcpy(out, std::is_class<A>::value ? "V" : "?"); } };
#define KIND(type, name)                                                                            \
    template <> struct Kind<type> { static void write(char *out) { strcpy(out, name); } };          \
    template <> struct Kind<type *> { static void write(char *out) { strcpy(out, "*" name); } };    \
    template <> struct Kind<const type *> { static void write(char *out) { strcpy(out, "*" name); } };
KIND(float, "f") KIND(double, "d") KIND(int, "i") KIND(long long, "q") KIND(unsigned char, "B") KIND(bool, "?")

template <typename... A> struct Call {
    void (*kernel)(A...);
    void **arguments;
    template <size_t... I> void go(std::index_sequence<I...>) {
        kernel(*reinterpret_cast<std::remove_const_t<A> *>(arguments[I])...);
    }
    static void invoke(void *self) { static_cast<Call *>(self)->go(std::index_sequence_for<A...>()); }
};

template <typename... A> int launch(void (*kernel)(A...), const int *grid, const int *block, bool backwards, void **arguments) {
    Call<A...> call{kernel, arguments};
    return run(grid, block, backwards, Call<A...>::invoke, &call);
}

template <typename... A> int describe(void (*)(A...), char (*kinds)[4], int *sizes) {
    int i = 0;
    ((Kind<std::remove_const_t<A>>::write(kinds[i]), sizes[i++] = int(sizeof(A))), ...);
    return i;
}

}  // namespace emulated

template <typename T> static T __shfl_xor_sync(unsigned, T value, int other) {
    const unsigned id = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    memcpy(&emulated::shown[id], &value, sizeof(T));
    emulated::wait_for_warp();
    T got;
    memcpy(&got, &emulated::shown[id ^ unsigned(other)], sizeof(T));
    emulated::wait_for_warp();
    return got;
}
