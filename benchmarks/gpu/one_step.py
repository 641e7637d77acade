"""One step of the benchmark for kernels alone: random rows, a paged FP8 cache; timing and printing."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from llama_shape import lengths
from vllm.vllm_flash_attn import flash_attn_varlen_func

from mlperf_llama.engine.hopper.kernels import HEAD_SIZE, Kernels

Q, KV, PAGE = 32, 8, 16
WIDTH = (Q + 2 * KV) * HEAD_SIZE
SCALE = HEAD_SIZE**-0.5
FP8 = torch.float8_e4m3fn
Calls = Sequence[Callable[[], Any]]


def sustained(calls: Calls, seconds: float) -> float:
    """Seconds that one round of `calls` takes while they are repeated for `seconds`, in a graph of ten."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph, rounds = torch.cuda.CUDAGraph(), 10
    with torch.cuda.graph(graph):
        for call in [*calls] * rounds:
            call()
    graph.replay()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    started, replays = time.perf_counter(), 0
    begin.record()
    while time.perf_counter() - started < seconds:
        graph.replay()
        replays += 1
        if replays % 5 == 0:
            torch.cuda.synchronize()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / rounds / replays


def timed(call: Callable[[], Any]) -> float:
    """Microseconds of a call, as `sustained`: one by one, the CPU's launch would be in it (20 to 25 us)."""
    return 1e6 * sustained([call], 0.1)


def say(kind: str, name: str, **fields: Any) -> None:
    print(kind, name, json.dumps(fields), flush=True)


class Batch:
    """Answers (one token, a cached past) before prompts (no past), in one paged FP8 cache."""

    def __init__(
        self,
        answers: int,
        prompts: list[int],
        page: int = PAGE,
        longest_first: bool = False,
    ) -> None:
        past = sorted(lengths(answers, seed=3), reverse=True) if longest_first else lengths(answers, seed=3)
        self.lengths = [int(n) + 1 + i % 127 for i, n in enumerate(past)] + prompts
        self.answers, self.rows = answers, len(self.lengths)
        query = [1] * answers + prompts
        pages = [-(-n // page) for n in self.lengths]
        table = torch.zeros(self.rows, max(pages), dtype=torch.int32)
        order = torch.randperm(sum(pages), dtype=torch.int32)
        for row, (first, count) in enumerate(zip(itertools.accumulate([0, *pages]), pages, strict=False)):
            table[row, :count] = order[first : first + count]
        self.positions = torch.cat(
            [torch.arange(n - q, n) for n, q in zip(self.lengths, query, strict=True)]
        ).cuda()
        rows = torch.repeat_interleave(torch.arange(self.rows), torch.tensor(query))
        at = self.positions.cpu()
        self.slots = (table[rows, at // page].long() * page + at % page).cuda()
        self.table, self.tokens = table.cuda(), len(at)
        self.seq_lens = torch.tensor(self.lengths, dtype=torch.int32, device="cuda")
        self.starts = torch.tensor([0, *itertools.accumulate(query)], dtype=torch.int32, device="cuda")
        self.longest_query, self.longest = max(query), max(self.lengths)
        # The layout of vLLM: [pages, tokens, heads, 256] in memory, heads before tokens in name.
        codes = torch.randn(sum(pages), page, KV, 2 * HEAD_SIZE, device="cuda") * 60
        self.cache = codes.clamp(-440, 440).to(FP8).view(torch.uint8).transpose(1, 2)
        self.qkv = torch.randn(self.tokens, WIDTH, device="cuda").bfloat16()
        self.out = torch.full((self.tokens, Q * HEAD_SIZE), float("nan"), dtype=torch.bfloat16, device="cuda")
        self.scale = torch.tensor(0.02, device="cuda")

    def keys_values(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 K and V of a row: [length, heads, 128]."""
        length, page = self.lengths[row], self.cache.shape[2]
        stored = (
            self.cache[self.table[row, : -(-length // page)].long()].transpose(1, 2).flatten(0, 1)[:length]
        )
        keys, values = (stored.view(FP8).float() * self.scale).split(HEAD_SIZE, dim=-1)
        return keys, values

    def decode(self, kernels: Kernels) -> None:
        """Attention of the answers by our kernel, into `out`."""
        kernels.decode(
            self.qkv,
            self.cache,
            self.table,
            self.seq_lens,
            self.scale,
            self.scale,
            SCALE,
            self.out,
            self.answers,
        )

    def rope_cache(self, kernels: Kernels, cos_sin: torch.Tensor) -> None:
        """Rotation of q and k, and k and v into the cache, by our kernel."""
        inputs = (self.positions, cos_sin, self.cache, self.slots, self.scale, self.scale)
        kernels.rope_cache(self.qkv, *inputs, self.tokens)

    def flash(
        self, query: torch.Tensor, out: torch.Tensor, first: int = 0, last: int | None = None, **more: Any
    ) -> None:
        """vLLM's one call over rows first..last, from the cache."""
        last = self.rows if last is None else last
        keys, values = self.cache.view(FP8).transpose(1, 2).split(HEAD_SIZE, dim=-1)
        scales = self.scale.expand(last - first, KV)
        flash_attn_varlen_func(
            query.unflatten(1, (-1, HEAD_SIZE)),
            keys,
            values,
            out=out.unflatten(1, (-1, HEAD_SIZE)),
            cu_seqlens_q=self.starts[first : last + 1] - self.starts[first],
            seqused_k=self.seq_lens[first:last],
            max_seqlen_q=self.longest_query if last > self.answers else 1,
            max_seqlen_k=self.longest,
            block_table=self.table[first:last],
            softmax_scale=SCALE,
            causal=True,
            q_descale=scales,
            k_descale=scales,
            v_descale=scales,
            fa_version=3,
            **more,
        )


def rotary_table(positions: int = 4096) -> torch.Tensor:
    """Cosines and sines of random angles: [positions, 128] bf16."""
    angles = torch.rand(positions, HEAD_SIZE // 2, device="cuda") * 6.28
    return torch.cat((angles.cos(), angles.sin()), dim=1).bfloat16()


def error(computed: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((computed.float() - wanted).norm() / wanted.norm())


def attention(batch: Batch) -> torch.Tensor:
    """Of the answers, in float32: [answers, q heads * 128]."""
    outputs = []
    for row in range(batch.answers):
        k, v = batch.keys_values(row)
        q = batch.qkv[row, : Q * HEAD_SIZE].float().view(KV, Q // KV, HEAD_SIZE)
        weights = torch.softmax(torch.einsum("hgd,nhd->hgn", q, k) * SCALE, dim=-1)
        outputs.append(torch.einsum("hgn,nhd->hgd", weights, v).flatten())
    return torch.stack(outputs)
