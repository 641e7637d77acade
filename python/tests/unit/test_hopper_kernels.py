"""kernels.cu without a GPU: its CUDA source, made to run on a CPU (cuda_on_cpu.cpp), beside torch in float32.

Index arithmetic, fragments, masks and rounding are those of the card; speed, memory order and what NVRTC
makes of it are not: benchmarks/gpu/measure_kernels.py.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from mlperf_llama.engine.hopper.kernels import HEAD_SIZE, WARPS, source, starts_of

COMPILER = shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++) here")
SHIM = Path(__file__).with_name("cuda_on_cpu.cpp")
FP8 = torch.float8_e4m3fn
Q, KV = 8, 2
GROUP = Q // KV
K_SCALE, V_SCALE, SOFTMAX_SCALE = 0.02, 0.03, HEAD_SIZE**-0.5
# Whatever lies behind the last token of a page: NaN.
GARBAGE = 0x7F


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@lru_cache
def built(folder: Path, strides: tuple[int, int, int], page: int, warps: int) -> ctypes.CDLL:
    """The kernels for one layout of the cache, as kernels.py asks NVRTC for them."""
    function = re.compile(r"^__device__ [^\n]*\{(?:[^\n]*\}|\n.*?^\})\n", re.M | re.S)
    kernels_source = function.sub(
        lambda found: "" if "asm" in found[0] else found[0], source(even=True).decode()
    )
    assert "asm" not in kernels_source
    name = "-".join(map(str, (*strides, page, warps)))
    kernels, library = folder / f"{name}.cu", folder / f"{name}.so"
    kernels.write_text(kernels_source)
    layout = zip(("PAGE_STRIDE", "TOKEN_STRIDE", "HEAD_STRIDE"), strides, strict=True)
    defines = {
        **dict(layout),
        "GROUP": GROUP,
        "PAGE_SHIFT": page.bit_length() - 1,
        "WARPS": warps,
        "AHEAD": 256,
    }
    command = [str(COMPILER), "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f'-DKERNELS="{kernels}"']
    command += [*(f"-D{key}={value}" for key, value in defines.items()), "-o", str(library), str(SHIM)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def call(function: object, *given: torch.Tensor | int | float) -> None:
    kinds = {torch.Tensor: lambda x: ctypes.c_void_p(x.data_ptr()), int: ctypes.c_int, float: ctypes.c_float}
    function(*(kinds[type(one)](one) for one in given))  # type: ignore[operator]


class Cache:
    """A paged cache in vLLM's name order [pages, heads, tokens, K and V], filled with garbage."""

    def __init__(self, lengths: list[int], page: int, heads_first: bool) -> None:
        counts = [-(-length // page) for length in lengths]
        order = torch.randperm(sum(counts) + 3, dtype=torch.int32)
        self.table = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
        for row, count in enumerate(counts):
            self.table[row, :count] = order[sum(counts[:row]) :][:count]
        shape = (KV, page) if heads_first else (page, KV)
        codes = torch.full((len(order), *shape, 2 * HEAD_SIZE), GARBAGE, dtype=torch.uint8)
        self.codes = codes if heads_first else codes.transpose(1, 2)
        self.page, self.lengths = page, lengths

    def slots(self, row: int) -> torch.Tensor:
        at = torch.arange(self.lengths[row])
        return self.table[row, at // self.page].long() * self.page + at % self.page

    def put(self, slots: torch.Tensor, values: torch.Tensor) -> None:
        """`values` [tokens, heads, 256], codes of E4M3."""
        self.codes[slots // self.page, :, slots % self.page] = values

    def got(self, slots: torch.Tensor) -> torch.Tensor:
        return self.codes[slots // self.page, :, slots % self.page]

    def kernels(self, folder: Path, warps: int = WARPS) -> ctypes.CDLL:
        page, head, token, _ = self.codes.stride()
        return built(folder, (page, token, head), self.page, warps)


class Step:
    """Sequences with a query each, all in a cache, and what their attention is."""

    def __init__(self, lengths: list[int], page: int, heads_first: bool = False) -> None:
        torch.manual_seed(1)
        self.cache = Cache(lengths, page, heads_first)
        self.lengths = torch.tensor(lengths, dtype=torch.int32)
        self.qkv = torch.randn(len(lengths), (Q + 2 * KV) * HEAD_SIZE).bfloat16()
        self.out = torch.full((len(lengths), Q * HEAD_SIZE), float("nan"), dtype=torch.bfloat16)
        self.scales = torch.tensor(K_SCALE), torch.tensor(V_SCALE)
        self.wanted = [self._put(row, length) for row, length in enumerate(lengths)]

    def _put(self, row: int, length: int) -> torch.Tensor:
        # The last keys weigh most, so that none may be missing, and sums must be rescaled on the way.
        growing = torch.linspace(0.2, 2.0, length)[:, None, None]
        values = (torch.randn(length, KV, 2 * HEAD_SIZE) * 60 * growing).clamp(-440, 440).to(FP8)
        self.cache.put(self.cache.slots(row), values.view(torch.uint8))
        k, v = values.float().split(HEAD_SIZE, dim=-1)
        q = self.qkv[row, : Q * HEAD_SIZE].float().view(KV, GROUP, HEAD_SIZE)
        weights = torch.softmax(torch.einsum("hgd,nhd->hgn", q, k * K_SCALE) * SOFTMAX_SCALE, dim=-1)
        return torch.einsum("hgn,nhd->hgd", weights, v * V_SCALE).flatten()

    def read(self) -> list[torch.Tensor | int]:
        """The arguments of either kernel up to the lengths."""
        table = self.cache.table
        return [self.qkv, self.qkv.stride(0), self.cache.codes, table, table.stride(0), self.lengths]

    def check(self) -> None:
        for length, found, exact in zip(self.lengths, self.out.float(), self.wanted, strict=True):
            assert float((found - exact).norm() / exact.norm()) < 0.005, f"length {length}"


@pytest.mark.parametrize(
    ("page", "heads_first", "warps"), [(16, False, WARPS), (16, True, WARPS), (64, False, 4)]
)
def test_decode_attends_to_every_key_once(page: int, heads_first: bool, warps: int, folder: Path) -> None:
    step = Step([1, 15, 16, 17, 130, 16 * warps * 2 + 5], page, heads_first)
    kernels = step.cache.kernels(folder, warps)
    given = [*step.read(), *step.scales, SOFTMAX_SCALE, step.out, step.out.stride(0)]
    call(kernels.launch_decode, KV, len(step.lengths), *given)
    step.check()


@pytest.mark.parametrize(
    ("lengths", "chunks", "page"),
    [
        # Whole sequences in a chunk; all in one; a sequence in many chunks; chunks without a tile.
        ([1, 15, 16, 17, 130, 261], 4, 16),
        ([130, 40], 1, 64),
        ([333], 9, 16),
        ([5, 300, 20, 700], 13, 64),
        ([40, 3], 7, 16),
    ],
)
def test_even_chunks_come_to_the_same(lengths: list[int], chunks: int, page: int, folder: Path) -> None:
    step = Step(lengths, page)
    # A graph's rows without a sequence.
    seen = torch.cat((step.lengths[:1], torch.zeros(1, dtype=torch.int32), step.lengths[1:]))
    order = torch.tensor([0, 0, *range(1, len(lengths))])
    step.qkv, step.cache.table = step.qkv[order], step.cache.table[order]
    out = torch.full((len(seen), Q * HEAD_SIZE), float("nan"), dtype=torch.bfloat16)
    starts = torch.zeros(len(seen) + 1, dtype=torch.int32)
    starts_of(seen, starts)
    partial = torch.full((chunks * KV * 2 * GROUP * (HEAD_SIZE + 2),), float("nan"))
    done = torch.zeros(len(seen) * KV, dtype=torch.int32)
    step.lengths = seen
    given = [*step.read(), starts, len(seen), *step.scales, SOFTMAX_SCALE, out, out.stride(0), partial, done]
    for _ in range(2):
        # The second launch finds the counters as the first did.
        out.fill_(float("nan"))
        call(step.cache.kernels(folder).launch_decode_even, KV, chunks, *given)
        assert not done.any() and out[1].isnan().all()
        step.lengths, step.out = seen[seen > 0], out[seen > 0]
        step.check()


@pytest.mark.parametrize("heads_first", [False, True])
def test_rotation_and_what_the_cache_holds_then(heads_first: bool, folder: Path) -> None:
    torch.manual_seed(2)
    cache = Cache([21], 16, heads_first)
    slots = cache.slots(0)
    positions = torch.randint(0, 90, (21,))
    angles = torch.rand(90, HEAD_SIZE // 2) * 6.28
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=1).bfloat16()
    qkv = (torch.randn(21, (Q + 2 * KV) * HEAD_SIZE) * 3).bfloat16()
    # Beyond what FP8 holds: kept at its largest value.
    qkv[5, -1] = 1000.0
    x, y = qkv[:, : (Q + KV) * HEAD_SIZE].float().view(21, -1, 2, HEAD_SIZE // 2).unbind(2)
    c, s = cos_sin[positions].float().view(21, 2, 1, -1).unbind(1)
    turned = torch.stack((x * c - y * s, y * c + x * s), dim=2).flatten(1)
    given = qkv.clone()
    # A token without a slot is rotated and not kept.
    slots[7] = -1
    threads = (Q + KV) * 8 + KV * 16
    scales = torch.tensor(K_SCALE), torch.tensor(V_SCALE)
    call(
        cache.kernels(folder).launch_rope_cache, 21, threads, qkv, positions, cos_sin, cache.codes, slots,
        *scales, Q, KV,
    )  # fmt: skip
    rotated = qkv[:, : (Q + KV) * HEAD_SIZE].float()
    assert (
        float((rotated - turned).abs().max()) < 0.1
        and float((rotated - turned).norm() / turned.norm()) < 3e-3
    )
    v_at = (Q + KV) * HEAD_SIZE
    assert torch.equal(qkv[:, v_at:], given[:, v_at:])
    kept = slots >= 0
    for first, scale, part in ((Q * HEAD_SIZE, K_SCALE, 0), (v_at, V_SCALE, 1)):
        exact = qkv[:, first : first + KV * HEAD_SIZE].float() * (1 / torch.tensor(scale))
        codes = exact.clamp(-448, 448).to(FP8).view(21, KV, HEAD_SIZE)[kept]
        found = cache.got(slots[kept])[..., part * HEAD_SIZE : (part + 1) * HEAD_SIZE]
        assert torch.equal(found, codes.view(torch.uint8))
    untouched = torch.ones(cache.codes.shape[0] * cache.page, dtype=torch.bool)
    untouched[slots[kept]] = False
    assert (cache.got(untouched.nonzero()[:, 0]) == GARBAGE).all()
