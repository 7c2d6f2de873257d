// The second stage of every sum that blocks share: always in the same order, so that the same bits come out.

// out[i] = sum over splits of parts[split, i]: 32 sums a block, eight threads to each.
extern "C" __global__ void __launch_bounds__(256) sum_parts(const REAL *parts, REAL *out, const int splits, const int size) {
    __shared__ double shares[8][32];
    const int i = blockIdx.x * 32 + threadIdx.x;
    double sum = 0;
    if (i < size)
        for (int split = threadIdx.y; split < splits; split += 8) sum += parts[(long long)split * size + i];
    shares[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= size) return;
    for (int y = 1; y < 8; y++) sum += shares[y][threadIdx.x];
    out[i] = REAL(sum);
}
