// Convolution of images of few channels: a tile of a product would be nearly empty, since the depth is a few numbers.
//
// Set from outside: REAL, C (channels), KH x KW (taps), FILTERS (of a thread, a multiple of four), WINDOWS (of a thread).

#define DEPTH (KH * KW * C)

struct __align__(4 * sizeof(REAL)) Four { REAL v[4]; };

struct Conv {
    int n, h, w, oh, ow, o;
    int sh, sw, dh, dw, top, left;
};

// A thread has WINDOWS windows, 128 apart, and FILTERS sums for each; a block's weights are in shared memory, and all
// threads read the same one at a time.
extern "C" __global__ void __launch_bounds__(128) conv_direct(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    const Conv p) {
    __shared__ __align__(32) REAL weights[DEPTH][FILTERS];
    const int t = threadIdx.x, first_filter = blockIdx.y * FILTERS, count = p.n * p.oh * p.ow;
    for (int q = t; q < DEPTH * FILTERS; q += 128) {
        const int filter = first_filter + q % FILTERS;
        weights[q / FILTERS][q % FILTERS] = filter < p.o ? weight[q / FILTERS * p.o + filter] : REAL(0);
    }
    __syncthreads();

    int image[WINDOWS], y0[WINDOWS], x0[WINDOWS];
#pragma unroll
    for (int i = 0; i < WINDOWS; i++) {
        const int window = (blockIdx.x * WINDOWS + i) * 128 + t;
        image[i] = window / p.ow / p.oh * p.h;
        y0[i] = window < count ? window / p.ow % p.oh * p.sh - p.top : -(1 << 30);  // no tap then meets a pixel
        x0[i] = window % p.ow * p.sw - p.left;
    }
    REAL sum[WINDOWS][FILTERS] = {};
    for (int k = 0; k < KH; k++) {
        for (int l = 0; l < KW; l++) {
#pragma unroll
            for (int c = 0; c < C; c++) {
                REAL value[WINDOWS];
#pragma unroll
                for (int i = 0; i < WINDOWS; i++) {
                    const int row = y0[i] + k * p.dh, column = x0[i] + l * p.dw;
                    const bool there = unsigned(row) < unsigned(p.h) && unsigned(column) < unsigned(p.w);
                    value[i] = there ? x[((image[i] + row) * p.w + column) * C + c] : REAL(0);
                }
#pragma unroll
                for (int f = 0; f < FILTERS; f += 4) {
                    const Four four = *reinterpret_cast<const Four *>(&weights[(k * KW + l) * C + c][f]);
#pragma unroll
                    for (int i = 0; i < WINDOWS; i++) {
#pragma unroll
                        for (int g = 0; g < 4; g++) sum[i][f + g] += value[i] * four.v[g];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < WINDOWS; i++) {
        const int window = (blockIdx.x * WINDOWS + i) * 128 + t;
        if (window >= count) continue;
#pragma unroll
        for (int f = 0; f < FILTERS; f++) {
            const int filter = first_filter + f;
            if (filter < p.o) y[window * p.o + filter] = sum[i][f] + (bias ? bias[filter] : REAL(0));
        }
    }
}
