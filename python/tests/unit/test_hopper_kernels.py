"""decode.cu and rope_cache.cu without a GPU, by way of kernels.py, against torch in float32.

Index arithmetic, fragments, masks and rounding are those of the card; speed, memory order and what NVRTC
makes of it are not: benchmarks/gpu/measure_kernels.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cuda_on_cpu
import pytest
import torch
from cuda_on_cpu import COMPILER

from mlperf_llama.engine.hopper.kernels import HEAD_SIZE, WARPS, Kernels

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++) here")]
FP8 = torch.float8_e4m3fn
Q, KV = 8, 2
GROUP = Q // KV
K_SCALE, V_SCALE, SOFTMAX_SCALE = 0.02, 0.03, HEAD_SIZE**-0.5
# Whatever lies behind the last token of a page: NaN.
GARBAGE = 0x7F


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(autouse=True)
def card(folder: Path) -> Iterator[None]:
    with cuda_on_cpu.card(folder):
        yield


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


class Step:
    """Sequences with a query each, all in a cache, and their attention. Length 0: a graph's empty row."""

    def __init__(self, lengths: list[int], page: int, heads_first: bool) -> None:
        torch.manual_seed(1)
        self.cache = Cache(lengths, page, heads_first)
        self.lengths = torch.tensor(lengths, dtype=torch.int32)
        self.qkv = torch.randn(len(lengths), (Q + 2 * KV) * HEAD_SIZE).bfloat16()
        self.wanted = [self._put(row, length) for row, length in enumerate(lengths)]
        self.out = torch.full((len(lengths), Q * HEAD_SIZE), float("nan"), dtype=torch.bfloat16)

    def _put(self, row: int, length: int) -> torch.Tensor:
        # The last keys weigh most, so that none may be missing, and sums must be rescaled on the way.
        growing = torch.linspace(0.2, 2.0, length)[:, None, None]
        values = (torch.randn(length, KV, 2 * HEAD_SIZE) * 60 * growing).clamp(-440, 440).to(FP8)
        self.cache.put(self.cache.slots(row), values.view(torch.uint8))
        k, v = values.float().split(HEAD_SIZE, dim=-1)
        q = self.qkv[row, : Q * HEAD_SIZE].float().view(KV, GROUP, HEAD_SIZE)
        weights = torch.softmax(torch.einsum("hgd,nhd->hgn", q, k * K_SCALE) * SOFTMAX_SCALE, dim=-1)
        return torch.einsum("hgn,nhd->hgd", weights, v * V_SCALE).flatten()

    def decode(self, warps: int) -> None:
        scales = torch.tensor(K_SCALE), torch.tensor(V_SCALE)
        read = self.qkv, self.cache.codes, self.cache.table, self.lengths
        made = Kernels(self.cache.codes, Q, KV, warps=warps)
        made.decode(*read, *scales, SOFTMAX_SCALE, self.out, len(self.lengths))

    def check(self) -> None:
        for length, found, exact in zip(self.lengths.tolist(), self.out.float(), self.wanted, strict=True):
            if length:
                assert float((found - exact).norm() / exact.norm()) < 0.005, f"length {length}"


# A warp looks its pages up 32 tiles at a time: one alone does so three times here.
@pytest.mark.parametrize(
    ("page", "heads_first", "warps", "longest"),
    [(16, False, WARPS, 261), (16, True, WARPS, 261), (64, False, 4, 133), (16, False, 1, 66 * 16 + 5)],
)
def test_decode_attends_to_every_key_once(page: int, heads_first: bool, warps: int, longest: int) -> None:
    step = Step([1, 15, 16, 17, 130, 0, longest], page, heads_first)
    step.decode(warps)
    step.check()
    assert not step.out[5].any()


@pytest.mark.parametrize("heads_first", [False, True])
def test_rotation_and_what_the_cache_holds_then(heads_first: bool) -> None:
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
    exact_qk = torch.stack((x * c - y * s, y * c + x * s), dim=2).flatten(1)
    given = qkv.clone()
    # A token without a slot is rotated and not kept.
    slots[7] = -1
    scales = torch.tensor(K_SCALE), torch.tensor(V_SCALE)
    made = Kernels(cache.codes, Q, KV)
    made.rope_cache(qkv, positions, cos_sin, cache.codes, slots, *scales, 21)
    rotated = qkv[:, : (Q + KV) * HEAD_SIZE].float()
    assert (
        float((rotated - exact_qk).abs().max()) < 0.1
        and float((rotated - exact_qk).norm() / exact_qk.norm()) < 3e-3
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
