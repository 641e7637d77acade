// Attention of one new token per sequence over a paged FP8 (E4M3) KV cache, on Hopper. Behind common.cu.
//
// The cache is vLLM's FlashAttention layout: for each (page, token, KV head) 128 bytes of K, then 128 of V, wherever its
// map says. Head size is 128. The command line sets WARPS (per block), MIN_BLOCKS, STAGES (tiles that a warp has in
// flight), GROUP (query heads per KV head, at most 8) and PAGE_SHIFT (log2 of the tokens per page, at least 4).

#define RESCALE_THRESHOLD 8.0f        // log2: probabilities reach 256 before the sums are rescaled
#define TILE 16                       // keys a warp takes at a time; a page holds whole tiles
#define HALF_BYTES (TILE * HEAD)      // of a tile: K, then as much V

__device__ __forceinline__ u32 float_to_f16x2(float low, float high) {
  u32 packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A tile's K (`byte` 0) or V (128) of a head: rows of 128 bytes, swizzled.
__device__ __forceinline__ void tma_load(u32 to, const TensorMap *map, int byte, int head, int token, int page,
                                         u32 barrier) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
               " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
               "l"(map), "r"(byte), "r"(head), "r"(token), "r"(page), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ uint4 read_shared(u32 address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address));
  return v;
}

// Sixteen bytes of a swizzled box: one of eight chunks in a row.
__device__ __forceinline__ uint4 read_chunk(u32 box, int row, int chunk) {
  return read_shared(box + row * 128 + ((chunk ^ (row & 7)) << 4));
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
__device__ __forceinline__ u32 transpose_8x8(u32 pair) {
  u32 transposed;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(pair));
  return transposed;
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

// One block per (KV head, sequence), its warps take tiles of 16 keys in turn, each on its own: one lane has
// STAGES of them in flight to shared memory. Both GEMMs sum over an index (dims, then keys) whose
// order is free, so each lane reads 16 bytes at a time straight into fragments of the matrix
// instruction, and only V's bytes are transposed, in registers. Hopper's mma.sync has no FP8: it
// is unpacked to halves, exactly, so q and the probabilities stay halves too. Lane = 4 * row + column.
//
// S^T[key, head] = K Q^T:    a lane holds keys row, row + 8 for heads 2c, 2c + 1 (GROUP of 8 are used).
// O^T[dim, head] = V^T P^T:  movmatrix makes of what a lane holds of S^T what it must give of P^T.
extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS)
    decode(const __grid_constant__ TensorMap cache, const u16 *q, int q_stride, const int *block_table,
           int table_stride, const int *seq_lens, const float *k_scale, const float *v_scale, float softmax_scale,
           u16 *out, int out_stride) {
  __shared__ float partial_sums[WARPS][GROUP][HEAD], row_maxes[WARPS][8], row_sums[WARPS][8];
  const int kv_head = blockIdx.x, seq = blockIdx.y;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = lane & 3;
  const int *table = block_table + (i64)seq * table_stride;
  // Where the warp's next 32 tiles lie, one a lane; read before the length is known.
  const auto page_of = [&](int index) {
    const int at = (warp + index * WARPS) * TILE >> PAGE_SHIFT;
    return at < table_stride ? table[at] : 0;
  };
  int pages = page_of(lane);
  const int length = seq_lens[seq], tiles = (length + TILE - 1) / TILE;
  const int tile_count = (tiles - warp + WARPS - 1) / WARPS;
  const u32 start = shared_start(), ring = start + warp * STAGES * 2 * HALF_BYTES;
  const u32 barriers = start + WARPS * STAGES * 2 * HALF_BYTES + warp * STAGES * 8;
  if (lane == 0) {
    for (int stage = 0; stage < STAGES; stage++) barrier_init(barriers + 8 * stage, 1);
    fence_barrier_init();
  }
  __syncwarp();
  const auto prefetch = [&](int index, int stage) {
    if (index && (index & 31) == 0) pages = page_of(index + lane);
    const int page = __shfl_sync(~0u, pages, index & 31);
    if (lane) return;
    const int token = (warp + index * WARPS) * TILE & ((1 << PAGE_SHIFT) - 1);
    const u32 to = ring + stage * 2 * HALF_BYTES, barrier = barriers + 8 * stage;
    barrier_arrive_expect(barrier, 2 * HALF_BYTES);
    tma_load(to, &cache, 0, kv_head, token, page, barrier);
    tma_load(to + HALF_BYTES, &cache, HEAD, kv_head, token, page, barrier);
  };
#pragma unroll
  for (int index = 0; index < STAGES; index++)
    if (index < tile_count) prefetch(index, index);

  // Dims 16 c .. + 15 and 64 + 16 c .. + 15 of this row's head, as halves: two a register.
  u32 query[16];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const u16 *from = q + (i64)seq * q_stride + (kv_head * GROUP + row) * HEAD + column * 16 + (i >> 1) * 64 + (i & 1) * 8;
    const uint4 x = row < GROUP ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    const u32 four[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int e = 0; e < 4; e++)
      query[4 * i + e] = float_to_f16x2(bf16_to_float(four[e] & 0xffff), bf16_to_float(four[e] >> 16));
  }
  const float to_log2 = *k_scale * softmax_scale * 1.4426950408889634f;

  float acc[8][4], row_max[2] = {-1e30f, -1e30f}, row_sum[2] = {0.0f, 0.0f};
#pragma unroll
  for (int j = 0; j < 8; j++) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.0f;
  int stage = 0;
  u32 parity = 0;
#pragma unroll 1
  for (int index = 0; index < tile_count; index++) {
    const int remaining = length - (warp + index * WARPS) * TILE;
    const u32 here = ring + stage * 2 * HALF_BYTES;
    barrier_wait(barriers + 8 * stage, parity);
    float s[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint4 a = read_chunk(here, row, column + 4 * i), b = read_chunk(here, row + 8, column + 4 * i);
      const u32 upper[4] = {a.x, a.y, a.z, a.w}, lower[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int e = 0; e < 4; e++)
        mma(s, unpack_e4m3(upper[e], false), unpack_e4m3(lower[e], false), unpack_e4m3(upper[e], true),
            unpack_e4m3(lower[e], true), query[8 * i + 2 * e], query[8 * i + 2 * e + 1]);
    }
    u32 v[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int key = 8 * (i >> 1) + (i & 1) + 2 * column;
      uint4 x = read_chunk(here + HALF_BYTES, key, row);
      // A key past the end must be zero, not garbage: its probability is 0 and 0 x NaN is NaN.
      if (key >= remaining) x = make_uint4(0, 0, 0, 0);
      v[i][0] = x.x, v[i][1] = x.y, v[i][2] = x.z, v[i][3] = x.w;
    }
    // The tile is in registers: its place can be filled again.
    __syncwarp();
    if (index + STAGES < tile_count) prefetch(index + STAGES, stage);
    if (++stage == STAGES) stage = 0, parity ^= 1;

#pragma unroll
    for (int e = 0; e < 4; e++) s[e] = row + 8 * (e >> 1) < remaining ? s[e] * to_log2 : -1e30f;
    if (__any_sync(~0u, fmaxf(s[0], s[2]) > row_max[0] + RESCALE_THRESHOLD ||
                            fmaxf(s[1], s[3]) > row_max[1] + RESCALE_THRESHOLD)) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float new_max = fmaxf(row_max[e], fmaxf(s[e], s[e + 2]));
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) new_max = fmaxf(new_max, __shfl_xor_sync(~0u, new_max, lanes));
        const float rescale = fast_exp2(row_max[e] - new_max);
        row_sum[e] *= rescale;
#pragma unroll
        for (int j = 0; j < 8; j++) acc[j][e] *= rescale, acc[j][e + 2] *= rescale;
        row_max[e] = new_max;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
      s[e] = fast_exp2(s[e] - row_max[e & 1]);
      row_sum[e & 1] += s[e];
    }
    const u32 p0 = transpose_8x8(float_to_f16x2(s[0], s[1])), p1 = transpose_8x8(float_to_f16x2(s[2], s[3]));
#pragma unroll
    for (int d = 0; d < 4; d++) {
      transpose_bytes(v[0][d], v[1][d], v[2][d], v[3][d]);
      // Dims 16 row + 4 d .. + 3: two MMAs of two dims each.
#pragma unroll
      for (int h = 0; h < 2; h++)
        mma(acc[2 * d + h], unpack_e4m3(v[2 * h][d], false), unpack_e4m3(v[2 * h + 1][d], false),
            unpack_e4m3(v[2 * h][d], true), unpack_e4m3(v[2 * h + 1][d], true), p0, p1);
    }
  }

#pragma unroll
  for (int e = 0; e < 2; e++) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) row_sum[e] += __shfl_xor_sync(~0u, row_sum[e], lanes);
    if (row == 0) row_maxes[warp][2 * column + e] = row_max[e], row_sums[warp][2 * column + e] = row_sum[e];
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int head = 2 * column + (e & 1), dim = 16 * row + 2 * j + (e >> 1);
      if (head < GROUP) partial_sums[warp][head][dim] = acc[j][e];
    }
  __syncthreads();

#pragma unroll
  for (int i = threadIdx.x; i < GROUP * HEAD; i += WARPS * 32) {
    const int head = i / HEAD, dim = i % HEAD;
    float new_max = row_maxes[0][head], total = 0.0f, value = 0.0f;
#pragma unroll
    for (int w = 1; w < WARPS; w++) new_max = fmaxf(new_max, row_maxes[w][head]);
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float weight = fast_exp2(row_maxes[w][head] - new_max);
      total += weight * row_sums[w][head];
      value += weight * partial_sums[w][head][dim];
    }
    value = total > 0.0f ? value * *v_scale / total : 0.0f;
    out[(i64)seq * out_stride + kv_head * GROUP * HEAD + i] = (u16)bf16x2(value, 0.0f);
  }
}
