"""A layer's attention step by step, with its kernels on a CPU.

FlashAttention, which the prompts take, is torch's here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_on_cpu
import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import attention, fused

pytestmark = pytest.mark.slow

SIZE, Q, KV, PAGE, INPUTS = 128, 8, 2, 16, 256
FP8 = torch.float8_e4m3fn
SCALE, Q_SCALE, SOFTMAX = 0.02, 0.03, SIZE**-0.5


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention in float32; `q` [tokens, heads, 128] are the last of the keys."""
    mask = torch.ones(len(q), len(k)).tril(len(k) - len(q)).bool()
    groups = q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(groups, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.float(), k) * SOFTMAX
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v)


def quantised(x: torch.Tensor, scale: float | torch.Tensor = SCALE) -> torch.Tensor:
    return (x.float() / scale).clamp(-448, 448).to(FP8)


def flash_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **given: Any) -> None:
    """For prompts that attend to their own keys, or with a block table to the 8-bit cache."""
    assert given["causal"] and given["softmax_scale"] == SOFTMAX
    for row, (begin, end) in enumerate(pairwise(given["cu_seqlens_q"].tolist())):
        part = slice(begin, end)
        assert end - begin <= given["max_seqlen_q"]
        if "block_table" not in given:
            assert torch.equal(given["cu_seqlens_q"], given["cu_seqlens_k"])
            given["out"][part] = exact(q[part], k[part], v[part])
            continue
        pages, length = given["block_table"][row], given["seqused_k"][row]
        assert length <= given["max_seqlen_k"] and {q.dtype, k.dtype, v.dtype} == {FP8}
        scales = [given[f"{name}_descale"][row][:, None] for name in "qkv"]
        keys, values = (x[pages].flatten(0, 1)[:length].float() for x in (k, v))
        groups = q.shape[1] // k.shape[2]
        queries = q[part].float() * scales[0].repeat_interleave(groups, 0)
        given["out"][part] = exact(queries, keys * scales[1], values * scales[2])


class Model:
    """One layer's cache, and in float32 what it should hold."""

    def __init__(self, sequences: int, scale: float = SCALE) -> None:
        self.scale = scale
        codes = torch.full((sequences * 4, PAGE, KV, 2 * SIZE), 0x7F, dtype=torch.uint8)
        self.cache = codes.transpose(1, 2)
        self.table = torch.randperm(sequences * 4, dtype=torch.int32).view(sequences, 4)
        self.keys = [torch.zeros(0, KV, SIZE) for _ in range(sequences)]
        self.values = [torch.zeros(0, KV, SIZE) for _ in range(sequences)]
        self.w = (torch.randn((Q + 2 * KV) * SIZE, INPUTS) * 60).clamp(-448, 448).to(FP8)
        self.scales = torch.tensor([0.01]), torch.tensor([1 / (0.01 * 30 * 60 * INPUTS**0.5)])
        angles = torch.rand(4 * PAGE, SIZE // 2) * 6.28
        self.cos_sin = torch.cat((angles.cos(), angles.sin()), dim=1).bfloat16()
        self.layer = SimpleNamespace(
            _q_scale=torch.tensor(Q_SCALE), _k_scale=torch.tensor(scale), _v_scale=torch.tensor(scale),
            impl=SimpleNamespace(scale=SOFTMAX),
        )  # fmt: skip

    def _rotated(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        first, second = x.float().chunk(2, dim=-1)
        c, s = self.cos_sin[positions].float()[:, None].chunk(2, dim=-1)
        return torch.cat((first * c - second * s, second * c + first * s), dim=-1)

    def step(
        self, layer: Any, decodes: Sequence[int], prompts: dict[int, int], one_kernel: bool = False
    ) -> None:
        """One token for each of `decodes`, whole prompts or chunks of so many tokens for the others, all
        checked."""
        rows = [*decodes, *prompts]
        tokens = [1] * len(decodes) + list(prompts.values())
        past = [len(self.keys[row]) for row in rows]
        positions = torch.cat([torch.arange(p, p + n) for p, n in zip(past, tokens, strict=True)])
        x, (x_scale, w_scale) = (torch.randn(len(positions), INPUTS) * 30).to(FP8), self.scales
        qkv = x.float() @ self.w.float().t() * (x_scale * w_scale)
        # Two kernels round between them, and after rotating.
        qkv, between = (qkv, torch.float32) if one_kernel else (qkv.bfloat16(), torch.bfloat16)
        q, k, v = qkv.clone().unflatten(1, (-1, SIZE)).split([Q, KV, KV], dim=1)
        q, k = (self._rotated(part, positions).to(between) for part in (q, k))
        # One prompt that has a past, and all take the cache.
        whole = not any(len(self.keys[row]) for row in prompts)
        lengths, wanted = [], []
        for row, part_q, part_k, part_v in zip(rows, *(x.split(tokens) for x in (q, k, v)), strict=True):
            for held, new in ((self.keys, part_k), (self.values, part_v)):
                held[row] = torch.cat((held[row], quantised(new, self.scale).float() * self.scale))
            lengths.append(len(self.keys[row]))
            own = (part_k, part_v) if row in prompts and whole else (self.keys[row], self.values[row])
            if row in prompts and not whole:
                part_q = quantised(part_q, Q_SCALE).float() * Q_SCALE
            wanted.append(exact(part_q, *own).flatten(1))
        of = torch.repeat_interleave(torch.tensor(rows), torch.tensor(tokens))
        seq_lens = torch.tensor(lengths, dtype=torch.int32)
        starts = torch.tensor([0, *accumulate(prompts.values())], dtype=torch.int32)
        metadata = SimpleNamespace(
            mlperf_decodes=len(decodes), mlperf_prefill_starts=starts, mlperf_prefill_uncached=whole,
            max_query_len=max(tokens), max_seq_len=max(lengths), num_actual_tokens=len(positions),
            slot_mapping=self.table[of, positions // PAGE].long() * PAGE + positions % PAGE,
            block_table=self.table[rows], seq_lens=seq_lens,
        )  # fmt: skip
        out = torch.full((len(positions), Q * SIZE), float("nan"), dtype=torch.bfloat16)
        if one_kernel:
            ordered = self.w.view(torch.uint8)[fused.head_row_order(len(self.w))].view(FP8)
            operands, buffer = (x, ordered, x_scale, w_scale), qkv.bfloat16()
            layer.run_fused(operands, buffer, positions, out, (metadata, self.layer, self.cache))
        else:
            layer.run(qkv, positions, out, metadata, self.layer, self.cache)
        error = (out.float() - torch.cat(wanted)).norm() / torch.cat(wanted).norm()
        assert float(error) < 0.01, f"{len(decodes)} decodes and {len(prompts)} prompts: {float(error)}"


def with_flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM for CPUs has none."""
    monkeypatch.setattr(attention.flash_attn, "flash_attn_varlen_func", flash_attention, raising=False)
    ops = SimpleNamespace(scaled_fp8_quant=lambda x, scale: (quantised(x, scale), scale))
    monkeypatch.setattr(attention, "custom_ops", ops)


@pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no C++ compiler (g++) here")
@pytest.mark.parametrize("one_kernel", [False, True])
def test_prompts_then_both_then_answers_alone(
    one_kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    with_flash_attention(monkeypatch)
    model = Model(sequences=4)
    monkeypatch.setattr(fused, "_multiprocessors", lambda device: 4)
    with cuda_on_cpu.card(tmp_path), cuda_on_cpu.card(tmp_path, fused):
        layer = attention.Attention(Q, KV, model.cos_sin)
        model.step(layer, [], {2: 17, 0: 40}, one_kernel)
        model.step(layer, [2, 0], {3: 5, 1: 30}, one_kernel)
        for _ in range(2):
            model.step(layer, [0, 1, 2, 3], {}, one_kernel)


@pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no C++ compiler (g++) here")
def test_a_prompt_in_chunks_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    with_flash_attention(monkeypatch)
    model = Model(sequences=4)
    with cuda_on_cpu.card(tmp_path):
        layer = attention.Attention(Q, KV, model.cos_sin)
        model.step(layer, [], {2: 17, 0: 20})
        model.step(layer, [2], {0: 13, 3: 9})
        model.step(layer, [2, 3], {1: 5, 0: 21})


@pytest.mark.skipif(cuda_on_cpu.COMPILER is None, reason="no C++ compiler (g++) here")
def test_each_layer_s_cache_has_scales_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    with_flash_attention(monkeypatch)
    models = [Model(sequences=2), Model(sequences=2, scale=2 * SCALE)]
    with cuda_on_cpu.card(tmp_path):
        layers = [attention.Attention(Q, KV, model.cos_sin) for model in models]
        for decodes, prompts in ([], {0: 17, 1: 20}), ([0, 1], {}), ([0], {1: 5}):
            for model, layer in zip(models, layers, strict=True):
                model.step(layer, decodes, prompts)
