// Runs kernels.cu and decode_even.cu on a CPU: each thread of a block is a coroutine that waits at a collective operation
// until its warp (or block) has come, and what the PTX instructions do stands here in C++. KERNELS names
// the kernels' source, less the functions that are defined here (cuda_on_cpu.py takes them out).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct Gate { int missing, turn; };
struct Warp { Gate gate; unsigned values[2][32][6]; };
struct Index { int x, y; };
struct Thread { Index at; ucontext_t context; bool done; std::vector<char> stack; int rounds; };

static std::vector<Thread> threads;
static std::vector<Warp> warps;
static Gate block_gate;
static Thread *current;
static ucontext_t scheduler;
static std::function<void()> body;
static Index blockIdx, gridDim;
#define threadIdx (current->at)

static void wait_at(Gate &gate, int size) {
  const int turn = gate.turn;
  if (++gate.missing == size) gate.missing = 0, gate.turn++;
  while (gate.turn == turn) swapcontext(&current->context, &scheduler);
}
static void __threadfence() {}
static int atomicAdd(int *at, int more) {
  *at += more;
  return *at - more;
}
using std::max;
using std::min;
static void __syncthreads() { wait_at(block_gate, (int)threads.size()); }

// Every lane gives up to six words and then reads everybody's; two sets take turns.
typedef unsigned Words[32][6];
static Words &exchange(const unsigned *mine, int count) {
  Warp &warp = warps[current->at.x / 32];
  Words &words = warp.values[current->rounds++ & 1];
  std::memcpy(words[current->at.x % 32], mine, count * sizeof(unsigned));
  wait_at(warp.gate, 32);
  return words;
}

template <class To, class From> static To bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
static float __uint_as_float(unsigned x) { return bits<float>(x); }
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
static unsigned __byte_perm(unsigned a, unsigned b, unsigned picks) {
  const unsigned long long all = (unsigned long long)b << 32 | a;
  unsigned found = 0;
  for (int i = 0; i < 4; i++) found |= (unsigned)(all >> 8 * (picks >> 4 * i & 7) & 255) << 8 * i;
  return found;
}

static unsigned bf16(float x) {
  const unsigned word = bits<unsigned>(x);
  return std::isnan(x) ? 0x7fff : (word + 0x7fff + (word >> 16 & 1)) >> 16;
}
static float half(unsigned word) { return (float)bits<_Float16>((unsigned short)word); }
static unsigned half_of(float x) { return bits<unsigned short>((_Float16)x); }
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

static unsigned float_to_bf16x2(float low, float high) { return bf16(low) | bf16(high) << 16; }
static unsigned float_to_f16x2(float low, float high) { return half_of(low) | half_of(high) << 16; }
static unsigned float_to_e4m3x2(float low, float high) { return e4m3_of(low) | e4m3_of(high) << 8; }
static float fast_exp2(float x) { return exp2f(x); }
static uint4 load_stream(const unsigned char *address) { return *(const uint4 *)address; }
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
static unsigned turn(unsigned pair) {
  Words &words = exchange(&pair, 1);
  const int lane = current->at.x % 32, row = lane / 4, column = lane % 4;
  unsigned found = 0;
  for (int e = 0; e < 2; e++)
    found |= (words[4 * (2 * column + e) + row / 2][0] >> 16 * (row % 2) & 0xffff) << 16 * e;
  return found;
}

#include KERNELS

static void begin() {
  body();
  current->done = true;
}

// One block after the other; `count` threads each.
static void launch(int columns, int rows, int count, std::function<void()> kernel) {
  body = kernel;
  gridDim = {columns, rows};
  for (int block = 0; block < columns * rows; block++) {
    blockIdx = {block % columns, block / columns};
    threads = std::vector<Thread>(count);
    warps = std::vector<Warp>((count + 31) / 32);
    block_gate = {};
    for (int i = 0; i < count; i++) {
      Thread &thread = threads[i];
      thread.at = {i, 0};
      thread.stack.resize(1 << 16);
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.data();
      thread.context.uc_stack.ss_size = thread.stack.size();
      thread.context.uc_link = &scheduler;
      makecontext(&thread.context, begin, 0);
    }
    for (bool left = true; left;) {
      left = false;
      for (Thread &thread : threads)
        if (!thread.done) {
          current = &thread;
          swapcontext(&scheduler, &thread.context);
          left |= !thread.done;
        }
    }
  }
}

// The kernels' own arguments behind the grid and the number of threads a block.
extern "C" void launch_decode(int columns, int rows, int count, const u16 *q, int q_stride, const u8 *cache,
                              const int *table, int table_stride, const int *lengths, const float *k_scale,
                              const float *v_scale, float softmax_scale, u16 *out, int out_stride) {
  launch(columns, rows, count, [=] {
    decode(q, q_stride, cache, table, table_stride, lengths, k_scale, v_scale, softmax_scale, out, out_stride);
  });
}

extern "C" void launch_decode_even(int columns, int rows, int count, const u16 *q, int q_stride, const u8 *cache,
                                   const int *table, int table_stride, const int *lengths, const int *starts,
                                   int sequences, const float *k_scale, const float *v_scale, float softmax_scale,
                                   u16 *out, int out_stride, float *partial, int *tiles_done) {
  launch(columns, rows, count, [=] {
    decode_even(q, q_stride, cache, table, table_stride, lengths, starts, sequences, k_scale, v_scale, softmax_scale, out,
                out_stride, partial, tiles_done);
  });
}

extern "C" void launch_rope_cache(int columns, int rows, int count, u16 *qkv, const i64 *positions, const u16 *cos_sin,
                                  u8 *cache, const i64 *slots, const float *k_scale, const float *v_scale, int q_heads,
                                  int kv_heads) {
  launch(columns, rows, count, [=] {
    rope_cache(qkv, positions, cos_sin, cache, slots, k_scale, v_scale, q_heads, kv_heads);
  });
}
