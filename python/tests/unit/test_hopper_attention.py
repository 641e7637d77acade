"""In which order the sequences of a step begin. The attention itself needs a GPU."""

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


def test_the_longest_first_in_one_place_for_every_step() -> None:
    made = builder(**{attention.LONGEST_FIRST: True})
    first = made._order(torch.tensor([5, 900, 0, 30], dtype=torch.int32))
    assert first.dtype == torch.int64 and first[:4].tolist() == [1, 3, 0, 2]
    # A graph has kept the address.
    second = made._order(torch.tensor([7, 3, 9, 1, 2, 8], dtype=torch.int32))
    assert second.data_ptr() == first.data_ptr() and second.tolist() == [2, 5, 0, 1, 4, 3]
    made._order(torch.zeros(0, dtype=torch.int32))


def test_without_the_setting_there_is_no_order() -> None:
    assert builder()._order(torch.tensor([5, 900], dtype=torch.int32)) is None
