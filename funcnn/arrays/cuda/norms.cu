// Batch norm: sums over all rows of a matrix (rows, channels), which images and sequences of any shape are, for each
// channel. A block has some channels (threadIdx.x) and a part of the rows (threadIdx.y in turn); all sums are in double.
//
// Set from outside: REAL, PACK (numbers that a thread takes at once where the rows are only scaled: 4 or 1).

template <int COUNT> struct Pack { REAL v[COUNT]; };
template <> struct __align__(4 * sizeof(REAL)) Pack<4> { REAL v[4]; };

// The sums of a block's rows (threadIdx.y), for thread row 0.
__device__ __forceinline__ void sum_rows(double &one, double &other) {
    __shared__ double shares[2][256];
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    shares[0][at] = one;
    shares[1][at] = other;
    __syncthreads();
    if (threadIdx.y > 0) return;
    for (int y = 1; y < blockDim.y; y++) {
        one += shares[0][at + y * blockDim.x];
        other += shares[1][at + y * blockDim.x];
    }
}

// Adds up what splits have found, (splits, 2, channels); for thread row 0.
__device__ __forceinline__ void sum_splits(const double *parts, int splits, int channels, int channel, double &one, double &other) {
    one = other = 0;
    for (int split = threadIdx.y; channel < channels && split < splits; split += blockDim.y) {
        one += parts[(2LL * split) * channels + channel];
        other += parts[(2LL * split + 1) * channels + channel];
    }
    sum_rows(one, other);
}

// --- Forward --------------------------------------------------------------------------------------------------

// parts[split] = sum of x - centre and of its square, the centre being the first row: no digits cancel.
extern "C" __global__ void __launch_bounds__(256) moments(
    const REAL *x, double *parts, const int rows, const int channels, const int each) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x, split = blockIdx.y;
    double sum = 0, squares = 0;
    if (channel < channels) {
        const REAL centre = x[channel];
        const int end = min(rows, (split + 1) * each);
#pragma unroll 4
        for (int row = split * each + threadIdx.y; row < end; row += blockDim.y) {
            const double left = double(x[(long long)row * channels + channel]) - centre;
            sum += left;
            squares += left * left;
        }
    }
    sum_rows(sum, squares);
    if (threadIdx.y > 0 || channel >= channels) return;
    parts[(2LL * split) * channels + channel] = sum;
    parts[(2LL * split + 1) * channels + channel] = squares;
}

// found = mean; factors = inverse deviation, new running mean and variance.
extern "C" __global__ void __launch_bounds__(256) finish_statistics(
    const REAL *x, const double *parts, double *found, REAL *factors, const REAL *running_mean, const REAL *running_var,
    const int splits, const int rows, const int channels, const double momentum, const double epsilon) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    double sum, squares;
    sum_splits(parts, splits, channels, channel, sum, squares);
    if (threadIdx.y > 0 || channel >= channels) return;
    const double mean = x[channel] + sum / rows, var = max(squares - sum * sum / rows, 0.0) / rows;
    found[channel] = mean;
    factors[channel] = REAL(1 / sqrt(var + epsilon));
    factors[channels + channel] = REAL(momentum * running_mean[channel] + (1 - momentum) * mean);
    factors[2 * channels + channel] = REAL(momentum * running_var[channel] + (1 - momentum) * var);
}

// y = scale * (x - mean) * inverse + shift.
extern "C" __global__ void __launch_bounds__(256) normalize(
    const REAL *__restrict__ x, const double *__restrict__ mean, const REAL *__restrict__ inverse,
    const REAL *__restrict__ scale, const REAL *__restrict__ shift, REAL *__restrict__ y,
    const int packs, const int channels) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= packs) return;
    const int first = unsigned(index) * PACK % unsigned(channels);
    Pack<PACK> pack = reinterpret_cast<const Pack<PACK> *>(x)[index];
#pragma unroll
    for (int i = 0; i < PACK; i++) {
        const int channel = first + i;
        pack.v[i] = REAL(pack.v[i] - mean[channel]) * (scale[channel] * inverse[channel]) + shift[channel];
    }
    reinterpret_cast<Pack<PACK> *>(y)[index] = pack;
}

// --- Backward -------------------------------------------------------------------------------------------------

// parts[split] = sum of dy * (x - mean) and of dy.
extern "C" __global__ void __launch_bounds__(256) gradient_sums(
    const REAL *dy, const REAL *x, const double *mean, double *parts,
    const int rows, const int channels, const int each) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x, split = blockIdx.y;
    double along = 0, total = 0;
    if (channel < channels) {
        const double own_mean = mean[channel];
        const int end = min(rows, (split + 1) * each);
#pragma unroll 4
        for (int row = split * each + threadIdx.y; row < end; row += blockDim.y) {
            const long long at = (long long)row * channels + channel;
            const double d = dy[at];
            along += d * (x[at] - own_mean);
            total += d;
        }
    }
    sum_rows(along, total);
    if (threadIdx.y > 0 || channel >= channels) return;
    parts[(2LL * split) * channels + channel] = along;
    parts[(2LL * split + 1) * channels + channel] = total;
}

// gradients = dscale and dshift; factors of dy, x - mean and 1 in dx.
extern "C" __global__ void __launch_bounds__(256) finish_gradients(
    const double *parts, const REAL *inverse, const REAL *scale, REAL *gradients, REAL *factors,
    const int splits, const int rows, const int channels) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    double along, total;
    sum_splits(parts, splits, channels, channel, along, total);
    if (threadIdx.y > 0 || channel >= channels) return;
    const double root = inverse[channel], dscale = along * root, factor = scale[channel] * root;
    gradients[channel] = REAL(dscale);
    gradients[channels + channel] = REAL(total);
    factors[channel] = REAL(factor);
    factors[channels + channel] = REAL(-factor * root * dscale / rows);
    factors[2 * channels + channel] = REAL(-factor * total / rows);
}

// dx = factor * dy + along_x * (x - mean) + along_1.
extern "C" __global__ void __launch_bounds__(256) project(
    const REAL *__restrict__ dy, const REAL *__restrict__ x, const double *__restrict__ mean,
    const REAL *__restrict__ factors, REAL *__restrict__ dx, const int packs, const int channels) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= packs) return;
    const int first = unsigned(index) * PACK % unsigned(channels);
    const Pack<PACK> x_pack = reinterpret_cast<const Pack<PACK> *>(x)[index];
    Pack<PACK> pack = reinterpret_cast<const Pack<PACK> *>(dy)[index];
#pragma unroll
    for (int i = 0; i < PACK; i++) {
        const int channel = first + i;
        const REAL left = REAL(x_pack.v[i] - mean[channel]);
        pack.v[i] = factors[channel] * pack.v[i] + factors[channels + channel] * left + factors[2 * channels + channel];
    }
    reinterpret_cast<Pack<PACK> *>(dx)[index] = pack;
}
