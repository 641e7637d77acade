"""Whether hopper/cuda.py works on this GPU, in seconds: `python smoke_cuda.py`, with mlperf_llama importable.

Compiles a kernel with NVRTC, hands it a tensor map, a tensor, an int and a float, copies boxes by TMA into
shared memory that a launch has to ask for, and compares. Then compiles and runs the package's own kernels'
smallest case, decode.cu's. Exit codes: 0 equal, 1 not.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch

from mlperf_llama.engine.hopper import cuda
from mlperf_llama.engine.hopper.kernels import HEAD_SIZE, Kernels

ROWS, COLUMNS, BOX_ROWS = 40, 256, 16
# As much shared memory as needs cuFuncSetAttribute.
SHARED = 100 * 1024
SOURCE = b"""
// A block reads one box of 16 rows and 128 bytes; `out` gets each byte times `factor` and plus `more`.
extern "C" __global__ void smoke(const __grid_constant__ TensorMap map, float *out, int more, float factor) {
  const u32 start = shared_start(), barrier = start + 16 * 128;
  if (threadIdx.x == 0) {
    barrier_init(barrier, 1);
    fence_barrier_init();
    barrier_arrive_expect(barrier, 16 * 128);
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(start), "l"(&map), "r"(blockIdx.x * 128),
                 "r"(blockIdx.y * 16), "r"(barrier) : "memory");
  }
  __syncthreads();
  barrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < 16 * 128; i += blockDim.x) {
    const int row = i / 128, column = i % 128;
    u32 value;
    const u32 address = start + (i ^ (row & 7) << 4);
    asm volatile("ld.shared.u8 %0, [%1];" : "=r"(value) : "r"(address));
    out[(blockIdx.y * 16 + row) * (gridDim.x * 128) + blockIdx.x * 128 + column] = value * factor + more;
  }
}
"""


def tma_and_arguments() -> bool:
    """A kernel of every kind of argument; rows behind the matrix come as zeros."""
    cubin = cuda.compile_source(cuda.source("common.cu") + SOURCE, {}, "sm_90a")
    kernel = cuda.load(cubin, "smoke", SHARED)
    x = torch.randint(0, 256, (ROWS, COLUMNS), dtype=torch.uint8, device="cuda")
    boxes = -(-ROWS // BOX_ROWS)
    out = torch.full((boxes * BOX_ROWS, COLUMNS), -1.0, device="cuda")
    read = cuda.tensor_map(x.data_ptr(), (COLUMNS, ROWS), (COLUMNS,), (128, BOX_ROWS))
    kernel((COLUMNS // 128, boxes), 128, [read, out, -3, 0.5])
    wanted = torch.full_like(out, -3.0)
    wanted[:ROWS] += 0.5 * x
    return bool(torch.equal(out, wanted))


def decode() -> bool:
    """Attention of three queries over a few cached keys, against float32."""
    q_heads, kv_heads, page, lengths = 8, 2, 16, [1, 17, 40]
    keys = (torch.randn(3, 3 * page, kv_heads, 2 * HEAD_SIZE, device="cuda") * 30).to(torch.float8_e4m3fn)
    # Sequence n has pages 3 n to 3 n + 2: [pages, tokens, heads, 256], heads before tokens in name.
    cache = keys.view(torch.uint8).view(9, page, kv_heads, 2 * HEAD_SIZE).transpose(1, 2)
    table = torch.arange(9, dtype=torch.int32, device="cuda").view(3, 3)
    qkv = torch.randn(3, (q_heads + 2 * kv_heads) * HEAD_SIZE, device="cuda").bfloat16()
    scale = torch.tensor(0.02, device="cuda")
    out = torch.zeros(3, q_heads * HEAD_SIZE, dtype=torch.bfloat16, device="cuda")
    seq_lens = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    softmax_scale = HEAD_SIZE**-0.5
    kernels = Kernels(cache, q_heads, kv_heads)
    kernels.decode(qkv, cache, table, seq_lens, scale, scale, softmax_scale, out, 3)
    wanted = []
    for row, length in enumerate(lengths):
        k, v = (keys[row, :length].float() * scale).split(HEAD_SIZE, dim=-1)
        q = qkv[row, : q_heads * HEAD_SIZE].float().view(kv_heads, q_heads // kv_heads, HEAD_SIZE)
        weights = torch.softmax(torch.einsum("hgd,nhd->hgn", q, k) * softmax_scale, dim=-1)
        wanted.append(torch.einsum("hgn,nhd->hgd", weights, v).flatten())
    exact = torch.stack(wanted)
    return float((out.float() - exact).norm() / exact.norm()) < 0.01


def main() -> int:
    torch.manual_seed(0)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "cuda-bindings", version("cuda-bindings"))
    results = {"TMA and arguments": tma_and_arguments(), "decode": decode()}
    torch.cuda.synchronize()
    for name, equal in results.items():
        print(f"{name}: {'equal' if equal else 'NOT EQUAL'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
