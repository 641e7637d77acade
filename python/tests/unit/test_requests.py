"""requests.parquet, and the arrays that it is written from."""

from __future__ import annotations

import asyncio
import itertools
import math
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from loadgen_support import LIMITS, Idle, Prompts, plan_of

from mlperf_llama.engine import Limits, Request, Sink, fake
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.loadgen import link
from mlperf_llama.loadgen.relay import Relay
from mlperf_llama.loadgen.timeline import Timeline
from mlperf_llama.records import requests

LENGTHS = [10, 20, 30]


def filled(expected: int = 2) -> Timeline:
    """Three requests, of which the last has no answer yet."""
    timeline = Timeline(expected)
    timeline.arrived([77, 78], [2, 0], 100.0)
    timeline.arrived([79], [1], 101.5)
    timeline.first_token_s[0], timeline.end_s[0], timeline.answer_tokens[0] = 100.25, 102.0, 128
    timeline.end_s[1], timeline.answer_tokens[1] = 103.0, 5
    return timeline


def test_requests_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / requests.FILE
    requests.write(path, filled().requests(LENGTHS))
    back = requests.read(path)
    assert len(back) == 3
    assert back.sample.tolist() == [2, 0, 1]
    assert back.arrival_s.tolist() == [0.0, 0.0, 1.5]
    np.testing.assert_equal(back.first_token_s, [0.25, math.nan, math.nan])
    np.testing.assert_equal(back.end_s, [2.0, 3.0, math.nan])
    assert back.prompt_tokens.tolist() == [30, 10, 20]
    assert back.answer_tokens.tolist() == [128, 5, 0]
    kinds = {name: getattr(back, name).dtype for name in requests.COLUMNS}
    assert {n for n, kind in kinds.items() if kind == np.int32} == set(requests.INTEGERS)
    assert {n for n, kind in kinds.items() if kind == np.float64} == kinds.keys() - set(requests.INTEGERS)


def test_more_requests_than_were_expected_find_room() -> None:
    timeline = Timeline(0)
    for number in range(50):
        timeline.arrived([number + 1] * 3, [number] * 3, float(number))
    record = timeline.requests([7] * 50)
    assert record.sample.tolist() == [n for n in range(50) for _ in range(3)]
    assert record.arrival_s[-1] == 49.0
    assert np.isnan(record.end_s).all()
    assert timeline.response_ids[149] == 50


def test_no_request_is_a_record_too(tmp_path: Path) -> None:
    requests.write(tmp_path / "r.parquet", Timeline(10).requests(LENGTHS))
    assert len(requests.read(tmp_path / "r.parquet")) == 0


def test_a_request_costs_less_than_64_bytes() -> None:
    count = 100_000
    tracemalloc.start()
    timeline = Timeline(count)
    timeline.arrived(range(1, count + 1), range(count), 0.0)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / count < 64


def test_another_file_in_its_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / requests.FILE
    with pytest.raises(MissingError, match="found no file"):
        requests.read(path)
    path.write_bytes(b"PAR1 is no Parquet")
    with pytest.raises(UsageError, match=f"{requests.FILE}: expected Parquet with the columns sample, "):
        requests.read(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    path = tmp_path / requests.FILE
    write_table(pyarrow.table({"sample": pyarrow.array([1])}), path)
    with pytest.raises(UsageError, match="expected Parquet with the columns"):
        requests.read(path)


class Holding(Idle):
    """An engine that keeps what it is given."""

    def __init__(self) -> None:
        self.held: list[Sequence[Request]] = []

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        self.held.append(requests)


def test_a_sample_costs_less_than_200_bytes_from_its_query_to_its_answer() -> None:
    """Also while it waits in the engine: its prompt is the dataset's own."""
    count = 50_000

    async def body() -> float:
        plan = plan_of(samples=8, duration_s=count / 1.1 / 2000)
        engine, samples, answer = Holding(), Prompts(8), [1] * 8
        queries = link.queries(range(1, count + 1), [n % 8 for n in range(count)])
        tracemalloc.start()
        relay = Relay(engine, samples, LIMITS, plan, "as-is")
        relay.data_received(queries)
        used = tracemalloc.get_traced_memory()[0]
        for request in itertools.chain.from_iterable(engine.held):
            relay.completed(request.id, answer)
        relay.close()
        record = relay.requests()
        tracemalloc.stop()
        assert len(record) == relay.samples == count and not np.isnan(record.end_s).any()
        return used / count

    assert asyncio.run(body()) < 200


def test_the_fake_engine_keeps_an_answer_per_prompt_and_not_per_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake, "MOST_KEPT", 5)
    engine, prompts = fake.FakeEngine({}), [list(range(n, n + 60)) for n in range(7)]
    first = [engine._answer(prompt, LIMITS) for prompt in prompts]
    assert engine._answer(prompts[6], LIMITS) is first[6]
    assert engine._answer(prompts[0], LIMITS) == first[0]
    assert len(engine._echoed) <= 5
    shorter = Limits(4, 1, ())
    assert len(engine._answer(prompts[6], shorter)) == 4
