// The blocks of a grid, and the threads of a block: see emulated.h.
//
// A run fails, with its reason as the result, where threads of a block wait for each other and some never come, and
// where one reads or writes beyond an array (arrays lie between pages that nobody may touch: emulator.py).
#include "emulated.h"

#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <vector>

#include <ucontext.h>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

enum State { READY, AT_BLOCK, AT_WARP, DONE };
enum Result { FINE, SOME_NEVER_CAME, BEYOND_AN_ARRAY };

struct Fiber {
    ucontext_t context;  // to begin with; from then on it goes on by jumps, since ucontext asks the system each time
    bool has_begun;
    jmp_buf here;
    std::unique_ptr<char[]> stack;
    State state;
    Index thread;
};

uint64_t shown[1024];
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static Fiber *running;
static void (*body)(void *);
static void *body_data;
static sigjmp_buf escape;

static void begin() {
    body(body_data);
    running->state = DONE;
    _longjmp(scheduler, 1);
}

static void wait(State state) {
    running->state = state;
    if (_setjmp(running->here) == 0) _longjmp(scheduler, 1);
    threadIdx = running->thread;
}

void wait_for_warp() { wait(AT_WARP); }

static bool release(size_t from, size_t to, State state) {
    for (size_t i = from; i < to; i++)
        if (fibers[i].state != state) return false;
    for (size_t i = from; i < to; i++) fibers[i].state = READY;
    return true;
}

[[noreturn]] static void go_on(Fiber &fiber) {
    if (fiber.has_begun) _longjmp(fiber.here, 1);
    fiber.has_begun = true;
    setcontext(&fiber.context);
    abort();
}

static Result run_block(bool backwards) {
    const size_t count = fibers.size(), stack_size = 1 << 16;
    for (size_t i = 0; i < count; i++) {
        Fiber &fiber = fibers[i];
        if (!fiber.stack) fiber.stack.reset(new char[stack_size]);
        fiber.state = READY;
        fiber.has_begun = false;
        fiber.thread = {unsigned(i % blockDim.x), unsigned(i / blockDim.x % blockDim.y), unsigned(i / blockDim.x / blockDim.y)};
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = stack_size;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, begin, 0);
    }
    for (;;) {
        for (volatile size_t i = 0; i < count; i = i + 1) {
            Fiber &fiber = fibers[backwards ? count - 1 - i : i];
            if (fiber.state != READY) continue;
            running = &fiber;
            threadIdx = fiber.thread;
            if (_setjmp(scheduler) == 0) go_on(fiber);
        }
        bool all_done = true, some_go_on = false;
        for (auto &fiber : fibers) all_done &= fiber.state == DONE;
        if (all_done) return FINE;
        for (size_t i = 0; i < count; i += 32) some_go_on |= release(i, min(i + 32, count), AT_WARP);
        if (!some_go_on && !release(0, count, AT_BLOCK)) return SOME_NEVER_CAME;
    }
}

static void on_fault(int) { siglongjmp(escape, 1); }

int run(const int *grid, const int *block, bool backwards, void (*invoke)(void *), void *data) {
    gridDim = {unsigned(grid[0]), unsigned(grid[1]), unsigned(grid[2])};
    blockDim = {unsigned(block[0]), unsigned(block[1]), unsigned(block[2])};
    fibers.clear();
    fibers.resize(block[0] * block[1] * block[2]);
    body = invoke;
    body_data = data;
    struct sigaction ours = {}, before_segv, before_bus;
    ours.sa_handler = on_fault;
    sigaction(SIGSEGV, &ours, &before_segv);
    sigaction(SIGBUS, &ours, &before_bus);
    volatile int result = FINE;
    if (sigsetjmp(escape, 1) == 0) {
        const long blocks = long(grid[0]) * grid[1] * grid[2];
        for (long b = 0; b < blocks && result == FINE; b++) {
            const long at = backwards ? blocks - 1 - b : b;
            blockIdx = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]), unsigned(at / grid[0] / grid[1])};
            result = run_block(backwards);
        }
    } else {
        result = BEYOND_AN_ARRAY;
    }
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
    return result;
}

}  // namespace emulated

void __syncthreads() { emulated::wait(emulated::AT_BLOCK); }
