"""gate_up.cu and qkv.cu without a GPU, through fused.py, against torch in float32.

Index arithmetic, swizzles, barriers and what a cluster's blocks send each other are those of the card; speed
and what NVRTC makes of it are not: benchmarks/gpu/measure_fused.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import cuda_on_cpu
import pytest
import torch
from cuda_on_cpu import COMPILER

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import fused, kernels

pytestmark = pytest.mark.slow

FP8 = torch.float8_e4m3fn
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++) here")
# Fewer than there are tiles, so that each block takes several.
BLOCKS = 4
GUARD, SIZE = 0x5A, 128
LLAMA_ROWS, LLAMA_DEPTH, H100_BLOCKS = 28672, 4096, 132
SMALL_GROUPS = [tiles._replace(group=2) for tiles in fused.WAVE_COSTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fused")


@pytest.fixture(autouse=True)
def card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fused, "_multiprocessors", lambda device: BLOCKS)
    with cuda_on_cpu.card(folder, fused):
        yield


def fp8(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-448, 448).to(FP8)


class Layer:
    """Gate and up of `width` rows each; `spread`: the standard deviation of what they give."""

    def __init__(self, tokens: int, width: int, depth: int, spread: float = 2.0) -> None:
        torch.manual_seed(tokens)
        self.x, self.w = fp8(torch.randn(tokens, depth) * 30), fp8(torch.randn(2 * width, depth) * 60)
        self.ordered = self.w.view(torch.uint8)[fused.gate_up_row_order(2 * width)].view(FP8)
        scales = (0.01, spread / (0.01 * 30 * 60 * depth**0.5), 0.05 * spread)
        self.scales = tuple(torch.tensor([scale]) for scale in scales)
        # Behind the last token: not the kernel's. A pair of tiles is 256.
        self.codes = torch.full((tokens + 256, width), GUARD, dtype=torch.uint8)
        self.out = self.codes[:tokens].view(FP8)

    def exact(self) -> torch.Tensor:
        x_scale, w_scale, out_scale = self.scales
        gate, up = (self.x.float() @ self.w.float().t() * (x_scale * w_scale)).chunk(2, dim=1)
        return torch.nn.functional.silu(gate) * up / out_scale

    def check(self) -> None:
        exact = self.exact()
        assert (self.codes[len(self.x) :] == GUARD).all(), "written behind the last token"
        assert (steps(self.out) - steps(fp8(exact))).abs().max() <= 1
        # 0.027 of the whole, where there are enough values.
        held = exact.clamp(-448, 448)
        found, least = ((x.float() - held).norm() for x in (self.out, fp8(exact)))
        assert found < 1.01 * least

    def run(self, tiles: fused.TileConfig | None = None) -> None:
        fused.gate_up(self.x, self.ordered, *self.scales, self.out, tiles)


def steps(x: torch.Tensor) -> torch.Tensor:
    """Neighbouring values of E4M3 are one apart."""
    codes = x.view(torch.uint8).int()
    return torch.where(codes < 128, codes, 128 - codes)


@needs_compiler
@pytest.mark.parametrize(
    ("tokens", "width", "depth"), [(1, 256, 256), (100, 512, 384), (130, 256, 128), (300, 512, 640)]
)
@pytest.mark.parametrize("tiles", fused.WAVE_COSTS)
def test_it_is_the_activated_gemm(tiles: fused.TileConfig, tokens: int, width: int, depth: int) -> None:
    layer = Layer(tokens, width, depth)
    layer.run(tiles)
    layer.check()


@needs_compiler
@pytest.mark.parametrize("tiles", SMALL_GROUPS)
def test_more_tiles_of_tokens_than_a_group_has(tiles: fused.TileConfig) -> None:
    layer = Layer(650, 256, 128)
    layer.run(tiles)
    layer.check()


@needs_compiler
def test_far_from_zero_nothing_overflows() -> None:
    layer = Layer(40, 256, 256, spread=60.0)
    sizes = layer.exact().abs()
    assert sizes.max() > 448 and sizes.min() < 1e-30
    layer.run(next(iter(fused.WAVE_COSTS)))
    layer.check()


@needs_compiler
def test_the_operation_chooses_its_tiles_and_makes_its_result() -> None:
    layer = Layer(150, 256, 256)
    given = (layer.x, layer.ordered, *layer.scales)
    layer.out.copy_(fused._run(*given))
    layer.check()
    fake = fused._fake(*given)
    assert (fake.shape, fake.dtype) == (layer.out.shape, layer.out.dtype)


@pytest.mark.parametrize("width", [128, 512, LLAMA_ROWS // 2])
def test_rows_lie_where_the_kernel_looks_for_them(width: int) -> None:
    order = fused.gate_up_row_order(2 * width).tolist()
    assert sorted(order) == list(range(2 * width))
    for block, p, s, c, e in product(range(width // 128), range(16), range(2), range(4), range(2)):
        output = 128 * block + 64 * (p // 8) + 16 * c + 2 * (p % 8) + e
        assert order[256 * block + 8 * (2 * p + s) + 2 * c + e] == s * width + output


@pytest.mark.parametrize(
    ("tokens", "tiles"),
    [
        (512, fused.TileConfig(False, 128, 8)),
        (1029, fused.TileConfig(False, 256, 16)),
        (8301, fused.TileConfig(True, 256, 8)),
        (33000, fused.TileConfig(True, 256, 8)),
    ],
)
def test_the_tile_config_that_was_measured_fastest_is_taken(tokens: int, tiles: fused.TileConfig) -> None:
    assert fused.choose_tile_config(tokens, LLAMA_ROWS, H100_BLOCKS) == tiles


def waves(tokens: int, rows: int, multicast: bool) -> int:
    """Of all blocks: a tile for a block, or with `multicast` a pair of tiles for a pair of blocks."""
    cluster = 2 if multicast else 1
    tiles = -(-tokens // (128 * cluster)) * (LLAMA_ROWS // rows)
    return -(-tiles // (H100_BLOCKS // cluster))


@pytest.mark.parametrize("tokens", [1, 127, 129, 700, 1029, 2051, 4089, 6327, 8301])
def test_no_other_tile_config_would_be_faster(tokens: int) -> None:
    costs = {
        tiles: cost * waves(tokens, tiles.rows, tiles.multicast) for tiles, cost in fused.WAVE_COSTS.items()
    }
    assert costs[fused.choose_tile_config(tokens, LLAMA_ROWS, H100_BLOCKS)] == min(costs.values())


def test_which_weights_it_takes() -> None:
    assert fused.supported(LLAMA_ROWS, LLAMA_DEPTH)
    assert not fused.supported(LLAMA_ROWS + 128, LLAMA_DEPTH)
    assert not fused.supported(LLAMA_ROWS, LLAMA_DEPTH + 64)


class Heads:
    """q, k and v of some tokens, and a cache that holds other things already."""

    def __init__(
        self, tokens: int, q_heads: int, kv_heads: int, depth: int, heads_first: bool = False
    ) -> None:
        torch.manual_seed(tokens)
        rows, pages, page = (q_heads + 2 * kv_heads) * SIZE, 40, 16
        self.q_heads, self.kv_heads = q_heads, kv_heads
        self.x, self.w = fp8(torch.randn(tokens, depth) * 30), fp8(torch.randn(rows, depth) * 60)
        self.ordered = self.w.view(torch.uint8)[fused.head_row_order(rows)].view(FP8)
        self.scales = torch.tensor([0.01]), torch.tensor([1 / (0.01 * 30 * 60 * depth**0.5)])
        angles = torch.rand(500, SIZE // 2) * 6.28
        self.cos_sin = torch.cat((angles.cos(), angles.sin()), dim=1).bfloat16()
        self.positions, self.slots = torch.randint(0, 500, (tokens,)), torch.randperm(pages * page)[:tokens]
        # A token that is not to be kept.
        self.slots[tokens // 2] = -1
        cache = torch.full((pages, page, kv_heads, 2 * SIZE), GUARD, dtype=torch.uint8).transpose(1, 2)
        self.cache = cache.contiguous() if heads_first else cache
        self.cache_scales = torch.tensor(0.02), torch.tensor(0.03)
        self.room = torch.full((tokens + 256, rows), 7.0, dtype=torch.bfloat16)
        self.out = self.room[:tokens]

    def run(self, tiles: fused.TileConfig, tokens: int) -> None:
        inputs = (self.positions, self.cos_sin, self.slots)
        given = (self.x, self.ordered, *self.scales, *inputs, *self.cache_scales)
        fused.qkv(*given, self.out, self.cache, tokens, tiles)

    def check(self, tokens: int) -> None:
        """The first `tokens` are there, in the result and in the cache, and nothing else is."""
        x_scale, w_scale = self.scales
        exact = (self.x.float() @ self.w.float().t() * (x_scale * w_scale))[:tokens].unflatten(1, (-1, SIZE))
        rotated = exact[:, : self.q_heads + self.kv_heads]
        first, second = rotated.chunk(2, dim=-1)
        c, s = self.cos_sin[self.positions[:tokens]].float()[:, None].chunk(2, dim=-1)
        rotated.copy_(torch.cat((first * c - second * s, second * c + first * s), dim=-1))
        assert (self.room[tokens:] == 7.0).all(), "written behind the last token"
        torch.testing.assert_close(self.room[:tokens].float(), exact.flatten(1), rtol=2**-8, atol=1e-4)
        wanted = torch.full_like(self.cache, GUARD)
        k, v = exact[:, self.q_heads :].chunk(2, dim=1)
        k_scale, v_scale = self.cache_scales
        codes = torch.cat((fp8(k / k_scale), fp8(v / v_scale)), dim=-1).view(torch.uint8)
        for token, slot in enumerate(self.slots[:tokens].tolist()):
            if slot >= 0:
                wanted[slot // 16, :, slot % 16] = codes[token]
        assert (steps(self.cache.view(FP8)) - steps(wanted.view(FP8))).abs().max() <= 1
        untouched = wanted == GUARD
        assert (self.cache == wanted).float().mean() > 0.99 and untouched.any()


@needs_compiler
@pytest.mark.parametrize(("tokens", "q_heads", "kv_heads"), [(1, 2, 1), (130, 2, 1), (300, 8, 2)])
@pytest.mark.parametrize("tiles", fused.WAVE_COSTS)
def test_q_k_and_v_are_rotated_and_kept(
    tiles: fused.TileConfig, tokens: int, q_heads: int, kv_heads: int
) -> None:
    heads = Heads(tokens, q_heads, kv_heads, 256)
    heads.run(tiles, tokens)
    heads.check(tokens)


@needs_compiler
def test_rows_that_only_fill_a_graph_are_left_alone() -> None:
    heads = Heads(40, 2, 1, 128, heads_first=True)
    heads.run(fused.TileConfig(False, 128, 8), 33)
    heads.check(33)


@needs_compiler
def test_one_kernel_gives_what_two_give(folder: Path) -> None:
    heads = Heads(60, 8, 2, 256)
    heads.run(fused.TileConfig(False, 256, 16), 60)
    x_scale, w_scale = heads.scales
    multiplied = (heads.x.float() @ heads.w.float().t() * (x_scale * w_scale)).bfloat16()
    cache = torch.full_like(heads.cache, GUARD)
    with cuda_on_cpu.card(folder):
        two = kernels.Kernels(cache, 8, 2)
        inputs = (heads.positions, heads.cos_sin, cache, heads.slots, *heads.cache_scales)
        two.rope_cache(multiplied, *inputs, 60)
    # The GEMM's result is rounded once more there.
    assert float((multiplied.float() - heads.out.float()).norm() / multiplied.float().norm()) < 0.004
    one, other = (held.view(FP8).float() for held in (heads.cache, cache))
    assert float((one - other).norm() / other.norm()) < 0.02


def test_rows_of_heads_lie_where_the_kernel_looks_for_them() -> None:
    order = fused.head_row_order(3 * SIZE).tolist()
    for head, p, s, c, e in product(range(3), range(8), range(2), range(4), range(2)):
        dim = 32 * (p // 4) + 8 * c + 2 * (p % 4) + e + 64 * s
        assert order[SIZE * head + 8 * (2 * p + s) + 2 * c + e] == SIZE * head + dim


@needs_compiler
def test_whatever_the_number_of_tokens_nothing_is_left_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[fused.TileConfig] = []
    kernel = fused._kernel
    monkeypatch.setattr(
        fused,
        "_kernel",
        lambda name, tiles, layout: compiled.append(tiles) or kernel(name, tiles, layout),
    )
    for tokens in (1, 150, 300):
        layer = Layer(tokens, 256, 128)
        layer.run()
        layer.check()
        assert compiled == list(fused.WAVE_COSTS), "the first launch compiles them all"
