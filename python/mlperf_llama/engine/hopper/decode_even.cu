// Attention of one new token a sequence as `decode` of kernels.cu has it (its comments hold here too), but
// every block gets the same number of tiles, whatever the sequences' lengths: no block is left alone at the
// end, and its loads go on from one sequence to the next. Compiled behind kernels.cu.
//
// The tiles of all sequences, one after the other, are cut into gridDim.y chunks; a block has one chunk of one
// KV head. A sequence that lies in several chunks leaves a sum of each in `partial`; the block that comes
// last adds them. Sequences of length 0 are left out, and their rows of `out` as they are.

// Dims 16 c .. + 15 and 64 + 16 c .. + 15 of this row's head, as halves: two a register.
__device__ __forceinline__ void load_query(u32 (&query)[16], const u16 *heads, int row, int column) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const u16 *mine = heads + row * HEAD + column * 16 + (i >> 1) * 64 + (i & 1) * 8;
    const uint4 x = row < GROUP ? *(const uint4 *)mine : make_uint4(0, 0, 0, 0);
    const u32 four[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int e = 0; e < 4; e++)
      query[4 * i + e] = float_to_f16x2(bf16_to_float(four[e] & 0xffff), bf16_to_float(four[e] >> 16));
  }
}

__device__ __forceinline__ void load_keys(uint4 (&keys)[2][2], const u8 *from) {
#pragma unroll
  for (int j = 0; j < 2; j++) {
    keys[j][0] = load_stream(from + 8 * j * TOKEN_STRIDE);
    keys[j][1] = load_stream(from + 8 * j * TOKEN_STRIDE + 64);
  }
}

// What a warp has seen of a sequence: sums of V and of the probabilities, both over exp2(top).
struct Seen {
  float acc[8][4], top[2], mass[2];
};

// One tile: `keys` are there, `values` is where this lane's begin, `left` keys of the sequence are not yet
// seen. `next` begins the loads of the warp's next tile, once the keys are used.
template <class Next>
__device__ __forceinline__ void attend(Seen &seen, uint4 (&keys)[2][2], const u8 *values, const u32 (&query)[16],
                                       int left, float to_log2, int row, int column, Next next) {
  u32 v[4][4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int key = 8 * (i >> 1) + (i & 1);
    uint4 x = make_uint4(0, 0, 0, 0);
    // A key past the end must be zero, not garbage: its probability is 0 and 0 x NaN is NaN.
    if (key + 2 * column < left) x = load_stream(values + key * TOKEN_STRIDE);
    v[i][0] = x.x, v[i][1] = x.y, v[i][2] = x.z, v[i][3] = x.w;
  }

  float s[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const u32 upper[4] = {keys[0][i].x, keys[0][i].y, keys[0][i].z, keys[0][i].w};
    const u32 lower[4] = {keys[1][i].x, keys[1][i].y, keys[1][i].z, keys[1][i].w};
#pragma unroll
    for (int e = 0; e < 4; e++)
      mma(s, unpack_e4m3(upper[e], false), unpack_e4m3(lower[e], false), unpack_e4m3(upper[e], true),
          unpack_e4m3(lower[e], true), query[8 * i + 2 * e], query[8 * i + 2 * e + 1]);
  }
  next();

#pragma unroll
  for (int e = 0; e < 4; e++) s[e] = row + 8 * (e >> 1) < left ? s[e] * to_log2 : -1e30f;
  if (__any_sync(~0u, fmaxf(s[0], s[2]) > seen.top[0] + SLACK || fmaxf(s[1], s[3]) > seen.top[1] + SLACK)) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float highest = fmaxf(seen.top[e], fmaxf(s[e], s[e + 2]));
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
      const float shrink = fast_exp2(seen.top[e] - highest);
      seen.mass[e] *= shrink;
#pragma unroll
      for (int j = 0; j < 8; j++) seen.acc[j][e] *= shrink, seen.acc[j][e + 2] *= shrink;
      seen.top[e] = highest;
    }
  }
#pragma unroll
  for (int e = 0; e < 4; e++) {
    s[e] = fast_exp2(s[e] - seen.top[e & 1]);
    seen.mass[e & 1] += s[e];
  }
  const u32 p0 = turn(float_to_f16x2(s[0], s[1])), p1 = turn(float_to_f16x2(s[2], s[3]));
#pragma unroll
  for (int d = 0; d < 4; d++) {
    transpose_bytes(v[0][d], v[1][d], v[2][d], v[3][d]);
    // Dims 16 row + 4 d .. + 3: two products of two dims each.
#pragma unroll
    for (int h = 0; h < 2; h++)
      mma(seen.acc[2 * d + h], unpack_e4m3(v[2 * h][d], false), unpack_e4m3(v[2 * h + 1][d], false),
          unpack_e4m3(v[2 * h][d], true), unpack_e4m3(v[2 * h + 1][d], true), p0, p1);
  }
}

// The warps' sums in shared memory, and what they come to.
struct Shared {
  float sums[WARPS][GROUP][HEAD], tops[WARPS][8], masses[WARPS][8];
};

__device__ __forceinline__ void put(Shared &shared, Seen &seen, int warp, int row, int column) {
#pragma unroll
  for (int e = 0; e < 2; e++) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) seen.mass[e] += __shfl_xor_sync(~0u, seen.mass[e], lanes);
    if (row == 0) shared.tops[warp][2 * column + e] = seen.top[e], shared.masses[warp][2 * column + e] = seen.mass[e];
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int head = 2 * column + (e & 1), dim = 16 * row + 2 * j + (e >> 1);
      if (head < GROUP) shared.sums[warp][head][dim] = seen.acc[j][e];
    }
}

struct Sum {
  float top, mass, value;
};

__device__ __forceinline__ Sum sum_of(const Shared &shared, int head, int dim) {
  Sum sum = {shared.tops[0][head], 0.0f, 0.0f};
#pragma unroll
  for (int w = 1; w < WARPS; w++) sum.top = fmaxf(sum.top, shared.tops[w][head]);
#pragma unroll
  for (int w = 0; w < WARPS; w++) {
    const float weight = fast_exp2(shared.tops[w][head] - sum.top);
    sum.mass += weight * shared.masses[w][head];
    sum.value += weight * shared.sums[w][head][dim];
  }
  return sum;
}

// A sum that is not yet whole: GROUP heads of 128 values, then their tops, then their masses.
#define PARTIAL (GROUP * (HEAD + 2))

extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS)
    decode_even(const u16 *q, int q_stride, const u8 *cache, const int *block_table, int table_stride,
                const int *seq_lens, const int *starts, int sequences, const float *k_scale, const float *v_scale,
                float softmax_scale, u16 *out, int out_stride, float *partial, int *tiles_done) {
  __shared__ Shared shared;
  __shared__ int found;
  const int kv_head = blockIdx.x, heads = gridDim.x, chunk = blockIdx.y, chunks = gridDim.y;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = lane & 3;
  const int total = starts[sequences];
  auto chunk_begin = [&](int number) { return (int)((i64)total * number / chunks); };
  const int begin = chunk_begin(chunk), end = chunk_begin(chunk + 1);
  if (begin == end) return;
  for (int i = threadIdx.x; i < sequences; i += WARPS * 32)
    if (starts[i] <= begin && begin < starts[i + 1]) found = i;
  __syncthreads();

  const u8 *keys_from = cache + kv_head * HEAD_STRIDE + row * TOKEN_STRIDE + column * 16;
  const u8 *values_from = cache + kv_head * HEAD_STRIDE + 2 * column * TOKEN_STRIDE + HEAD + row * 16;
  const float to_log2 = *k_scale * softmax_scale * 1.4426950408889634f;
  int seq = found, ahead = found;
  // Where a tile's first key lies, as page and token in one number; tiles are asked for in rising order.
  auto slot = [&](int tile) {
    while (starts[ahead + 1] <= tile) ahead++;
    const int key = (tile - starts[ahead]) * TILE;
    return (block_table[(i64)ahead * table_stride + (key >> PAGE_SHIFT)] << PAGE_SHIFT) | (key & ((1 << PAGE_SHIFT) - 1));
  };
  auto place = [](int slot) {
    return (slot >> PAGE_SHIFT) * (i64)PAGE_STRIDE + (slot & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE;
  };

  uint4 keys[2][2];
  int tile = begin + warp, here = 0, next = 0;
  if (tile < end) {
    here = slot(tile);
    load_keys(keys, keys_from + place(here));
  }
  if (tile + WARPS < end) next = slot(tile + WARPS);
#pragma unroll 1
  for (;; seq++) {
    const int seq_begin = starts[seq], seq_end = starts[seq + 1];
    if (seq_begin == seq_end) continue;
    const int first = max(begin, seq_begin), last = min(end, seq_end), length = seq_lens[seq];
    u32 query[16];
    load_query(query, q + (i64)seq * q_stride + kv_head * GROUP * HEAD, row, column);
    Seen seen;
    seen.top[0] = seen.top[1] = -1e30f, seen.mass[0] = seen.mass[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) seen.acc[j][0] = seen.acc[j][1] = seen.acc[j][2] = seen.acc[j][3] = 0.0f;
#pragma unroll 1
    for (; tile < last; tile += WARPS)
      attend(seen, keys, values_from + place(here), query, length - (tile - seq_begin) * TILE, to_log2, row, column, [&] {
        here = next;
        if (tile + WARPS < end) load_keys(keys, keys_from + place(here));
        if (tile + 2 * WARPS < end) next = slot(tile + 2 * WARPS);
      });

    // Everybody has read the sums of the sequence before.
    __syncthreads();
    put(shared, seen, warp, row, column);
    __syncthreads();
    u16 *to = out + (i64)seq * out_stride + kv_head * GROUP * HEAD;
    if (first == seq_begin && last == seq_end) {
#pragma unroll
      for (int i = threadIdx.x; i < GROUP * HEAD; i += WARPS * 32) {
        const Sum sum = sum_of(shared, i / HEAD, i % HEAD);
        to[i] = (u16)float_to_bf16x2(sum.value * *v_scale / sum.mass, 0.0f);
      }
    } else {
      // A chunk holds at most one sequence that began before it and one that goes on after it.
      auto place_of = [&](int number, bool began) { return partial + ((i64)(number * heads + kv_head) * 2 + began) * PARTIAL; };
      float *mine = place_of(chunk, first > seq_begin);
#pragma unroll
      for (int i = threadIdx.x; i < GROUP * HEAD; i += WARPS * 32) {
        const Sum sum = sum_of(shared, i / HEAD, i % HEAD);
        mine[i] = sum.value;
        if (i % HEAD == 0) mine[GROUP * HEAD + i / HEAD] = sum.top, mine[GROUP * (HEAD + 1) + i / HEAD] = sum.mass;
      }
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) {
        int *done = tiles_done + seq * heads + kv_head;
        found = atomicAdd(done, last - first) + last - first == seq_end - seq_begin;
        // For the next launch.
        if (found) *done = 0;
      }
      __syncthreads();
      if (found) {
        __threadfence();
        int lowest = (int)((i64)seq_begin * chunks / total);
        while (chunk_begin(lowest + 1) <= seq_begin) lowest++;
#pragma unroll 1
        for (int i = threadIdx.x; i < GROUP * HEAD; i += WARPS * 32) {
          Sum sum = {-1e30f, 0.0f, 0.0f};
          for (int number = lowest; number < chunks && chunk_begin(number) < seq_end; number++) {
            if (chunk_begin(number) == chunk_begin(number + 1)) continue;
            // Written by other blocks: not by way of L1.
            const volatile float *part = place_of(number, chunk_begin(number) > seq_begin);
            const float top = part[GROUP * HEAD + i / HEAD], highest = fmaxf(top, sum.top);
            const float old = fast_exp2(sum.top - highest), added = fast_exp2(top - highest);
            sum = {highest, sum.mass * old + part[GROUP * (HEAD + 1) + i / HEAD] * added, sum.value * old + part[i] * added};
          }
          to[i] = (u16)float_to_bf16x2(sum.value * *v_scale / sum.mass, 0.0f);
        }
      }
    }
    if (last == end) break;
  }
}
