// The GEMM of q, k and v, rotary embedding and the FP8 cache of Llama's attention in one kernel, behind gemm.cu: what
// rope_cache.cu does, before the GEMM's result is rounded. The layout of the cache is that file's, the command
// line sets it in the same way: PAGE_SHIFT, PAGE_STRIDE, TOKEN_STRIDE, HEAD_STRIDE.
//
// Rows of w lie so that a thread finds both halves of a rotated pair, and 2 x 8 neighbouring dims of each half, in its
// own registers: row 8 * (2p + s) + 2c + e of a head's 128 is that of dim 32 * (p / 4) + 8 * c + 2 * (p % 4) + e + 64 * s;
// c = 0..3, p = 0..7, e = 0..1, s = 0..1. See fused.py.

__device__ __forceinline__ uint4 pack_bf16x8(const float (&v)[8]) {
  return make_uint4(bf16x2(v[0], v[1]), bf16x2(v[2], v[3]), bf16x2(v[4], v[5]), bf16x2(v[6], v[7]));
}
__device__ __forceinline__ uint2 pack_e4m3x8(const float (&v)[8], float scale) {
  return make_uint2(e4m3x2(v[0] * scale, v[1] * scale) | e4m3x2(v[2] * scale, v[3] * scale) << 16,
                    e4m3x2(v[4] * scale, v[5] * scale) | e4m3x2(v[6] * scale, v[7] * scale) << 16);
}
__device__ __forceinline__ float bf16_at(const uint4 &eight, int i) {
  const u32 two = i < 2 ? eight.x : i < 4 ? eight.y : i < 6 ? eight.z : eight.w;
  return __uint_as_float(i % 2 ? two & 0xffff0000 : two << 16);
}

// out [tokens, q, k and v heads * 128] bf16; cos_sin [positions, 128] bf16. A slot below 0 writes no cache.
KERNEL qkv(const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap w_map, const float *x_scale,
           const float *w_scale, const i64 *positions, const u16 *cos_sin, const i64 *slots, const float *k_scale,
           const float *v_scale, u16 *out, u8 *cache, int tokens, int q_heads, int kv_heads, int depth) {
  const float scale = *x_scale * *w_scale, inv_k_scale = 1.0f / *k_scale, inv_v_scale = 1.0f / *v_scale;
  const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  const int rotary_heads = q_heads + kv_heads, heads = rotary_heads + kv_heads;
  // Of a thread's two tokens; read before the tile is multiplied.
  uint4 cosines[2][2], sines[2][2];
  i64 slot[2];
  const auto prologue = [&](Tile tile) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = tile.token + warp * 16 + half * 8 + row;
      slot[half] = token < tokens ? slots[token] : -1;
      const u16 *rotary = cos_sin + (token < tokens ? positions[token] : 0) * HEAD + 8 * c;
#pragma unroll
      for (int chunk = 0; chunk < 2; chunk++) {
        cosines[half][chunk] = *(const uint4 *)(rotary + 32 * chunk);
        sines[half][chunk] = *(const uint4 *)(rotary + 64 + 32 * chunk);
      }
    }
  };
  const auto epilogue = [&](const float (&d)[TILE_ROWS / 2], Tile tile) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = tile.token + warp * 16 + half * 8 + row;
      u8 *page = cache + (slot[half] >> PAGE_SHIFT) * (i64)PAGE_STRIDE +
                 (slot[half] & ((1 << PAGE_SHIFT) - 1)) * (i64)TOKEN_STRIDE + 8 * c;
#pragma unroll
      for (int part = 0; part < TILE_ROWS / HEAD; part++) {
        const int head = tile.row / HEAD + part;
        u16 *to = out + ((u64)token * heads + head) * HEAD + 8 * c;
        u8 *cache_row = page + (head < rotary_heads ? (head - q_heads) * (i64)HEAD_STRIDE
                                                    : (head - rotary_heads) * (i64)HEAD_STRIDE + HEAD);
#pragma unroll
        for (int chunk = 0; chunk < 2; chunk++) {
          float low[8], high[8];
#pragma unroll
          for (int i = 0; i < 8; i++) {
            const float *sum = d + 64 * part + 32 * chunk + 8 * (i / 2) + 2 * half + i % 2;
            low[i] = sum[0] * scale;
            high[i] = sum[4] * scale;
            if (head < rotary_heads) {
              const float x = low[i], cosine = bf16_at(cosines[half][chunk], i), sine = bf16_at(sines[half][chunk], i);
              low[i] = x * cosine - high[i] * sine;
              high[i] = high[i] * cosine + x * sine;
            }
          }
          if (token < tokens) {
            *(uint4 *)(to + 32 * chunk) = pack_bf16x8(low);
            *(uint4 *)(to + 32 * chunk + 64) = pack_bf16x8(high);
          }
          if (head >= q_heads && slot[half] >= 0) {
            const float inv_scale = head < rotary_heads ? inv_k_scale : inv_v_scale;
            *(uint2 *)(cache_row + 32 * chunk) = pack_e4m3x8(low, inv_scale);
            *(uint2 *)(cache_row + 32 * chunk + 64) = pack_e4m3x8(high, inv_scale);
          }
        }
      }
    }
  };
  gemm_tiles(&x_map, &w_map, tokens, heads * HEAD, depth, prologue, epilogue);
}
