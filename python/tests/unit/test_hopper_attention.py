"""What a step's metadata tells decode_even.cu. The attention itself needs a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import attention


def builder(**additional: Any) -> Any:
    made = object.__new__(attention.Builder)
    scheduler = SimpleNamespace(max_num_seqs=6)
    made.vllm_config = SimpleNamespace(additional_config=additional, scheduler_config=scheduler)
    return made


def test_tiles_start_behind_each_other_in_one_place_for_every_step() -> None:
    made = builder(**{attention.EVEN: True})
    first = made._tiles(torch.tensor([5, 900, 0, 32], dtype=torch.int32))
    assert first.dtype == torch.int32 and len(first) == 7
    assert first[:5].tolist() == [0, 1, 58, 58, 60]
    # A graph has kept the address.
    second = made._tiles(torch.tensor([17, 16], dtype=torch.int32))
    assert second.data_ptr() == first.data_ptr() and second[:3].tolist() == [0, 2, 3]
    assert made._tiles(torch.zeros(0, dtype=torch.int32))[0] == 0


def test_without_the_setting_nothing_is_computed() -> None:
    assert builder()._tiles(torch.tensor([5, 900], dtype=torch.int32)) is None
