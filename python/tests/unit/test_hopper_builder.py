"""What a step's metadata says of its rows: how many decode, where prompts begin, whether all are whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import attention
from mlperf_llama.engine.hopper.compat import flash_attn

pytestmark = pytest.mark.slow

# vLLM pads a step's rows to the size of a graph.
PADDING = 3


@pytest.fixture
def fast_builds(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Which builds vLLM's own builder was asked for; it makes nothing itself."""
    asked: list[bool] = []

    def build(self: Any, common_prefix_len: int, common: Any, fast_build: bool = False) -> Any:
        asked.append(fast_build)
        return SimpleNamespace()

    monkeypatch.setattr(flash_attn.FlashAttentionMetadataBuilder, "build", build)
    return asked


def built(tokens: list[int], past: list[int], known: bool = True, served: bool = True) -> Any:
    """The metadata of rows with so many `tokens` in this step and before it. `known`: vLLM says how long
    sequences are; `served`: the extension serves every layer."""
    builder = object.__new__(attention.Builder)
    layers = {"a": SimpleNamespace(mlperf=object()), "b": SimpleNamespace(mlperf=object())}
    if not served:
        del layers["b"].mlperf
    builder.vllm_config = SimpleNamespace(compilation_config=SimpleNamespace(static_forward_context=layers))
    builder.layer_names = ["a", "b"]
    begins = torch.tensor([0, *torch.tensor(tokens).cumsum(0).tolist()], dtype=torch.int32)
    begins = torch.cat((begins, begins[-1:].expand(PADDING)))
    lengths = torch.tensor([t + p for t, p in zip(tokens, past, strict=True)] + [0] * PADDING)
    common = SimpleNamespace(
        num_reqs=len(tokens),
        max_query_len=max(tokens),
        query_start_loc=begins,
        query_start_loc_cpu=begins,
        seq_lens_cpu_upper_bound=lengths if known else None,
    )
    return attention.Builder.build(builder, 0, common)


@pytest.mark.parametrize(
    ("tokens", "past", "decodes", "starts", "whole"),
    [
        ([17, 40, 5], [0, 0, 0], 0, [0, 17, 57, 62], True),
        ([1, 1, 17, 40], [9, 700, 0, 0], 2, [0, 17, 57], True),
        # A prompt's later chunk reads the cache, whichever it is.
        ([17, 40], [64, 0], 0, [0, 17, 57], False),
        ([17, 40], [0, 64], 0, [0, 17, 57], False),
        ([1, 17], [9, 1], 1, [0, 17], False),
        ([1, 1, 40, 17, 30], [3, 3, 0, 512, 0], 2, [0, 40, 57, 87], False),
        # A last chunk of one token behind a prompt is no decode row: those come first.
        ([1, 17, 1], [9, 0, 512], 1, [0, 17, 18], False),
        # A decode row's past is no chunk.
        ([1, 17], [2000, 0], 1, [0, 17], True),
    ],
)
def test_rows_of_a_step(
    tokens: list[int], past: list[int], decodes: int, starts: list[int], whole: bool, fast_builds: list[bool]
) -> None:
    found = built(tokens, past)
    assert found.mlperf_decodes == decodes
    assert found.mlperf_prefill_starts.tolist() == starts
    assert found.mlperf_prefill_uncached is whole
    assert fast_builds == [True], "no plan for FlashAttention's decoding"


def test_decodes_alone_need_no_prompts(fast_builds: list[bool]) -> None:
    found = built([1, 1, 1], [5, 900, 64])
    assert vars(found) == {"mlperf_decodes": 3} and fast_builds == [True]


def test_unknown_lengths_count_as_chunks(fast_builds: list[bool]) -> None:
    assert built([17], [0], known=False).mlperf_prefill_uncached is False


def test_layers_that_are_not_all_served_take_vllm_s_own(fast_builds: list[bool]) -> None:
    assert vars(built([1, 17], [9, 0], served=False)) == {} and fast_builds == [False]
