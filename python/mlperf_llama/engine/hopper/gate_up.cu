// Gate and up projections, activation and quantisation of Llama's MLP in one kernel, behind gemm.cu:
// out = E4M3(silu(g) * u / out_scale), where [g, u] = scale * x w^T. Neither g nor u is rounded or stored.
//
// Rows of w lie so that a thread finds g and u of 2 x 16 neighbouring outputs in its own registers: row
// 8 * (2p + s) + 2c + e of each 256 is that of gate (s = 0) or up (s = 1) for the output
// 64 * (p / 8) + 16 * c + 2 * (p % 8) + e of each 128; c = 0..3, p = 0..15, e = 0..1. See fused.py.

#define LOG2E 1.44269504f

__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Two neighbouring outputs, of sums that are still to be scaled; one reciprocal serves both.
__device__ __forceinline__ u32 silu_mul_e4m3x2(float g0, float g1, float u0, float u1, float scale, float out_scale) {
  g0 *= scale, g1 *= scale;
  // silu(-40) is 0 in every format here, and the product of two such denominators is still finite.
  const float a = 1.0f + fast_exp2(fminf(-g0, 40.0f) * LOG2E), b = 1.0f + fast_exp2(fminf(-g1, 40.0f) * LOG2E);
  const float both = fast_reciprocal(a * b);
  return e4m3x2(g0 * u0 * out_scale * (b * both), g1 * u1 * out_scale * (a * both));
}

// w [2 * width, depth], out [tokens, width].
KERNEL gate_up(const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap w_map, const float *x_scale,
               const float *w_scale, const float *out_scale, u8 *out, int tokens, int width, int depth) {
  const float scale = *x_scale * *w_scale, scale_over_out = scale / *out_scale;
  const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  const auto epilogue = [&](const float (&d)[TILE_ROWS / 2], Tile tile) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = tile.token + warp * 16 + half * 8 + row;
      u8 *destination = out + (u64)token * width + tile.row / 2 + c * 16;
#pragma unroll
      for (int part = 0; part < TILE_ROWS / 128; part++) {
        u32 four[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float *g = d + 64 * part + 16 * i + 2 * half;
          four[i] = silu_mul_e4m3x2(g[0], g[1], g[4], g[5], scale, scale_over_out) |
                    silu_mul_e4m3x2(g[8], g[9], g[12], g[13], scale, scale_over_out) << 16;
        }
        if (token < tokens) *(uint4 *)(destination + 64 * part) = make_uint4(four[0], four[1], four[2], four[3]);
      }
    }
  };
  gemm_tiles(&x_map, &w_map, tokens, 2 * width, depth, [](Tile) {}, epilogue);
}
