// What decode.cu and rope_cache.cu need of a GPU besides what common.cu has (cuda_on_cpu.h, common_on_cpu.h).
#define __shared__ static
#include "common_on_cpu.h"

// Every lane gives up to six words and then reads everybody's; two sets take turns.
typedef unsigned Words[32][6];
static Words &exchange(const unsigned *mine, int count) {
  Words &words = current->warp->values[current->rounds++ & 1];
  std::memcpy(words[current->at.x % 32], mine, count * sizeof(unsigned));
  __syncwarp();
  return words;
}

static bool __any_sync(unsigned, bool holds) {
  const unsigned mine = holds;
  Words &words = exchange(&mine, 1);
  bool any = false;
  for (auto &lane : words) any |= lane[0] != 0;
  return any;
}
static float __shfl_xor_sync(unsigned, float value, int lanes) {
  const unsigned mine = bits<unsigned>(value);
  return bits<float>(exchange(&mine, 1)[current->at.x % 32 ^ lanes][0]);
}
static int __shfl_sync(unsigned, int value, int lane) {
  const unsigned mine = value;
  return (int)exchange(&mine, 1)[lane][0];
}
static unsigned __byte_perm(unsigned a, unsigned b, unsigned picks) {
  const unsigned long long all = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= (unsigned)(all >> 8 * (picks >> 4 * i & 7) & 255) << 8 * i;
  return result;
}

static float half(unsigned word) { return (float)bits<_Float16>((unsigned short)word); }
static unsigned half_of(float x) { return bits<unsigned short>((_Float16)x); }
static unsigned float_to_f16x2(float low, float high) { return half_of(low) | half_of(high) << 16; }
static float fast_exp2(float x) { return exp2f(x); }
static void tma_load(unsigned to, const TensorMap *cache, int byte, int head, int token, int page, unsigned barrier) {
  load_box(*current->block, to, cache, {byte, head, token, page}, barrier);
}
static uint4 read_shared(unsigned address) { return *(const uint4 *)at(*current->block, address, 16); }
static unsigned unpack_e4m3(unsigned four, bool high) {
  const unsigned two = high ? four >> 16 : four;
  return float_to_f16x2(e4m3(two & 255), e4m3(two >> 8 & 255));
}
static float half_at(unsigned pair, int which) { return half(which ? pair >> 16 : pair & 0xffff); }

// m16n8k16 by its definition: lane = 4 * row + column; see PTX's tables of fragments.
static void mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  const unsigned mine[6] = {a0, a1, a2, a3, b0, b1};
  Words &words = exchange(mine, 6);
  const int lane = current->at.x % 32, row = lane / 4, column = lane % 4;
  for (int e = 0; e < 4; e++)
    for (int k = 0; k < 16; k++) {
      const int pair = k / 2 % 4, upper = k / 8, n = 2 * column + e % 2;
      d[e] += half_at(words[4 * row + pair][2 * upper + e / 2], k % 2) * half_at(words[4 * n + pair][4 + upper], k % 2);
    }
}
static unsigned transpose_8x8(unsigned pair) {
  Words &words = exchange(&pair, 1);
  const int lane = current->at.x % 32, row = lane / 4, column = lane % 4;
  unsigned result = 0;
  for (int e = 0; e < 2; e++)
    result |= (words[4 * (2 * column + e) + row / 2][0] >> 16 * (row % 2) & 0xffff) << 16 * e;
  return result;
}

#include KERNELS

// The kernels' own arguments behind the grid; a library has one of them.
#ifdef DECODE
extern "C" const char *launch_decode(Grid grid, const TensorMap *cache, const u16 *q, int q_stride, const int *table,
                                     int table_stride, const int *lengths, const float *k_scale, const float *v_scale,
                                     float softmax_scale, u16 *out, int out_stride) {
  return launch(grid, 1, [=, cache = *cache] {
    decode(cache, q, q_stride, table, table_stride, lengths, k_scale, v_scale, softmax_scale, out, out_stride);
  });
}
#else
extern "C" const char *launch_rope_cache(Grid grid, u16 *qkv, const i64 *positions, const u16 *cos_sin, u8 *cache,
                                         const i64 *slots, const float *k_scale, const float *v_scale, int q_heads,
                                         int kv_heads) {
  return launch(grid, 1, [=] {
    rope_cache(qkv, positions, cos_sin, cache, slots, k_scale, v_scale, q_heads, kv_heads);
  });
}
#endif
