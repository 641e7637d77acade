// FP8 products on Hopper (sm_90a) whose sums a kernel of its own finishes: gate_up.cu, qkv.cu. Stands between common.cu
// and one of these. x and w are E4M3, with one scale each.
//
// A block multiplies 128 tokens by ROWS rows of w (256 or 128) at a time: two groups of four warps take 64 tokens
// each, one thread of a third group keeps STAGES pieces of x and w of 128 bytes a row coming (TMA, 128-byte
// swizzle). Blocks stay and take tile after tile. With SHARE_W two blocks, a cluster, take the same rows of w for
// two tiles of tokens and load half of them each. GROUP: so many tiles of tokens (or pairs) pass over all of w
// together, so that x stays in L2.

#define BLOCKS (1 + SHARE_W)                // a cluster
#define TOKENS 128                          // a tile: of x
#define PIECE 128                           // bytes of a row in a stage
#define X_BYTES (TOKENS * PIECE)
#define W_BYTES (ROWS * PIECE)
#define WARPS 8                             // that multiply

__device__ __forceinline__ u32 block_of_cluster() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// At the same place in a block of the cluster. Without `release`, which would wait for all of memory: what was
// read of a stage was read by wgmma, which has ended.
__device__ __forceinline__ void barrier_arrive(u32 barrier, u32 block) {
  asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
               "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
               "r"(block)
               : "memory");
}

// A box of the matrix that `map` describes: `column` in bytes, `row`; to this block or to both.
__device__ __forceinline__ void load(u32 to, const TensorMap *map, int column, int row, u32 barrier, bool both) {
  if (both)
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
                 "l"(map), "r"(column), "r"(row), "r"(barrier), "h"((u16)3)
                 : "memory");
  else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(column), "r"(row), "r"(barrier)
                 : "memory");
}

// Rows of 128 bytes, swizzled, eight of them 1,024 bytes: what wgmma is told of a matrix in shared memory.
__device__ __forceinline__ u64 matrix(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
__device__ __forceinline__ void multiply_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void multiply_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// Of 168 that each of 384 threads begins with.
__device__ __forceinline__ void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 40;"); }
__device__ __forceinline__ void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 232;"); }

#define F8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define F64(i) F8(i), F8(i + 8), F8(i + 16), F8(i + 24), F8(i + 32), F8(i + 40), F8(i + 48), F8(i + 56)

// D[64 x ROWS] (+)= A[64 x 32] B[ROWS x 32]^T, E4M3 in, float out. Lane = 4 * row + c: d[4j + 2h + e] is token
// 16 * warp + 8h + row, column 8j + 2c + e. `add` 0: D is set.
__device__ __forceinline__ void multiply(float (&d)[ROWS / 2], u64 a, u64 b, int add) {
#if ROWS == 256
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
      : "l"(a), "l"(b), "r"(add));
#else
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
      "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1;\n}"
      : F64(0)
      : "l"(a), "l"(b), "r"(add));
#endif
}

struct Tile { int token, row; };

// The number-th tile: GROUP tiles of tokens (or pairs) take a tile of w before all go on to the next.
__device__ __forceinline__ Tile tile_of(int number, int token_tiles, int row_tiles, int rank) {
  const int group = number / (GROUP * row_tiles), rest = number % (GROUP * row_tiles);
  const int wide = min(GROUP, token_tiles - group * GROUP);
  const int token = group * GROUP + rest % wide;
  return {(SHARE_W ? 2 * token + rank : token) * TOKENS, rest / wide * ROWS};
}

#define X_AT(stage) (start + (stage) * X_BYTES)
#define W_AT(stage) (start + STAGES * X_BYTES + (stage) * W_BYTES)
#define FULL(stage) (barriers + 16 * (stage))
#define EMPTY(stage) (barriers + 16 * (stage) + 8)

#if SHARE_W
#define KERNEL extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
#else
#define KERNEL extern "C" __global__ void __launch_bounds__(384, 1)
#endif

// x [tokens, depth] times w [rows, depth]; depth is a multiple of 128, rows of ROWS. A thread that multiplies calls
// `begin` before a tile and `finish` with its sums.
template <class Begin, class Finish>
__device__ __forceinline__ void multiply_tiles(const TensorMap *x_map, const TensorMap *w_map, int tokens, int rows,
                                               int depth, Begin begin, Finish finish) {
  const u32 start = memory_start(), barriers = start + STAGES * (X_BYTES + W_BYTES);
  const u32 rank = SHARE_W ? block_of_cluster() : 0, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pieces = depth / PIECE, row_tiles = rows / ROWS;
  const int token_tiles = (tokens + TOKENS * BLOCKS - 1) / (TOKENS * BLOCKS), tiles = token_tiles * row_tiles;
  const int first = blockIdx.x / BLOCKS, stride = gridDim.x / BLOCKS;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      barrier_init(FULL(stage), 1);
      barrier_init(EMPTY(stage), WARPS * BLOCKS);
    }
    barriers_are_set();
  }
  if (SHARE_W) cluster_sync();
  else __syncthreads();

  if (warp >= WARPS) {
    fewer_registers();
    if (threadIdx.x == WARPS * 32) {
      int stage = 0;
      u32 parity = 1;                       // nothing is taken yet: the first round passes
      for (int number = first; number < tiles; number += stride) {
        const Tile tile = tile_of(number, token_tiles, row_tiles, rank);
        for (int piece = 0; piece < pieces; piece++) {
          barrier_wait(EMPTY(stage), parity);
          barrier_expect(FULL(stage), X_BYTES + W_BYTES);
          const int part = SHARE_W ? rank * (ROWS / 2) : 0;
          load(X_AT(stage), x_map, piece * PIECE, tile.token, FULL(stage), false);
          load(W_AT(stage) + part * PIECE, w_map, piece * PIECE, tile.row + part, FULL(stage), SHARE_W);
          if (++stage == STAGES) stage = 0, parity ^= 1;
        }
      }
    }
  } else {
    more_registers();
    const u32 x_rows = warp / 4 * 64 * PIECE;
    int stage = 0;
    u32 parity = 0;
    for (int number = first; number < tiles; number += stride) {
      const Tile tile = tile_of(number, token_tiles, row_tiles, rank);
      begin(tile);
      float d[ROWS / 2];
      int before = -1;
      for (int piece = 0; piece < pieces; piece++) {
        barrier_wait(FULL(stage), parity);
        const u64 a = matrix(X_AT(stage) + x_rows), b = matrix(W_AT(stage));
        multiply_fence();
#pragma unroll
        for (int k = 0; k < PIECE / 32; k++) multiply(d, a + 2 * k, b + 2 * k, piece + k);
        multiply_commit();
        multiply_wait<1>();
        if (before >= 0 && lane < BLOCKS) barrier_arrive(EMPTY(before), lane);
        before = stage;
        if (++stage == STAGES) stage = 0, parity ^= 1;
      }
      multiply_wait<0>();
      if (lane < BLOCKS) barrier_arrive(EMPTY(before), lane);
      finish(d, tile);
    }
  }
  // A block must not end while the other still sends to it.
  __syncwarp();
  if (SHARE_W) cluster_sync();
}
