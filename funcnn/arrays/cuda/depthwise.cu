// Depthwise convolution: a channel has a kernel of its own. There are too few products for tiles: each number is read
// a few times, by threads beside each other, and the cache has it. A thread makes one number; channels are neighbours.

struct Conv {
    int n, h, w, c, oh, ow;
    int kh, kw, sh, sw, dh, dw, top, left;
};

extern "C" __global__ void __launch_bounds__(256) depthwise_forward(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    const Conv p) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    const int channel = index % p.c, j = index / p.c % p.ow, i = index / p.c / p.ow % p.oh, n = index / p.c / p.ow / p.oh;
    REAL sum = bias ? bias[channel] : REAL(0);
    for (int k = 0; k < p.kh; k++) {
        const int row = i * p.sh + k * p.dh - p.top;
        if (unsigned(row) >= unsigned(p.h)) continue;
        for (int l = 0; l < p.kw; l++) {
            const int column = j * p.sw + l * p.dw - p.left;
            if (unsigned(column) < unsigned(p.w))
                sum += x[((n * p.h + row) * p.w + column) * p.c + channel] * weight[(k * p.kw + l) * p.c + channel];
        }
    }
    y[index] = sum;
}

// A pixel gets a share from window i by tap k where i * stride + k * dilation - top is its row.
extern "C" __global__ void __launch_bounds__(256) depthwise_input_gradient(
    const REAL *__restrict__ dy, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ dx,
    const Conv p) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.h * p.w * p.c) return;
    const int channel = index % p.c, v = index / p.c % p.w, u = index / p.c / p.w % p.h, n = index / p.c / p.w / p.h;
    REAL sum = bias ? bias[channel] : REAL(0);
    for (int k = 0; k < p.kh; k++) {
        const int down = u + p.top - k * p.dh;
        if (down < 0 || down % p.sh || down / p.sh >= p.oh) continue;
        for (int l = 0; l < p.kw; l++) {
            const int right = v + p.left - l * p.dw;
            if (right < 0 || right % p.sw || right / p.sw >= p.ow) continue;
            const int window = (n * p.oh + down / p.sh) * p.ow + right / p.sw;
            sum += dy[window * p.c + channel] * weight[(k * p.kw + l) * p.c + channel];
        }
    }
    dx[index] = sum;
}

// parts[split, tap, channel]: 32 channels a block, eight threads to each, over a split's windows.
extern "C" __global__ void __launch_bounds__(256) depthwise_weight_gradient(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ parts, const Conv p, const int each) {
    __shared__ REAL shares[8][32];
    const int channel = blockIdx.x * 32 + threadIdx.x, tap = blockIdx.y, split = blockIdx.z;
    const int down = tap / p.kw * p.dh - p.top, right = tap % p.kw * p.dw - p.left;
    const int end = min(p.n * p.oh * p.ow, (split + 1) * each);
    REAL sum = 0;
    for (int window = split * each + threadIdx.y; channel < p.c && window < end; window += 8) {
        const int row = window / p.ow % p.oh * p.sh + down, column = window % p.ow * p.sw + right;
        if (unsigned(row) >= unsigned(p.h) || unsigned(column) >= unsigned(p.w)) continue;
        sum += x[((window / p.ow / p.oh * p.h + row) * p.w + column) * p.c + channel] * dy[window * p.c + channel];
    }
    shares[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || channel >= p.c) return;
    for (int y = 1; y < 8; y++) sum += shares[y][threadIdx.x];
    parts[(split * p.kh * p.kw + tap) * p.c + channel] = sum;
}
