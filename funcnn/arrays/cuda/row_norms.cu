// Rows with a mean of 0 and a mean square of 1: layer norm and RMS norm. The 32 threads of a warp have a row together:
// each adds up every 32nd number of it, and then they exchange their sums.
//
// Set from outside: REAL.

#define ROWS 8  // of a block, one for each of its warps

__device__ __forceinline__ REAL over_warp(REAL value) {
    for (int other = 16; other; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
}

// y = (x - mean) * inverse * scale + shift, for each row.
extern "C" __global__ void __launch_bounds__(256) normalize_rows(
    const REAL *__restrict__ x, const REAL *__restrict__ scale, const REAL *__restrict__ shift, REAL *__restrict__ y,
    REAL *__restrict__ means, REAL *__restrict__ inverses, const int rows, const int features, const REAL epsilon, const int centre) {
    const int row = blockIdx.x * ROWS + threadIdx.y, lane = threadIdx.x;
    if (row >= rows) return;
    x += (long long)row * features;
    y += (long long)row * features;
    REAL sum = 0, squares = 0;
    if (centre)
        for (int i = lane; i < features; i += 32) sum += x[i];
    const REAL mean = over_warp(sum) / features;
    for (int i = lane; i < features; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    const REAL inverse = 1 / sqrt(over_warp(squares) / features + epsilon);
    for (int i = lane; i < features; i += 32) {
        const REAL normal = (x[i] - mean) * inverse;
        y[i] = (scale ? normal * scale[i] : normal) + (shift ? shift[i] : REAL(0));
    }
    if (lane == 0) {
        means[row] = mean;
        inverses[row] = inverse;
    }
}

// dx = (d - mean(d) - normal * mean(d * normal)) * inverse, d = dy * scale, normal = (x - mean) * inverse.
extern "C" __global__ void __launch_bounds__(256) normalize_rows_back(
    const REAL *__restrict__ dy, const REAL *__restrict__ x, const REAL *__restrict__ means, const REAL *__restrict__ inverses,
    const REAL *__restrict__ scale, REAL *__restrict__ dx, const int rows, const int features, const int centre) {
    const int row = blockIdx.x * ROWS + threadIdx.y, lane = threadIdx.x;
    if (row >= rows) return;
    x += (long long)row * features;
    dy += (long long)row * features;
    dx += (long long)row * features;
    const REAL mean = means[row], inverse = inverses[row];
    REAL sum = 0, along = 0;
    for (int i = lane; i < features; i += 32) {
        const REAL d = scale ? dy[i] * scale[i] : dy[i];
        sum += d;
        along += d * (x[i] - mean) * inverse;
    }
    const REAL mean_d = centre ? over_warp(sum) / features : REAL(0), mean_along = over_warp(along) / features;
    for (int i = lane; i < features; i += 32) {
        const REAL d = scale ? dy[i] * scale[i] : dy[i];
        dx[i] = (d - mean_d - (x[i] - mean) * inverse * mean_along) * inverse;
    }
}

// parts[split] = sums over a part of the rows of dy * normal and of dy: 32 features a block, eight threads to each.
extern "C" __global__ void __launch_bounds__(256) row_gradients(
    const REAL *__restrict__ dy, const REAL *__restrict__ x, const REAL *__restrict__ means, const REAL *__restrict__ inverses,
    REAL *__restrict__ parts, const int rows, const int features, const int each) {
    __shared__ double shares[2][8][32];
    const int feature = blockIdx.x * 32 + threadIdx.x, split = blockIdx.y;
    const int end = min(rows, (split + 1) * each);
    double along = 0, sum = 0;
#pragma unroll 4
    for (int row = split * each + threadIdx.y; feature < features && row < end; row += 8) {
        const long long at = (long long)row * features + feature;
        along += dy[at] * ((x[at] - means[row]) * inverses[row]);
        sum += dy[at];
    }
    shares[0][threadIdx.y][threadIdx.x] = along;
    shares[1][threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || feature >= features) return;
    for (int y = 1; y < 8; y++) {
        along += shares[0][y][threadIdx.x];
        sum += shares[1][y][threadIdx.x];
    }
    parts[(2LL * split) * features + feature] = REAL(along);
    parts[(2LL * split + 1) * features + feature] = REAL(sum);
}
