"""The worker extension with faults: what the self-check finds while one is in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from mlperf_llama.engine.hopper import extension, model, self_check


def _last_key_dropped(builder: Any, common: Any) -> object:
    tokens = common.query_start_loc.diff()
    lengths = common.seq_lens - (common.seq_lens > tokens).int()
    return builder.build(0, dataclasses.replace(common, seq_lens=lengths))


def _chunks_taken_for_whole(builder: Any, common: Any) -> object:
    tokens = common.query_start_loc.diff()
    lengths = torch.where(tokens > 1, tokens, common.seq_lens)
    return builder.build(0, dataclasses.replace(common, seq_lens=lengths))


def _wrong_page(builder: Any, common: Any) -> object:
    table = common.block_table_tensor.roll(1, dims=0).contiguous()
    return builder.build(0, dataclasses.replace(common, block_table_tensor=table))


def _first_layer_last(self: Any, states: torch.Tensor) -> torch.Tensor:
    layers = self.layers
    self.layers = layers[:1]
    try:
        return LAST_LAYER(self, states)
    finally:
        self.layers = layers


def _not_rotated(self: Any, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
    return BEFORE_OUTPUT(self, torch.zeros_like(positions), hidden_states)


LAST_LAYER, BEFORE_OUTPUT = model.Model.last_layer, model.Attention.before_output
# What is replaced, and by what.
FAULTS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "last key dropped": (self_check, "_extended", _last_key_dropped),
    "chunks taken for whole": (self_check, "_extended", _chunks_taken_for_whole),
    "wrong page": (self_check, "_extended", _wrong_page),
    "first layer last": (model.Model, "last_layer", _first_layer_last),
    "not rotated": (model.Attention, "before_output", _not_rotated),
}


class Extension(extension.Extension):
    def faulty_self_check(self: Any, name: str) -> dict[str, float] | None:
        owner, attribute, replacement = FAULTS[name]
        before = getattr(owner, attribute)
        setattr(owner, attribute, replacement)
        try:
            found: dict[str, float] | None = self.mlperf_self_check()
        finally:
            setattr(owner, attribute, before)
        return found
