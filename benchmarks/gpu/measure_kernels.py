"""Kernels alone: are they right, and how fast beside vLLM's own? `python measure_kernels.py SPEC OUT`

Prints CHECK lines (relative error against float32) and KERNEL lines (microseconds).
The batch is one step of the benchmark: 480 sequences, or as many beside eight whole prompts.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import torch
from llama_shape import lengths
from measure_gemm import LINEAR, operands
from one_step import FP8, KV, PAGE, SCALE, Batch, Q, attention, error, rotary_table, say, sustained, timed
from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

from mlperf_llama.engine.hopper import gemm
from mlperf_llama.engine.hopper.kernels import HEAD_SIZE, Kernels


def check_decode(batch: Batch, kernels: Kernels) -> None:
    batch.decode(kernels)
    say("CHECK", "decode", error=error(batch.out[: batch.answers], attention(batch)))


def check_rope(batch: Batch, kernels: Kernels) -> None:
    cos_sin = rotary_table()
    qk = batch.qkv[:, : (Q + KV) * HEAD_SIZE].float().view(batch.tokens, -1, 2, HEAD_SIZE // 2)
    c, s = cos_sin[batch.positions].float().view(batch.tokens, 2, 1, -1).unbind(1)
    x, y = qk.unbind(2)
    rotated = torch.stack((x * c - y * s, y * c + x * s), dim=2).flatten(1)
    v = batch.qkv[:, (Q + KV) * HEAD_SIZE :].float().clone()
    batch.rope_cache(kernels, cos_sin)
    page = batch.cache.shape[2]
    stored = batch.cache.view(FP8)[batch.slots // page, :, batch.slots % page].float() * batch.scale
    k_stored, v_stored = stored.view(batch.tokens, KV, 2, HEAD_SIZE).unbind(2)
    say(
        "CHECK",
        "rope_cache",
        qk=error(batch.qkv[:, : (Q + KV) * HEAD_SIZE], rotated),
        k=error(k_stored.flatten(1), rotated[:, Q * HEAD_SIZE :]),
        v=error(v_stored.flatten(1), v),
    )
    us = timed(partial(batch.rope_cache, kernels, cos_sin))
    say("KERNEL", f"rope_cache {batch.tokens} tokens", us=us)


def measure_decode(batch: Batch) -> None:
    read = 2 * KV * HEAD_SIZE * sum(batch.lengths[: batch.answers])
    q8 = (batch.qkv[:, : Q * HEAD_SIZE].float() / 0.02).clamp(-440, 440).to(FP8)
    say("KERNEL", "bytes", mb=round(read / 1e6))
    for blocks in (3, 4, 5):
        us = timed(partial(batch.decode, Kernels(batch.cache, Q, KV, blocks)))
        say("KERNEL", f"decode ours, {blocks} blocks", us=round(us, 1), tb_s=round(read / us / 1e6, 2))
    plan = get_scheduler_metadata(
        batch_size=batch.rows, max_seqlen_q=1, max_seqlen_k=2668, num_heads_q=Q, num_heads_kv=KV,
        headdim=HEAD_SIZE, cache_seqlens=batch.seq_lens, qkv_dtype=FP8, cu_seqlens_q=batch.starts,
        page_size=PAGE, causal=True, num_splits=32,
    )  # fmt: skip
    for name, more in (
        ("planned, 32 splits", {"scheduler_metadata": plan, "num_splits": 32}),
        ("free", {}),
        ("1 split", {"num_splits": 1}),
    ):
        us = timed(partial(batch.flash, q8, batch.out, **more))
        say("KERNEL", f"decode FlashAttention, {name}", us=round(us, 1), tb_s=round(read / us / 1e6, 2))


def measure_mixed(batch: Batch, kernels: Kernels) -> None:
    n, starts = batch.answers, batch.starts[batch.answers :] - batch.answers
    q8 = (batch.qkv[:, : Q * HEAD_SIZE].float() / 0.02).clamp(-440, 440).to(FP8)
    q, k, v = (
        x.unflatten(1, (-1, HEAD_SIZE))
        for x in batch.qkv[n:].split([Q * HEAD_SIZE, KV * HEAD_SIZE, KV * HEAD_SIZE], 1)
    )

    def prompts() -> None:
        flash_attn_varlen_func(
            q, k, v, out=batch.out[n:].unflatten(1, (-1, HEAD_SIZE)), cu_seqlens_q=starts,
            cu_seqlens_k=starts, max_seqlen_q=batch.longest_query, max_seqlen_k=batch.longest_query,
            softmax_scale=SCALE, causal=True, fa_version=3,
        )  # fmt: skip

    answers = partial(batch.decode, kernels)
    wanted = (
        torch.nn.functional.scaled_dot_product_attention(
            *(x[: batch.lengths[n]].float().transpose(0, 1)[None] for x in (q, k, v)),
            is_causal=True,
            enable_gqa=True,
        )[0]
        .transpose(0, 1)
        .flatten(1)
    )
    prompts()
    say("CHECK", "prompts", error=error(batch.out[n : n + batch.lengths[n]], wanted))
    say("KERNEL", "mixed FlashAttention, one call", us=timed(lambda: batch.flash(q8, batch.out)))
    say("KERNEL", "mixed, answers ours", us=timed(answers))
    say("KERNEL", "mixed, answers FlashAttention", us=timed(lambda: batch.flash(q8[:n], batch.out[:n], 0, n)))
    say("KERNEL", "mixed, prompts from the cache", us=timed(lambda: batch.flash(q8[n:], batch.out[n:], n)))
    say("KERNEL", "mixed, prompts bf16", us=timed(prompts))
    main, first, second = torch.cuda.current_stream(), torch.cuda.Stream(priority=-1), torch.cuda.Stream()

    def side_by_side(prompts_first: bool, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(main)
        one, other = (prompts, answers) if prompts_first else (answers, prompts)
        with torch.cuda.stream(stream):
            one()
        other()
        main.wait_stream(stream)

    name = f"mixed, {n} answers and {batch.tokens - n} prompt tokens"
    say("KERNEL", f"{name}, prompts", us=timed(prompts))
    say("KERNEL", f"{name}, answers", us=timed(answers))
    say("KERNEL", f"{name}, one after the other", us=1e6 * sustained([answers, prompts], 0.1))
    for prompts_first in (True, False):
        for kind, stream in (("high", first), ("equal", second)):
            us = timed(partial(side_by_side, prompts_first, stream))
            say(
                "KERNEL", f"{name}, {'prompts' if prompts_first else 'answers'} first, {kind} priority", us=us
            )


def measure_variants() -> None:
    """The decode kernel by warps, blocks a multiprocessor and tiles in flight: alone, and beside a GEMM.

    Beside the GEMM of gate and up the card sits at its power limit, and what one kernel spares the other
    takes: `us` is both, and `us` less the GEMM's own time can be less than alone.
    """
    gemm.install()
    one = torch.full((1,), 1 / 240, device="cuda")
    gemm_call = partial(gemm._run, *operands(8301, *LINEAR["gate_up"]), one, one)
    for longest_first, count in ((False, 160), (True, 160), (False, 512), (True, 512), (False, 800)):
        batch = Batch(count, [], longest_first=longest_first)
        read = 2 * KV * HEAD_SIZE * sum(batch.lengths)
        name = f"decode {count} sequences, {'longest first' if longest_first else 'any order'}"
        for variant in ((8, 2, 2), (8, 2, 3), (4, 4, 2), (4, 4, 3)):
            warps, blocks, stages = variant
            call = partial(batch.decode, Kernels(batch.cache, Q, KV, blocks, warps, stages))
            us = timed(call)
            say("KERNEL", f"{name}, {variant}", us=round(us, 1), tb_s=round(read / us / 1e6, 2))
            if not longest_first:
                both = 1e6 * sustained([gemm_call, call, call], 0.4)
                say("KERNEL", f"{name}, {variant}, twice beside a GEMM", us=round(both, 1))
    say("KERNEL", "the GEMM", us=round(1e6 * sustained([gemm_call], 0.4), 1))


def main() -> None:
    torch.manual_seed(0)
    only = json.loads(sys.argv[1]).get("only")
    if only == "mixed":
        for count, several in ((508, 4), (500, 9), (762, 6)):
            batch = Batch(count, [int(n) for n in lengths(several, seed=5)])
            measure_mixed(batch, Kernels(batch.cache, Q, KV))
        return
    if only == "decode":
        small = Batch(37, [130])
        for warps in (2, 4, 8):
            check_decode(small, Kernels(small.cache, Q, KV, 2, warps))
        measure_variants()
        return
    prompts = [int(n) for n in lengths(8, seed=5)]
    small = Batch(37, [130, 17, 900])
    kernels = Kernels(small.cache, Q, KV)
    check_rope(small, kernels)
    check_decode(small, kernels)
    wide = Batch(37, [130], page=64)
    check_decode(wide, Kernels(wide.cache, Q, KV))
    decode = Batch(480, [])
    check_decode(decode, Kernels(decode.cache, Q, KV))
    measure_decode(decode)
    mixed = Batch(500, prompts)
    check_rope(mixed, kernels)
    measure_mixed(mixed, kernels)
    x = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    say("KERNEL", "copy", tb_s=round(2 * 2**30 / timed(lambda: y.copy_(x)) / 1e6, 2))


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    main()
