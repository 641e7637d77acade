// A GPU's threads on a CPU: each is a coroutine that runs until it must wait for others. One block (or cluster of
// blocks) runs after the other, and of a cluster one block as far as it comes before the next, so that what it
// should have waited for is missing. KERNELS names the kernels' source, less the functions with PTX, which stand in
// common_on_cpu.h and in kernels_on_cpu.cpp or fused_on_cpu.cpp.
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct Index { int x, y; };
struct Gate { int here, phase; };
struct Warp { Gate gate; unsigned values[2][32][6]; };
// What `tensor_map` of cuda_on_cpu.py made, and a load that is under way: see common_on_cpu.h.
struct Map { const unsigned char *address; int rank, sizes[4], box[4]; long long strides[3]; };
struct Load { unsigned to, barrier; Map map; std::vector<int> from; };
// `running`: threads.
struct Block {
  Index at;
  Gate gate;
  std::vector<Warp> warps;
  std::vector<unsigned char> memory;
  std::vector<Load> loads;
  int running;
};
// A wgmma of gemm.cu that has begun: see fused_on_cpu.cpp.
struct Wgmma { float *d; unsigned long long a, b; bool accumulate; int group; };
struct Thread {
  Index at;
  Block *block;
  Warp *warp;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done;
  int rounds, group;
  std::vector<Wgmma> wgmmas;
};

static const size_t STACK = 1 << 16;
static std::vector<Block> blocks;           // of the cluster that runs
static std::vector<Thread> threads;
static Gate cluster_gate;
static Thread *current;
static ucontext_t scheduler;
static std::function<void()> body;
static Index gridDim;
#define threadIdx (current->at)
#define blockIdx (current->block->at)

// Set whenever a thread does what another may wait for.
static bool progressed;
static const char *failure;

static void wait() { swapcontext(&current->context, &scheduler); }
static void wait_at(Gate &gate, int size) {
  const int phase = gate.phase;
  progressed = true;
  if (++gate.here == size) gate.here = 0, gate.phase++;
  while (gate.phase == phase) wait();
}
static void __syncwarp() { wait_at(current->warp->gate, 32); }
static void __syncthreads() { wait_at(current->block->gate, (int)(threads.size() / blocks.size())); }

template <class To, class From> static To bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
static float __uint_as_float(unsigned x) { return bits<float>(x); }
static unsigned bf16(float x) {
  const unsigned word = bits<unsigned>(x);
  return std::isnan(x) ? 0x7fff : (word + 0x7fff + (word >> 16 & 1)) >> 16;
}
static float e4m3(unsigned code) {
  const int power = code >> 3 & 15, rest = code & 7;
  const float size = (code & 127) == 127 ? NAN : power ? ldexpf(8 + rest, power - 10) : ldexpf(rest, -9);
  return code & 128 ? -size : size;
}
static unsigned e4m3_of(float x) {
  if (std::isnan(x)) return 127;
  unsigned best = 0;
  for (unsigned code = 1; code < 127; code++) {
    const float before = fabsf(fabsf(x) - e4m3(best)), now = fabsf(fabsf(x) - e4m3(code));
    if (now < before || (now == before && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(x) ? 128 : 0);
}

static void begin() {
  try {
    body();
  } catch (const char *what) {
    failure = what;
  }
  progressed = current->done = true;
  current->block->running--;
}

// Whether any thread of a block is left, once all that are have run until they wait.
static bool run(Block &block) {
  bool left = false;
  for (Thread &thread : threads)
    if (thread.block == &block && !thread.done && !failure) {
      current = &thread;
      swapcontext(&scheduler, &thread.context);
      left |= !thread.done;
    }
  return left;
}

// `threads` and `shared` (bytes of memory) are a block's.
struct Grid { int columns, rows, threads, shared; };

// What went wrong, or nothing.
static const char *launch(Grid grid, int cluster, std::function<void()> kernel) {
  body = kernel;
  gridDim = {grid.columns, grid.rows};
  failure = nullptr;
  for (int first = 0; first < grid.columns * grid.rows; first += cluster) {
    blocks = std::vector<Block>(cluster);
    threads = std::vector<Thread>(cluster * grid.threads);
    cluster_gate = {};
    for (int i = 0; i < cluster; i++) {
      blocks[i].at = {(first + i) % grid.columns, (first + i) / grid.columns};
      blocks[i].warps = std::vector<Warp>((grid.threads + 31) / 32);
      blocks[i].memory = std::vector<unsigned char>(grid.shared);
      blocks[i].running = grid.threads;
    }
    for (int i = 0; i < (int)threads.size(); i++) {
      Thread &thread = threads[i];
      thread.at = {i % grid.threads, 0};
      thread.block = &blocks[i / grid.threads];
      thread.warp = &thread.block->warps[thread.at.x / 32];
      thread.stack.reset(new char[STACK]);
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = STACK;
      thread.context.uc_link = &scheduler;
      makecontext(&thread.context, begin, 0);
    }
    for (bool left = true; left && !failure;) {
      left = false;
      bool any = false;
      for (Block &block : blocks) {
        bool more;
        do progressed = false, more = run(block), any |= progressed;
        while (progressed && more && !failure);
        left |= more;
      }
      if (left && !any && !failure) failure = "deadlock: every thread waits";
    }
    for (Block &block : blocks)
      if (!block.loads.empty() && !failure) failure = "a block ended while a load was under way";
    if (failure) return failure;
  }
  return nullptr;
}
