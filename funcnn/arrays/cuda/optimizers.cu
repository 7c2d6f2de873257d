// Updates of all leaves of a tree in one launch. A table, which is an argument itself, says where the leaves are:
// a block looks up in it which leaf its part belongs to.
//
// Set from outside: REAL, LEAVES (places in the table), CHUNK (numbers of a block). Compiled without fused multiply-add,
// so that every step rounds as NumPy's does.

struct Table {
    REAL *arrays[7][LEAVES];  // a leaf, its gradient and moments; then what becomes of the leaf and its moments
    REAL keep[LEAVES];        // what is left of a leaf where it decays
    int first[LEAVES + 1];    // the first block of each leaf
    int size[LEAVES];
};

#define FOR_OWN_NUMBERS(table)                                                                      \
    int leaf = 0;                                                                                   \
    for (int step = LEAVES_POWER; step; step /= 2)                                                  \
        if (leaf + step < LEAVES && (table).first[leaf + step] <= int(blockIdx.x)) leaf += step;    \
    const int begin = (int(blockIdx.x) - (table).first[leaf]) * CHUNK;                              \
    const int end = min((table).size[leaf], begin + CHUNK);                                         \
    for (int i = begin + threadIdx.x; i < end; i += 256)

#define LEAVES_POWER 32  // half of the next power of two

extern "C" __global__ void __launch_bounds__(256) sgd(const Table t, const REAL minus_rate) {
    FOR_OWN_NUMBERS(t) {
        const REAL old = t.arrays[0][leaf][i], g = t.arrays[1][leaf][i];
        t.arrays[2][leaf][i] = g * minus_rate + old;
    }
}

extern "C" __global__ void __launch_bounds__(256) momentum(
    const Table t, const REAL minus_rate, const REAL decay, const int nesterov) {
    FOR_OWN_NUMBERS(t) {
        const REAL old = t.arrays[0][leaf][i], descent = t.arrays[1][leaf][i] * minus_rate;
        const REAL v = t.arrays[2][leaf][i] * decay + descent;
        t.arrays[3][leaf][i] = nesterov ? v * decay + descent + old : old + v;
        t.arrays[4][leaf][i] = v;
    }
}

extern "C" __global__ void __launch_bounds__(256) adam(
    const Table t, const REAL b1, const REAL left1, const REAL b2, const REAL left2, const REAL factor, const REAL epsilon) {
    FOR_OWN_NUMBERS(t) {
        const REAL old = t.arrays[0][leaf][i], g = t.arrays[1][leaf][i];
        const REAL m = t.arrays[2][leaf][i] * b1 + g * left1;
        const REAL v = t.arrays[3][leaf][i] * b2 + g * g * left2;
        t.arrays[4][leaf][i] = old * t.keep[leaf] + m / (sqrt(v) + epsilon) * factor;
        t.arrays[5][leaf][i] = m;
        t.arrays[6][leaf][i] = v;
    }
}
