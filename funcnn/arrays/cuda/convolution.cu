// Convolution as a product of matrices that are never stored whole: see convolution.py for the drawing of the tiles.
//
// Set from outside: REAL (float or double), BM x BN (a block's tile), TM x TN (a thread's part of it), BK (how deep a
// slab is), PACK_X and PACK_W (numbers that one load takes along the channels and along the filters: 4 or 1).

#define THREADS ((BM / TM) * (BN / TN))
#define GAP 4  // numbers between the rows of a slab, so that a column of it does not lie in one memory bank

struct __align__(4 * sizeof(REAL)) Four { REAL v[4]; };

template <int COUNT> struct Pack { REAL v[COUNT]; };
template <> struct __align__(4 * sizeof(REAL)) Pack<4> { REAL v[4]; };

struct Conv {
    int n, h, w, c, groups;                          // the images that windows are laid on
    int oh, ow, o;                                   // the windows of an image; filters
    int kh, kw, sh, sw, dh, dw, top, left;           // as a Geometry has them
    int out_h, out_w, row, row_step, column, column_step;  // window (i, j) is written at (row + i*row_step, ...)
    int step_image, step_i, step_j;                  // BK windows on: so many images, rows, columns
    int step_k, step_l, step_c;                      // BK deeper: so many rows and columns of taps, channels
};

// A place in a sequence that is counted like hours, minutes and seconds.
struct Place { int a, b, c; };

__device__ __forceinline__ Place place(int index, int b_size, int c_size) {
    return {index / (b_size * c_size), index / c_size % b_size, index % c_size};
}

__device__ __forceinline__ void advance(Place &at, int a, int b, int c, int b_size, int c_size) {
    at.c += c;
    if (at.c >= c_size) { at.c -= c_size; at.b++; }
    at.b += b;
    if (at.b >= b_size) { at.b -= b_size; at.a++; }
    at.a += a;
}

template <int COUNT> __device__ __forceinline__ Pack<COUNT> pack_at(const REAL *from, bool there) {
    Pack<COUNT> pack;
    if (there) {
        pack = *reinterpret_cast<const Pack<COUNT> *>(from);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) pack.v[i] = 0;
    }
    return pack;
}

// The products of two slabs in shared memory, added to a thread's TM x TN sums. A thread's rows are in groups of four,
// BM / (TM / 4) apart, and so are its columns: what neighbours read then lies side by side.
__device__ __forceinline__ void multiply(
    const REAL (&left)[BK][BM + GAP], const REAL (&right)[BK][BN + GAP], REAL (&sum)[TM][TN], int row, int column) {
#pragma unroll
    for (int k = 0; k < BK; k++) {
        Four a[TM / 4], b[TN / 4];
#pragma unroll
        for (int i = 0; i < TM / 4; i++) a[i] = *reinterpret_cast<const Four *>(&left[k][i * (4 * BM / TM) + row]);
#pragma unroll
        for (int j = 0; j < TN / 4; j++) b[j] = *reinterpret_cast<const Four *>(&right[k][j * (4 * BN / TN) + column]);
#pragma unroll
        for (int i = 0; i < TM; i++) {
#pragma unroll
            for (int j = 0; j < TN; j++) sum[i][j] += a[i / 4].v[i % 4] * b[j / 4].v[j % 4];
        }
    }
}

// --- Forward: y[window, filter] = bias[filter] + sum over depth of windows[window, depth] * weight[depth, filter] ----

#define X_PACKS (BM * BK / PACK_X)
#define X_LOADS ((X_PACKS + THREADS - 1) / THREADS)
#define W_PACKS (BK * BN / PACK_W)
#define W_LOADS ((W_PACKS + THREADS - 1) / THREADS)

extern "C" __global__ void __launch_bounds__(THREADS) conv_forward(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    const Conv p) {
    __shared__ __align__(32) REAL windows[2][BK][BM + GAP];
    __shared__ __align__(32) REAL weights[2][BK][BN + GAP];

    const int t = threadIdx.x, group = blockIdx.z;
    const int inner = p.c / p.groups, filters = p.o / p.groups;
    const int depth = p.kh * p.kw * inner, count = p.n * p.oh * p.ow;
    const int tiles = (filters + BN - 1) / BN;  // of filters: blocks beside each other share windows
    const int first_window = blockIdx.x / tiles * BM, first_filter = blockIdx.x % tiles * BN;

    // A thread loads the same column of every slab of windows, PACK_X deep, of some rows that stay the same too.
    const int own_depth = t % (BK / PACK_X) * PACK_X;
    Place at = place(own_depth, p.kw, inner);  // row of taps, column of taps, channel
    int image[X_LOADS], y0[X_LOADS], x0[X_LOADS];
#pragma unroll
    for (int i = 0; i < X_LOADS; i++) {
        const int row = (t + i * THREADS) / (BK / PACK_X), window = first_window + row;
        const Place where = place(window, p.oh, p.ow);
        const bool there = row < BM && window < count;
        image[i] = where.a * p.h;
        y0[i] = there ? where.b * p.sh - p.top : -(1 << 30);  // no tap then meets a pixel
        x0[i] = where.c * p.sw - p.left;
    }

    Pack<PACK_X> next_x[X_LOADS];
    Pack<PACK_W> next_w[W_LOADS];
    auto fetch = [&](int slab) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            const int row = y0[i] + at.a * p.dh, column = x0[i] + at.b * p.dw;
            const bool there = at.a < p.kh && unsigned(row) < unsigned(p.h) && unsigned(column) < unsigned(p.w);
            next_x[i] = pack_at<PACK_X>(x + ((image[i] + row) * p.w + column) * p.c + group * inner + at.c, there);
        }
        advance(at, p.step_k, p.step_l, p.step_c, p.kw, inner);
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            const int q = t + i * THREADS, deep = slab * BK + q / (BN / PACK_W);
            const int filter = first_filter + q % (BN / PACK_W) * PACK_W;
            const bool there = q < W_PACKS && deep < depth && filter < filters;
            next_w[i] = pack_at<PACK_W>(weight + deep * p.o + group * filters + filter, there);
        }
    };
    auto store = [&](int half) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            const int row = (t + i * THREADS) / (BK / PACK_X);
            if (X_PACKS % THREADS == 0 || row < BM) {
#pragma unroll
                for (int k = 0; k < PACK_X; k++) windows[half][own_depth + k][row] = next_x[i].v[k];
            }
        }
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            const int q = t + i * THREADS;
            if (W_PACKS % THREADS == 0 || q < W_PACKS)
                *reinterpret_cast<Pack<PACK_W> *>(&weights[half][q / (BN / PACK_W)][q % (BN / PACK_W) * PACK_W]) = next_w[i];
        }
    };

    const int own_row = t / (BN / TN) * 4, own_column = t % (BN / TN) * 4;
    REAL sum[TM][TN] = {};
    const int slabs = (depth + BK - 1) / BK;
    fetch(0);
    store(0);
    __syncthreads();
    for (int slab = 0; slab < slabs; slab++) {
        const int half = slab % 2;
        if (slab + 1 < slabs) fetch(slab + 1);  // on its way while this slab is multiplied
        multiply(windows[half], weights[half], sum, own_row, own_column);
        if (slab + 1 < slabs) store(1 - half);
        __syncthreads();
    }

    REAL added[TN];
#pragma unroll
    for (int j = 0; j < TN; j++) {
        const int filter = first_filter + j / 4 * (4 * BN / TN) + own_column + j % 4;
        added[j] = bias && filter < filters ? bias[group * filters + filter] : REAL(0);
    }
#pragma unroll
    for (int i = 0; i < TM; i++) {
        const int window = first_window + i / 4 * (4 * BM / TM) + own_row + i % 4;
        if (window >= count) continue;
        const Place where = place(window, p.oh, p.ow);
        const int row = p.row + where.b * p.row_step, column = p.column + where.c * p.column_step;
        REAL *out = y + ((where.a * p.out_h + row) * p.out_w + column) * p.o + group * filters;
#pragma unroll
        for (int j = 0; j < TN; j += PACK_W) {
            const int filter = first_filter + j / 4 * (4 * BN / TN) + own_column + j % 4;
            if (filter >= filters) continue;
            Pack<PACK_W> pack;
#pragma unroll
            for (int k = 0; k < PACK_W; k++) pack.v[k] = sum[i][j + k] + added[j + k];
            *reinterpret_cast<Pack<PACK_W> *>(out + filter) = pack;
        }
    }
}

// --- Weight gradient: parts[split, depth, filter] = sum over a split's windows of windows[window, depth] * dy[window, filter]

extern "C" __global__ void __launch_bounds__(THREADS) conv_weight_gradient(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ parts, const Conv p, const int each) {
    __shared__ __align__(32) REAL windows[2][BK][BM + GAP];
    __shared__ __align__(32) REAL gradients[2][BK][BN + GAP];

    const int t = threadIdx.x, group = blockIdx.z, split = blockIdx.y;
    const int inner = p.c / p.groups, filters = p.o / p.groups;
    const int depth = p.kh * p.kw * inner, count = p.n * p.oh * p.ow;
    const int tiles = (filters + BN - 1) / BN;
    const int first_deep = blockIdx.x / tiles * BM, first_filter = blockIdx.x % tiles * BN;
    const int begin = split * each, end = min(count, begin + each);  // the split's windows

    // A thread loads the same place in the depth, PACK_X deep, of windows that move on by BK.
    const int own_depth = t % (BM / PACK_X) * PACK_X;
    const Place tap = place(first_deep + own_depth, p.kw, inner);
    const bool is_deep = first_deep + own_depth < depth;
    const int tap_row = tap.a * p.dh - p.top, tap_column = tap.b * p.dw - p.left, channel = group * inner + tap.c;
    Place where[X_LOADS];  // image, row, column of a window
#pragma unroll
    for (int i = 0; i < X_LOADS; i++) where[i] = place(begin + (t + i * THREADS) / (BM / PACK_X), p.oh, p.ow);

    Pack<PACK_X> next_x[X_LOADS];
    Pack<PACK_W> next_dy[W_LOADS];
    auto fetch = [&](int start) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            const int window = start + (t + i * THREADS) / (BM / PACK_X);
            const int row = where[i].b * p.sh + tap_row, column = where[i].c * p.sw + tap_column;
            const bool there = is_deep && window < end && unsigned(row) < unsigned(p.h) && unsigned(column) < unsigned(p.w);
            next_x[i] = pack_at<PACK_X>(x + ((where[i].a * p.h + row) * p.w + column) * p.c + channel, there);
            advance(where[i], p.step_image, p.step_i, p.step_j, p.oh, p.ow);
        }
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            const int q = t + i * THREADS, window = start + q / (BN / PACK_W);
            const int filter = first_filter + q % (BN / PACK_W) * PACK_W;
            const bool there = q < W_PACKS && window < end && filter < filters;
            next_dy[i] = pack_at<PACK_W>(dy + window * p.o + group * filters + filter, there);
        }
    };
    auto store = [&](int half) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            const int row = (t + i * THREADS) / (BM / PACK_X);
            if (X_PACKS % THREADS == 0 || row < BK)
                *reinterpret_cast<Pack<PACK_X> *>(&windows[half][row][own_depth]) = next_x[i];
        }
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            const int q = t + i * THREADS;
            if (W_PACKS % THREADS == 0 || q < W_PACKS)
                *reinterpret_cast<Pack<PACK_W> *>(&gradients[half][q / (BN / PACK_W)][q % (BN / PACK_W) * PACK_W]) = next_dy[i];
        }
    };

    const int own_row = t / (BN / TN) * 4, own_column = t % (BN / TN) * 4;
    REAL sum[TM][TN] = {};
    const int slabs = (end - begin + BK - 1) / BK;
    fetch(begin);
    store(0);
    __syncthreads();
    for (int slab = 0; slab < slabs; slab++) {
        const int half = slab % 2;
        if (slab + 1 < slabs) fetch(begin + (slab + 1) * BK);
        multiply(windows[half], gradients[half], sum, own_row, own_column);
        if (slab + 1 < slabs) store(1 - half);
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < TM; i++) {
        const int deep = first_deep + i / 4 * (4 * BM / TM) + own_row + i % 4;
        if (deep >= depth) continue;
        REAL *out = parts + ((long long)split * depth + deep) * p.o + group * filters;
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const int filter = first_filter + j / 4 * (4 * BN / TN) + own_column + j % 4;
            if (filter < filters) out[filter] = sum[i][j];
        }
    }
}
