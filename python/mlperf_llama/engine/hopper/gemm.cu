// An FP8 GEMM on Hopper (sm_90a) whose epilogue is a kernel's own: gate_up.cu, qkv.cu. Stands between common.cu and one
// of these. x and w are E4M3, with one scale each.
//
// A tile is 128 tokens by TILE_ROWS rows of w (256 or 128): two groups of four warps take 64 tokens each, one thread of
// a third group keeps STAGES K blocks of x and w, 128 bytes per row, in flight (TMA, 128-byte swizzle). The kernel is
// persistent: a block takes tile after tile. With MULTICAST_W a cluster of two blocks takes the same rows of w for two
// tiles of tokens, and each block loads half of them for both. TILE_GROUP: how many tiles of tokens (or pairs) pass over
// all of w together, so that x stays in L2.

#define CLUSTER_SIZE (1 + MULTICAST_W)      // blocks
#define TILE_TOKENS 128                     // rows of x in a tile
#define K_BLOCK 128                         // bytes of a row in a stage
#define X_BYTES (TILE_TOKENS * K_BLOCK)
#define W_BYTES (TILE_ROWS * K_BLOCK)
#define MATH_WARPS 8                        // those that multiply

__device__ __forceinline__ u32 cluster_rank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// At the same place in a block of the cluster. Without `release`, which would wait for all of memory: what was
// read of a stage was read by wgmma, which has ended.
__device__ __forceinline__ void barrier_arrive(u32 barrier, u32 rank) {
  asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
               "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
               "r"(rank)
               : "memory");
}

// A box of the matrix that `map` describes: `column` in bytes, `row`; to this block, or to both of the cluster.
__device__ __forceinline__ void tma_load(u32 destination, const TensorMap *map, int column, int row, u32 barrier,
                                         bool multicast) {
  if (multicast)
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(destination),
                 "l"(map), "r"(column), "r"(row), "r"(barrier), "h"((u16)3)
                 : "memory");
  else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(destination),
                 "l"(map), "r"(column), "r"(row), "r"(barrier)
                 : "memory");
}

// Rows of 128 bytes, swizzled, eight of them 1,024 bytes: wgmma's descriptor of a matrix in shared memory.
__device__ __forceinline__ u64 matrix_descriptor(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// Of 168 that each of 384 threads begins with.
__device__ __forceinline__ void decrease_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 40;"); }
__device__ __forceinline__ void increase_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 232;"); }

#define F8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define F64(i) F8(i), F8(i + 8), F8(i + 16), F8(i + 24), F8(i + 32), F8(i + 40), F8(i + 48), F8(i + 56)

// D[64 x TILE_ROWS] (+)= A[64 x 32] B[TILE_ROWS x 32]^T, E4M3 in, float out. Lane = 4 * row + c: d[4j + 2h + e] is token
// 16 * warp + 8h + row, column 8j + 2c + e. `accumulate` 0: D is set.
__device__ __forceinline__ void wgmma(float (&d)[TILE_ROWS / 2], u64 a, u64 b, int accumulate) {
#if TILE_ROWS == 256
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
      "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,"
      "%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,"
      "%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,"
      "%121,%122,%123,%124,%125,%126,%127}, %128, %129, p, 1, 1;\n}"
      : F64(0), F64(64)
      : "l"(a), "l"(b), "r"(accumulate));
#else
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
      "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1;\n}"
      : F64(0)
      : "l"(a), "l"(b), "r"(accumulate));
#endif
}

struct Tile { int token, row; };

// The index-th tile: TILE_GROUP tiles of tokens (or pairs) take a tile of w before all go on to the next.
__device__ __forceinline__ Tile tile_at(int index, int token_tiles, int row_tiles, int rank) {
  const int group = index / (TILE_GROUP * row_tiles), rest = index % (TILE_GROUP * row_tiles);
  const int group_size = min(TILE_GROUP, token_tiles - group * TILE_GROUP);
  const int token = group * TILE_GROUP + rest % group_size;
  return {(MULTICAST_W ? 2 * token + rank : token) * TILE_TOKENS, rest / group_size * TILE_ROWS};
}

#define X_AT(stage) (start + (stage) * X_BYTES)
#define W_AT(stage) (start + STAGES * X_BYTES + (stage) * W_BYTES)
#define FULL(stage) (barriers + 16 * (stage))
#define EMPTY(stage) (barriers + 16 * (stage) + 8)

#if MULTICAST_W
#define KERNEL extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
#else
#define KERNEL extern "C" __global__ void __launch_bounds__(384, 1)
#endif

// x [tokens, depth] times w [rows, depth]; depth is a multiple of 128, rows of TILE_ROWS. A thread that multiplies calls
// `prologue` before a tile and `epilogue` with its sums.
template <class Prologue, class Epilogue>
__device__ __forceinline__ void gemm_tiles(const TensorMap *x_map, const TensorMap *w_map, int tokens, int rows,
                                           int depth, Prologue prologue, Epilogue epilogue) {
  const u32 start = shared_start(), barriers = start + STAGES * (X_BYTES + W_BYTES);
  const u32 rank = MULTICAST_W ? cluster_rank() : 0, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int k_blocks = depth / K_BLOCK, row_tiles = rows / TILE_ROWS;
  const int token_tiles = (tokens + TILE_TOKENS * CLUSTER_SIZE - 1) / (TILE_TOKENS * CLUSTER_SIZE);
  const int tiles = token_tiles * row_tiles;
  const int first = blockIdx.x / CLUSTER_SIZE, stride = gridDim.x / CLUSTER_SIZE;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      barrier_init(FULL(stage), 1);
      barrier_init(EMPTY(stage), MATH_WARPS * CLUSTER_SIZE);
    }
    fence_barrier_init();
  }
  if (MULTICAST_W) cluster_sync();
  else __syncthreads();

  if (warp >= MATH_WARPS) {
    decrease_registers();
    if (threadIdx.x == MATH_WARPS * 32) {
      int stage = 0;
      u32 parity = 1;                       // nothing is taken yet: the first round passes
      for (int index = first; index < tiles; index += stride) {
        const Tile tile = tile_at(index, token_tiles, row_tiles, rank);
        for (int k_block = 0; k_block < k_blocks; k_block++) {
          barrier_wait(EMPTY(stage), parity);
          barrier_arrive_expect(FULL(stage), X_BYTES + W_BYTES);
          const int part = MULTICAST_W ? rank * (TILE_ROWS / 2) : 0;
          tma_load(X_AT(stage), x_map, k_block * K_BLOCK, tile.token, FULL(stage), false);
          tma_load(W_AT(stage) + part * K_BLOCK, w_map, k_block * K_BLOCK, tile.row + part, FULL(stage), MULTICAST_W);
          if (++stage == STAGES) stage = 0, parity ^= 1;
        }
      }
    }
  } else {
    increase_registers();
    const u32 x_rows = warp / 4 * 64 * K_BLOCK;
    int stage = 0;
    u32 parity = 0;
    for (int index = first; index < tiles; index += stride) {
      const Tile tile = tile_at(index, token_tiles, row_tiles, rank);
      prologue(tile);
      float d[TILE_ROWS / 2];
      int previous = -1;
      for (int k_block = 0; k_block < k_blocks; k_block++) {
        barrier_wait(FULL(stage), parity);
        const u64 a = matrix_descriptor(X_AT(stage) + x_rows), b = matrix_descriptor(W_AT(stage));
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < K_BLOCK / 32; k++) wgmma(d, a + 2 * k, b + 2 * k, k_block + k);
        wgmma_commit();
        wgmma_wait<1>();
        if (previous >= 0 && lane < CLUSTER_SIZE) barrier_arrive(EMPTY(previous), lane);
        previous = stage;
        if (++stage == STAGES) stage = 0, parity ^= 1;
      }
      wgmma_wait<0>();
      if (lane < CLUSTER_SIZE) barrier_arrive(EMPTY(previous), lane);
      epilogue(d, tile);
    }
  }
  // A block must not end while the other still sends to it.
  __syncwarp();
  if (MULTICAST_W) cluster_sync();
}
