// Two kernels for Llama's attention on Hopper with an FP8 (E4M3) KV cache. Compiled by NVRTC at
// start, so they include nothing.
//
// rope_cache   rotates q and k inside the fused qkv tensor and writes k and v to the paged cache.
// decode       attention of one new token a sequence over the paged cache.
//
// The cache is vLLM's FlashAttention layout: for each (page, token, KV head) 128 bytes of K, then 128
// of V. Head size is 128. The command line sets WARPS (a block), MIN_BLOCKS, AHEAD (load_stream), GROUP
// (query heads a KV head, at most 8), PAGE_SHIFT (log2 of the tokens a page, at least 4) and the strides
// in bytes: PAGE_STRIDE, TOKEN_STRIDE, HEAD_STRIDE. Known strides become constants inside the loads.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

#define HEAD 128
#define SLACK 8.0f                    // log2: probabilities reach 256 before the sums are rescaled
#define TILE 16                       // keys a warp takes at a time; a page holds whole tiles

__device__ __forceinline__ float bf16_to_float(u32 bits) { return __uint_as_float(bits << 16); }

__device__ __forceinline__ u32 float_to_bf16x2(float low, float high) {
  u32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ u32 float_to_f16x2(float low, float high) {
  u32 packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ u32 float_to_e4m3x2(float low, float high) {
  u16 packed;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ u32 pack_e4m3(float a, float b, float c, float d) {
  return float_to_e4m3x2(a, b) | (float_to_e4m3x2(c, d) << 16);
}

__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Read once: the cache of a step is far larger than L2. AHEAD: bytes that a load brings to L2; 256 takes V with K.
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
__device__ __forceinline__ uint4 load_stream(const u8 *address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::" TEXT_OF(AHEAD) "B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

// Two E4M3 values to two halves, exactly. `high` picks the upper pair of the four in a register.
__device__ __forceinline__ u32 unpack_e4m3(u32 four, bool high) {
  u32 halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((u16)(high ? four >> 16 : four)));
  return halves;
}

// D[16 x 8] += A[16 x 16] B[16 x 8], halves in, float out.
__device__ __forceinline__ void mma(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Transposes an 8 x 8 matrix of halves that lies across the warp.
__device__ __forceinline__ u32 turn(u32 pair) {
  u32 turned;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}

// r[i] holds four dims of key i; afterwards r[i] holds dim i of four keys.
__device__ __forceinline__ void transpose_bytes(u32 &r0, u32 &r1, u32 &r2, u32 &r3) {
  u32 a = __byte_perm(r0, r1, 0x5140), b = __byte_perm(r2, r3, 0x5140);
  u32 c = __byte_perm(r0, r1, 0x7362), d = __byte_perm(r2, r3, 0x7362);
  r0 = __byte_perm(a, b, 0x5410);
  r1 = __byte_perm(a, b, 0x7632);
  r2 = __byte_perm(c, d, 0x5410);
  r3 = __byte_perm(c, d, 0x7632);
}

// One block a token; threads 0..8*(heads)-1 rotate (8 pairs each), the next 16 a KV head move v.
extern "C" __global__ void rope_cache(u16 *qkv, const i64 *positions, const u16 *cos_sin, u8 *cache,
                                      const i64 *slots, const float *k_scale, const float *v_scale, int q_heads,
                                      int kv_heads) {
  const int token = blockIdx.x, unit = threadIdx.x, rotated = q_heads + kv_heads;
  u16 *row = qkv + (i64)token * (rotated + kv_heads) * HEAD;
  const i64 slot = slots[token];
  u8 *place = cache + (slot >> PAGE_SHIFT) * (i64)PAGE_STRIDE + (slot & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE;
  if (unit < rotated * 8) {
    const int head = unit >> 3, part = unit & 7;
    u16 *first = row + head * HEAD + part * 8;
    const u16 *turn = cos_sin + positions[token] * HEAD + part * 8;
    const uint4 low = *(uint4 *)first, high = *(uint4 *)(first + 64);
    const uint4 cosines = *(const uint4 *)turn, sines = *(const uint4 *)(turn + 64);
    const u32 x[4] = {low.x, low.y, low.z, low.w}, y[4] = {high.x, high.y, high.z, high.w};
    const u32 c[4] = {cosines.x, cosines.y, cosines.z, cosines.w}, s[4] = {sines.x, sines.y, sines.z, sines.w};
    u32 a[4], b[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float x0 = bf16_to_float(x[i] & 0xffff), x1 = bf16_to_float(x[i] >> 16);
      float y0 = bf16_to_float(y[i] & 0xffff), y1 = bf16_to_float(y[i] >> 16);
      float c0 = bf16_to_float(c[i] & 0xffff), c1 = bf16_to_float(c[i] >> 16);
      float s0 = bf16_to_float(s[i] & 0xffff), s1 = bf16_to_float(s[i] >> 16);
      a[i] = float_to_bf16x2(x0 * c0 - y0 * s0, x1 * c1 - y1 * s1);
      b[i] = float_to_bf16x2(y0 * c0 + x0 * s0, y1 * c1 + x1 * s1);
    }
    *(uint4 *)first = make_uint4(a[0], a[1], a[2], a[3]);
    *(uint4 *)(first + 64) = make_uint4(b[0], b[1], b[2], b[3]);
    if (head >= q_heads && slot >= 0) {
      const float scale = 1.0f / *k_scale;
      u32 packed[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const u32 *from = i < 2 ? a + 2 * i : b + 2 * (i - 2);
        packed[i] = pack_e4m3(bf16_to_float(from[0] & 0xffff) * scale, bf16_to_float(from[0] >> 16) * scale,
                              bf16_to_float(from[1] & 0xffff) * scale, bf16_to_float(from[1] >> 16) * scale);
      }
      u8 *to = place + (head - q_heads) * HEAD_STRIDE + part * 8;
      *(uint2 *)to = make_uint2(packed[0], packed[1]);
      *(uint2 *)(to + 64) = make_uint2(packed[2], packed[3]);
    }
  } else if (unit < rotated * 8 + kv_heads * 16 && slot >= 0) {
    const int at = (unit - rotated * 8) * 8;
    const uint4 v = *(const uint4 *)(row + rotated * HEAD + at);
    const u32 x[4] = {v.x, v.y, v.z, v.w};
    const float scale = 1.0f / *v_scale;
    u32 packed[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
      packed[i] = pack_e4m3(bf16_to_float(x[2 * i] & 0xffff) * scale, bf16_to_float(x[2 * i] >> 16) * scale,
                            bf16_to_float(x[2 * i + 1] & 0xffff) * scale, bf16_to_float(x[2 * i + 1] >> 16) * scale);
    *(uint2 *)(place + (at / HEAD) * HEAD_STRIDE + HEAD + at % HEAD) = make_uint2(packed[0], packed[1]);
  }
}

// One block a (KV head, sequence), its warps take tiles of 16 keys in turn. Nothing passes through
// shared memory but the warps' sums at the end: both products sum over an index (dims, then keys)
// whose order is free, so each lane loads 16 bytes at a time straight into fragments of the matrix
// instruction, and only V's bytes are turned round, in registers. Hopper's mma.sync has no FP8: it
// is unpacked to halves, exactly, so q and the probabilities stay halves too. Lane = 4 * row + column.
//
// S^T[key, head] = K Q^T:    a lane holds keys row, row + 8 for heads 2c, 2c + 1 (GROUP of 8 are used).
// O^T[dim, head] = V^T P^T:  movmatrix turns what a lane holds of S^T into what it must give of P^T.
extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS)
    decode(const u16 *q, int q_stride, const u8 *cache, const int *block_table, int table_stride, const int *seq_lens,
           const float *k_scale, const float *v_scale, float softmax_scale, u16 *out, int out_stride) {
  __shared__ float sums[WARPS][GROUP][HEAD], tops[WARPS][8], masses[WARPS][8];
  const int kv_head = blockIdx.x, seq = blockIdx.y;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = lane & 3;
  const int length = seq_lens[seq], tiles = (length + TILE - 1) / TILE;
  const int *table = block_table + (i64)seq * table_stride;
  const u8 *keys_from = cache + kv_head * HEAD_STRIDE + row * TOKEN_STRIDE + column * 16;
  const u8 *values_from = cache + kv_head * HEAD_STRIDE + 2 * column * TOKEN_STRIDE + HEAD + row * 16;

  // Dims 16 c .. + 15 and 64 + 16 c .. + 15 of this row's head, as halves: two a register.
  u32 query[16];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const u16 *mine = q + (i64)seq * q_stride + (kv_head * GROUP + row) * HEAD + column * 16 + (i >> 1) * 64 + (i & 1) * 8;
    const uint4 x = row < GROUP ? *(const uint4 *)mine : make_uint4(0, 0, 0, 0);
    const u32 four[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int e = 0; e < 4; e++)
      query[4 * i + e] = float_to_f16x2(bf16_to_float(four[e] & 0xffff), bf16_to_float(four[e] >> 16));
  }
  const float to_log2 = *k_scale * softmax_scale * 1.4426950408889634f;

  auto place = [&](int tile) {
    const int key = tile * TILE;
    return table[key >> PAGE_SHIFT] * (i64)PAGE_STRIDE + (key & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE;
  };
  uint4 keys[2][2];
  auto load_keys = [&](i64 at) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
      keys[j][0] = load_stream(keys_from + at + 8 * j * TOKEN_STRIDE);
      keys[j][1] = load_stream(keys_from + at + 8 * j * TOKEN_STRIDE + 64);
    }
  };

  float acc[8][4], top[2] = {-1e30f, -1e30f}, mass[2] = {0.0f, 0.0f};
#pragma unroll
  for (int j = 0; j < 8; j++) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.0f;
  i64 here = 0, next = 0;
  if (warp < tiles) {
    here = place(warp);
    load_keys(here);
  }
  if (warp + WARPS < tiles) next = place(warp + WARPS);
#pragma unroll 1
  for (int tile = warp; tile < tiles; tile += WARPS) {
    const int left = length - tile * TILE;
    u32 v[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int key = 8 * (i >> 1) + (i & 1);
      uint4 x = make_uint4(0, 0, 0, 0);
      // A key past the end must be zero, not garbage: its probability is 0 and 0 x NaN is NaN.
      if (key + 2 * column < left) x = load_stream(values_from + here + key * TOKEN_STRIDE);
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
    here = next;
    if (tile + WARPS < tiles) load_keys(here);
    if (tile + 2 * WARPS < tiles) next = place(tile + 2 * WARPS);

#pragma unroll
    for (int e = 0; e < 4; e++) s[e] = row + 8 * (e >> 1) < left ? s[e] * to_log2 : -1e30f;
    if (__any_sync(~0u, fmaxf(s[0], s[2]) > top[0] + SLACK || fmaxf(s[1], s[3]) > top[1] + SLACK)) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float highest = fmaxf(top[e], fmaxf(s[e], s[e + 2]));
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lanes));
        const float shrink = fast_exp2(top[e] - highest);
        mass[e] *= shrink;
#pragma unroll
        for (int j = 0; j < 8; j++) acc[j][e] *= shrink, acc[j][e + 2] *= shrink;
        top[e] = highest;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
      s[e] = fast_exp2(s[e] - top[e & 1]);
      mass[e & 1] += s[e];
    }
    const u32 p0 = turn(float_to_f16x2(s[0], s[1])), p1 = turn(float_to_f16x2(s[2], s[3]));
#pragma unroll
    for (int d = 0; d < 4; d++) {
      transpose_bytes(v[0][d], v[1][d], v[2][d], v[3][d]);
      // Dims 16 row + 4 d .. + 3: two products of two dims each.
#pragma unroll
      for (int h = 0; h < 2; h++)
        mma(acc[2 * d + h], unpack_e4m3(v[2 * h][d], false), unpack_e4m3(v[2 * h + 1][d], false),
            unpack_e4m3(v[2 * h][d], true), unpack_e4m3(v[2 * h + 1][d], true), p0, p1);
    }
  }

#pragma unroll
  for (int e = 0; e < 2; e++) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) mass[e] += __shfl_xor_sync(~0u, mass[e], lanes);
    if (row == 0) tops[warp][2 * column + e] = top[e], masses[warp][2 * column + e] = mass[e];
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int head = 2 * column + (e & 1), dim = 16 * row + 2 * j + (e >> 1);
      if (head < GROUP) sums[warp][head][dim] = acc[j][e];
    }
  __syncthreads();

#pragma unroll
  for (int i = threadIdx.x; i < GROUP * HEAD; i += WARPS * 32) {
    const int head = i / HEAD, dim = i % HEAD;
    float highest = tops[0][head], total = 0.0f, value = 0.0f;
#pragma unroll
    for (int w = 1; w < WARPS; w++) highest = fmaxf(highest, tops[w][head]);
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float weight = fast_exp2(tops[w][head] - highest);
      total += weight * masses[w][head];
      value += weight * sums[w][head][dim];
    }
    value = total > 0.0f ? value * *v_scale / total : 0.0f;
    out[(i64)seq * out_stride + kv_head * GROUP * HEAD + i] = (u16)float_to_bf16x2(value, 0.0f);
  }
}
