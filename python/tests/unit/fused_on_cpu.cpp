// What product.cu, gate_up.cu and qkv.cu need of a Hopper GPU besides threads (cuda_on_cpu.h): shared memory by 32-bit addresses,
// mbarriers, TMA and wgmma. Each does what PTX defines at the moment that is worst for a kernel that waits too
// little: a load comes at once, a product is read when a wait demands it. What PTX leaves undefined is an error.
#include "cuda_on_cpu.h"

#include <algorithm>

#define __shared__
#define __align__(bytes) alignas(bytes)
#define __grid_constant__
#define __cluster_dims__(...)

using std::min;

// A block's memory begins where a kernel that takes it for aligned goes wrong.
static const unsigned FIRST = 16;
unsigned char memory[1];
static unsigned shared_address(const void *) { return FIRST; }
static unsigned char *at(Block &block, unsigned address, unsigned bytes) {
  if (address < FIRST || address - FIRST + bytes > block.memory.size()) throw "outside of shared memory";
  return block.memory.data() + address - FIRST;
}
static Block &other(unsigned rank) {
  Block &block = blocks.at(rank);
  if (!block.running) throw "sent to a block that has ended";
  return block;
}

static unsigned block_of_cluster() { return (unsigned)(current->block - blocks.data()); }
static void cluster_sync() { wait_at(cluster_gate, (int)threads.size()); }

// `pending`: arrivals of the phase that are still to come; `bytes`: those expected less those that came.
struct Barrier { short count, pending; int bytes : 31; unsigned phase : 1; };
static_assert(sizeof(Barrier) == 8, "");

static Barrier &barrier_at(Block &block, unsigned address) {
  Barrier &barrier = *(Barrier *)at(block, address, 8);
  if (address % 8 || !barrier.count) throw "not a barrier, or not set yet";
  return barrier;
}
static void change(Barrier &barrier, int arrivals, int bytes) {
  if (barrier.pending < arrivals) throw "more came to a barrier than it counts";
  moved = true;
  barrier.pending -= arrivals;
  barrier.bytes += bytes;
  if (!barrier.pending && !barrier.bytes) barrier.pending = barrier.count, barrier.phase ^= 1;
}
static void barrier_init(unsigned barrier, unsigned count) {
  *(Barrier *)at(*current->block, barrier, 8) = {(short)count, (short)count, 0, 0};
}
static void barriers_are_set() {}
static void barrier_expect(unsigned barrier, unsigned bytes) {
  change(barrier_at(*current->block, barrier), 1, (int)bytes);
}
static bool barrier_passed(unsigned barrier, unsigned parity) {
  const bool passed = barrier_at(*current->block, barrier).phase != parity;
  if (!passed) wait();
  return passed;
}
static void barrier_arrive(unsigned barrier, unsigned rank) { change(barrier_at(other(rank), barrier), 1, 0); }

// 128-byte swizzle: the place of a byte, in each 1,024.
static unsigned swizzled(unsigned address) { return address ^ (address >> 3 & 0x70); }

// What `byte_map` of cuda_on_cpu.py made.
struct Map { const unsigned char *address; int rows, columns, box_rows; };
struct TensorMap;

static void load(unsigned to, const TensorMap *given, int column, int row, unsigned barrier, bool both) {
  const Map map = *(const Map *)given;
  if (to % 1024) throw "a swizzled box begins at a multiple of 1,024";
  for (unsigned rank = 0; rank < blocks.size(); rank++) {
    if (!both && rank != block_of_cluster()) continue;
    for (int r = 0; r < map.box_rows; r++)
      for (int c = 0; c < 128; c += 16) {
        unsigned char *place = at(other(rank), swizzled(to + r * 128 + c), 16);
        if (row + r < map.rows && column + c < map.columns)
          std::memcpy(place, map.address + (size_t)(row + r) * map.columns + column + c, 16);
        else
          std::memset(place, 0, 16);
      }
    change(barrier_at(other(rank), barrier), 0, -map.box_rows * 128);
  }
}

static void fewer_registers() {}
static void more_registers() {}

static void multiply_fence() {}
static void multiply(float (&d)[ROWS / 2], unsigned long long a, unsigned long long b, int add) {
  current->products.push_back({d, a, b, add != 0, current->group});
}
static void multiply_commit() { current->group++; }

// 32 values of a row of the matrix that a descriptor describes.
static void row_of(float (&values)[32], unsigned long long matrix, int row) {
  static const std::vector<float> known = [] {
    std::vector<float> found;
    for (unsigned code = 0; code < 256; code++) found.push_back(e4m3(code));
    return found;
  }();
  if (matrix >> 62 != 1) throw "not swizzled by 128 bytes";
  const unsigned eight_rows = (matrix >> 32 & 0x3fff) * 16;
  const unsigned start = (matrix & 0x3fff) * 16 + row / 8 * eight_rows + row % 8 * 128;
  for (int k = 0; k < 32; k++) values[k] = known[*at(*current->block, swizzled(start + k), 1)];
}

// A thread's own sums: see `multiply` in product.cu.
static void finish(const Product &product) {
  const int warp = current->at.x / 32 % 4, lane = current->at.x % 32;
  float a[2][32], b[32];
  for (int h = 0; h < 2; h++) row_of(a[h], product.a, 16 * warp + 8 * h + lane / 4);
  for (int j = 0; j < ROWS / 8; j++)
    for (int e = 0; e < 2; e++) {
      row_of(b, product.b, 8 * j + 2 * (lane % 4) + e);
      for (int h = 0; h < 2; h++) {
        float &d = product.d[4 * j + 2 * h + e];
        float sum = product.add ? d : 0;
        for (int k = 0; k < 32; k++) sum += a[h][k] * b[k];
        d = sum;
      }
    }
}
// All but the last N groups have ended, for the whole warp.
template <int N> static void multiply_wait() {
  std::vector<Product> &products = current->products;
  const auto late = std::find_if(products.begin(), products.end(),
                                 [](const Product &product) { return product.group >= current->group - N; });
  std::for_each(products.begin(), late, finish);
  products.erase(products.begin(), late);
  __syncwarp();
}

static float exp2_of(float x) { return exp2f(x); }
static float one_over(float x) { return 1 / x; }
static unsigned e4m3x2(float low, float high) { return e4m3_of(low) | e4m3_of(high) << 8; }
static unsigned bf16x2(float low, float high) { return bf16(low) | bf16(high) << 16; }

#include KERNELS

// The kernels' own arguments behind the grid; a library has one of them.
#ifdef GATE_UP
extern "C" const char *launch_gate_up(Grid grid, const TensorMap *x, const TensorMap *w, const float *x_scale,
                                      const float *w_scale, const float *out_scale, u8 *out, int tokens, int width,
                                      int depth) {
  return launch(grid, BLOCKS, [=, x = *x, w = *w] {
    gate_up(x, w, x_scale, w_scale, out_scale, out, tokens, width, depth);
  });
}
#else
extern "C" const char *launch_qkv(Grid grid, const TensorMap *x, const TensorMap *w, const float *x_scale,
                                  const float *w_scale, const i64 *positions, const u16 *cos_sin, const i64 *slots,
                                  const float *k_scale, const float *v_scale, u16 *out, u8 *cache, int tokens,
                                  int q_heads, int kv_heads, int depth) {
  return launch(grid, BLOCKS, [=, x = *x, w = *w] {
    qkv(x, w, x_scale, w_scale, positions, cos_sin, slots, k_scale, v_scale, out, cache, tokens, q_heads, kv_heads, depth);
  });
}
#endif
