// Rotary embedding of q and k of Llama's attention inside the fused qkv tensor, and k and v written to the paged FP8
// (E4M3) cache. Behind common.cu.
//
// The cache is vLLM's FlashAttention layout: for each (page, token, KV head) 128 bytes of K, then 128 of V. Head size is
// 128. The command line sets PAGE_SHIFT (log2 of the tokens per page) and the strides in bytes: PAGE_STRIDE, TOKEN_STRIDE,
// HEAD_STRIDE. Known strides become constants inside the stores.

__device__ __forceinline__ u32 pack_e4m3(float a, float b, float c, float d) {
  return e4m3x2(a, b) | (e4m3x2(c, d) << 16);
}

// One block per token; threads 0..8*(heads)-1 rotate (8 pairs each), the next 16 per KV head move v.
extern "C" __global__ void rope_cache(u16 *qkv, const i64 *positions, const u16 *cos_sin, u8 *cache,
                                      const i64 *slots, const float *k_scale, const float *v_scale, int q_heads,
                                      int kv_heads) {
  const int token = blockIdx.x, item = threadIdx.x, rotary_heads = q_heads + kv_heads;
  u16 *row = qkv + (i64)token * (rotary_heads + kv_heads) * HEAD;
  const i64 slot = slots[token];
  u8 *cache_row = cache + (slot >> PAGE_SHIFT) * (i64)PAGE_STRIDE + (slot & ((1 << PAGE_SHIFT) - 1)) * TOKEN_STRIDE;
  if (item < rotary_heads * 8) {
    const int head = item >> 3, part = item & 7;
    u16 *first = row + head * HEAD + part * 8;
    const u16 *rotary = cos_sin + positions[token] * HEAD + part * 8;
    const uint4 low = *(uint4 *)first, high = *(uint4 *)(first + 64);
    const uint4 cosines = *(const uint4 *)rotary, sines = *(const uint4 *)(rotary + 64);
    const u32 x[4] = {low.x, low.y, low.z, low.w}, y[4] = {high.x, high.y, high.z, high.w};
    const u32 c[4] = {cosines.x, cosines.y, cosines.z, cosines.w}, s[4] = {sines.x, sines.y, sines.z, sines.w};
    u32 a[4], b[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float x0 = bf16_to_float(x[i] & 0xffff), x1 = bf16_to_float(x[i] >> 16);
      float y0 = bf16_to_float(y[i] & 0xffff), y1 = bf16_to_float(y[i] >> 16);
      float c0 = bf16_to_float(c[i] & 0xffff), c1 = bf16_to_float(c[i] >> 16);
      float s0 = bf16_to_float(s[i] & 0xffff), s1 = bf16_to_float(s[i] >> 16);
      a[i] = bf16x2(x0 * c0 - y0 * s0, x1 * c1 - y1 * s1);
      b[i] = bf16x2(y0 * c0 + x0 * s0, y1 * c1 + x1 * s1);
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
      u8 *to = cache_row + (head - q_heads) * HEAD_STRIDE + part * 8;
      *(uint2 *)to = make_uint2(packed[0], packed[1]);
      *(uint2 *)(to + 64) = make_uint2(packed[2], packed[3]);
    }
  } else if (item < rotary_heads * 8 + kv_heads * 16 && slot >= 0) {
    const int at = (item - rotary_heads * 8) * 8;
    const uint4 v = *(const uint4 *)(row + rotary_heads * HEAD + at);
    const u32 x[4] = {v.x, v.y, v.z, v.w};
    const float scale = 1.0f / *v_scale;
    u32 packed[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
      packed[i] = pack_e4m3(bf16_to_float(x[2 * i] & 0xffff) * scale, bf16_to_float(x[2 * i] >> 16) * scale,
                            bf16_to_float(x[2 * i + 1] & 0xffff) * scale, bf16_to_float(x[2 * i + 1] >> 16) * scale);
    *(uint2 *)(cache_row + (at / HEAD) * HEAD_STRIDE + HEAD + at % HEAD) = make_uint2(packed[0], packed[1]);
  }
}
