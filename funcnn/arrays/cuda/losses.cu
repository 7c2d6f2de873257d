// Softmax cross-entropy of rows (logits of an example or a position) with class numbers: the 32 threads of a warp have a
// row together, and make its term and its slopes at once.
//
// Set from outside: REAL.

#define ROWS 8  // of a block, one for each of its warps

__device__ __forceinline__ REAL sum_over_warp(REAL value) {
    for (int other = 16; other; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
}

__device__ __forceinline__ REAL largest_of_row(const REAL *row, int size, int lane) {
    REAL value = row[0];
    for (int i = lane; i < size; i += 32) value = row[i] > value || row[i] != row[i] ? row[i] : value;
    for (int other = 16; other; other /= 2) {
        const REAL its = __shfl_xor_sync(0xffffffffu, value, other);
        value = its > value || its != its ? its : value;  // what is not a number stays
    }
    return value;
}

// log_p = logits - log(sum of exp(logits)), and p, for each row.
extern "C" __global__ void __launch_bounds__(256) log_softmax(
    const REAL *__restrict__ logits, REAL *__restrict__ log_p, REAL *__restrict__ p, const int rows, const int classes) {
    const int row = blockIdx.x * ROWS + threadIdx.y, lane = threadIdx.x;
    if (row >= rows) return;
    logits += (long long)row * classes;
    log_p += (long long)row * classes;
    p += (long long)row * classes;
    const REAL largest = largest_of_row(logits, classes, lane);
    REAL sum = 0;
    for (int i = lane; i < classes; i += 32) sum += exp(logits[i] - largest);
    sum = sum_over_warp(sum);
    const REAL log_sum = log(sum);
    for (int i = lane; i < classes; i += 32) {
        log_p[i] = logits[i] - largest - log_sum;
        p[i] = exp(logits[i] - largest) / sum;
    }
}

// term = -on * log p[label] - off * sum of log p;  slope = p - off - on * [label].
extern "C" __global__ void __launch_bounds__(256) cross_entropy(
    const REAL *__restrict__ logits, const long long *__restrict__ labels,
    REAL *__restrict__ terms, REAL *__restrict__ slopes, const int rows, const int classes,
    const REAL on, const REAL off) {
    const int row = blockIdx.x * ROWS + threadIdx.y, lane = threadIdx.x;
    if (row >= rows) return;
    logits += (long long)row * classes;
    slopes += (long long)row * classes;
    const REAL largest = largest_of_row(logits, classes, lane);
    REAL sum = 0, total = 0;
    for (int i = lane; i < classes; i += 32) {
        sum += exp(logits[i] - largest);
        total += logits[i] - largest;
    }
    sum = sum_over_warp(sum);
    const REAL log_sum = log(sum);
    const long long label = labels[row];
    const bool known = label >= 0 && label < classes;
    if (off != 0) total = sum_over_warp(total) - classes * log_sum;
    for (int i = lane; i < classes; i += 32) {
        const REAL p = exp(logits[i] - largest) / sum;
        slopes[i] = p - off - (i == label ? on : REAL(0));
    }
    if (lane > 0) return;
    // No class has that number: the term shows it, since a kernel raises nothing.
    const REAL own = known ? logits[label] - largest - log_sum : log(REAL(-1));
    terms[row] = -(on * own + (off != 0 ? off * total : REAL(0)));
}
