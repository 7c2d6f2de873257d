// Pools of images: a thread makes one number, neighbours have neighbouring channels. Backward collects: a pixel adds up
// its shares of the windows over it, so nothing is written twice and the order is always the same.
//
// Set from outside: REAL, WINNER_BYTES (of a winner's number).

#if WINNER_BYTES == 1
typedef unsigned char Winner;
#else
typedef int Winner;
#endif

struct Pool {
    int n, h, w, c, oh, ow;
    int kh, kw, sh, sw, dh, dw, top, left;
};

struct Place { int n, i, j, c; };

__device__ __forceinline__ Place place(int index, int height, int width, int channels) {
    const int c = index % channels, at = index / channels;
    return {at / width / height, at / width % height, at % width, c};
}

// How many of `taps` cells meet pixels: the first at `start`, the others `dilation` apart.
__device__ __forceinline__ int inside(int start, int taps, int dilation, int size) {
    if (start >= size) return 0;
    const int first = start < 0 ? (dilation - 1 - start) / dilation : 0;
    const int last = min(taps - 1, (size - 1 - start) / dilation);
    return max(0, last - first + 1);
}

// The first window over a pixel along an axis: `down` is its place counted from the first window's first cell.
__device__ __forceinline__ int first_window(int down, int taps, int dilation, int stride) {
    const int reach = down - (taps - 1) * dilation;
    return reach <= 0 ? 0 : (reach + stride - 1) / stride;
}

// Taps go column by column: of equal values the leftmost wins, and of those the topmost. Padding never wins.
extern "C" __global__ void __launch_bounds__(256) max_forward(
    const REAL *__restrict__ x, REAL *__restrict__ y, Winner *__restrict__ winners, const Pool p) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    const Place at = place(index, p.oh, p.ow, p.c);
    REAL best = log(REAL(0));  // minus infinity
    int winner = -1;
    for (int l = 0; l < p.kw; l++) {
        const int column = at.j * p.sw + l * p.dw - p.left;
        if (unsigned(column) >= unsigned(p.w)) continue;
        for (int k = 0; k < p.kh; k++) {
            const int row = at.i * p.sh + k * p.dh - p.top;
            if (unsigned(row) >= unsigned(p.h)) continue;
            const REAL value = x[((at.n * p.h + row) * p.w + column) * p.c + at.c];
            if (winner < 0 || value > best || value != value) {
                best = value;
                winner = k * p.kw + l;
            }
        }
    }
    y[index] = best;
    if (winners) winners[index] = Winner(max(winner, 0));
}

extern "C" __global__ void __launch_bounds__(256) max_backward(
    const REAL *__restrict__ dy, const Winner *__restrict__ winners, REAL *__restrict__ dx, const Pool p) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.h * p.w * p.c) return;
    const Place at = place(index, p.h, p.w, p.c);
    const int down = at.i + p.top, right = at.j + p.left;
    REAL sum = 0;
    for (int i = first_window(down, p.kh, p.dh, p.sh); i < p.oh && i * p.sh <= down; i++) {
        const int k = (down - i * p.sh) / p.dh;
        if (k * p.dh != down - i * p.sh) continue;
        for (int j = first_window(right, p.kw, p.dw, p.sw); j < p.ow && j * p.sw <= right; j++) {
            const int l = (right - j * p.sw) / p.dw, window = ((at.n * p.oh + i) * p.ow + j) * p.c + at.c;
            if (l * p.dw == right - j * p.sw && winners[window] == k * p.kw + l) sum += dy[window];
        }
    }
    dx[index] = sum;
}

// The sum of each window's pixels, or their mean.
extern "C" __global__ void __launch_bounds__(256) sum_forward(
    const REAL *__restrict__ x, REAL *__restrict__ y, const Pool p, const int mean) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.oh * p.ow * p.c) return;
    const Place at = place(index, p.oh, p.ow, p.c);
    REAL sum = 0;
    int count = 0;
    for (int k = 0; k < p.kh; k++) {
        const int row = at.i * p.sh + k * p.dh - p.top;
        if (unsigned(row) >= unsigned(p.h)) continue;
        for (int l = 0; l < p.kw; l++) {
            const int column = at.j * p.sw + l * p.dw - p.left;
            if (unsigned(column) >= unsigned(p.w)) continue;
            sum += x[((at.n * p.h + row) * p.w + column) * p.c + at.c];
            count++;
        }
    }
    y[index] = mean ? sum / count : sum;
}

// Each window's number, or its share of one, to all of its pixels.
extern "C" __global__ void __launch_bounds__(256) sum_backward(
    const REAL *__restrict__ dy, REAL *__restrict__ dx, const Pool p, const int mean) {
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.n * p.h * p.w * p.c) return;
    const Place at = place(index, p.h, p.w, p.c);
    const int down = at.i + p.top, right = at.j + p.left;
    REAL sum = 0;
    for (int i = first_window(down, p.kh, p.dh, p.sh); i < p.oh && i * p.sh <= down; i++) {
        if ((down - i * p.sh) % p.dh) continue;
        const int rows = inside(i * p.sh - p.top, p.kh, p.dh, p.h);
        for (int j = first_window(right, p.kw, p.dw, p.sw); j < p.ow && j * p.sw <= right; j++) {
            if ((right - j * p.sw) % p.dw) continue;
            const REAL own = dy[((at.n * p.oh + i) * p.ow + j) * p.c + at.c];
            sum += mean ? own / (rows * inside(j * p.sw - p.left, p.kw, p.dw, p.w)) : own;
        }
    }
    dx[index] = sum;
}
