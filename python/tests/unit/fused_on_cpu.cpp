// What gemm.cu, gate_up.cu and qkv.cu need of a Hopper GPU besides what common.cu has (cuda_on_cpu.h, common_on_cpu.h):
// clusters and wgmma. A wgmma is computed when a wait demands it, which is the worst moment for a kernel that waits too
// little.
#define __shared__
#include "common_on_cpu.h"

#include <algorithm>

#define __cluster_dims__(...)

using std::min;

static unsigned cluster_rank() { return (unsigned)(current->block - blocks.data()); }
static void cluster_sync() { wait_at(cluster_gate, (int)threads.size()); }
static void barrier_arrive(unsigned barrier, unsigned rank) { change(barrier_at(other(rank), barrier), 1, 0); }

static void tma_load(unsigned to, const TensorMap *map, int column, int row, unsigned barrier, bool multicast) {
  for (unsigned rank = 0; rank < blocks.size(); rank++)
    if (multicast || rank == cluster_rank()) load_box(other(rank), to, map, {column, row}, barrier);
}

static void decrease_registers() {}
static void increase_registers() {}

static void wgmma_fence() {}
static void wgmma(float (&d)[TILE_ROWS / 2], unsigned long long a, unsigned long long b, int accumulate) {
  current->wgmmas.push_back({d, a, b, accumulate != 0, current->group});
}
static void wgmma_commit() { current->group++; }

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

// A thread's own sums: see `wgmma` in gemm.cu.
static void complete(const Wgmma &call) {
  const int warp = current->at.x / 32 % 4, lane = current->at.x % 32;
  float a[2][32], b[32];
  for (int h = 0; h < 2; h++) row_of(a[h], call.a, 16 * warp + 8 * h + lane / 4);
  for (int j = 0; j < TILE_ROWS / 8; j++)
    for (int e = 0; e < 2; e++) {
      row_of(b, call.b, 8 * j + 2 * (lane % 4) + e);
      for (int h = 0; h < 2; h++) {
        float &d = call.d[4 * j + 2 * h + e];
        float sum = call.accumulate ? d : 0;
        for (int k = 0; k < 32; k++) sum += a[h][k] * b[k];
        d = sum;
      }
    }
}
// All but the last N groups have ended, for the whole warp.
template <int N> static void wgmma_wait() {
  std::vector<Wgmma> &wgmmas = current->wgmmas;
  const auto late = std::find_if(wgmmas.begin(), wgmmas.end(),
                                 [](const Wgmma &call) { return call.group >= current->group - N; });
  std::for_each(wgmmas.begin(), late, complete);
  wgmmas.erase(wgmmas.begin(), late);
  __syncwarp();
}

static float fast_exp2(float x) { return exp2f(x); }
static float fast_reciprocal(float x) { return 1 / x; }

#include KERNELS

// The kernels' own arguments behind the grid; a library has one of them.
#ifdef GATE_UP
extern "C" const char *launch_gate_up(Grid grid, const TensorMap *x, const TensorMap *w, const float *x_scale,
                                      const float *w_scale, const float *out_scale, u8 *out, int tokens, int width,
                                      int depth) {
  return launch(grid, CLUSTER_SIZE, [=, x = *x, w = *w] {
    gate_up(x, w, x_scale, w_scale, out_scale, out, tokens, width, depth);
  });
}
#else
extern "C" const char *launch_qkv(Grid grid, const TensorMap *x, const TensorMap *w, const float *x_scale,
                                  const float *w_scale, const i64 *positions, const u16 *cos_sin, const i64 *slots,
                                  const float *k_scale, const float *v_scale, u16 *out, u8 *cache, int tokens,
                                  int q_heads, int kv_heads, int depth) {
  return launch(grid, CLUSTER_SIZE, [=, x = *x, w = *w] {
    qkv(x, w, x_scale, w_scale, positions, cos_sin, slots, k_scale, v_scale, out, cache, tokens, q_heads, kv_heads, depth);
  });
}
#endif
