"""The one reader of LoadGen's accuracy log: what it takes and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from score_support import entry, write_log

from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.loadgen import accuracy_log
from mlperf_llama.loadgen.accuracy_log import Response


def test_records_in_the_logs_order(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [entry(2, [5, 6]), entry(0, []), entry(2, [2**31 - 1])])
    assert accuracy_log.read(log) == [Response(2, (5, 6)), Response(0, ()), Response(2, (2**31 - 1,))]


def test_what_test06_adds(tmp_path: Path) -> None:
    record = entry(3, [7, 8]) | {"token_data": "07000000", "token_count": 2}
    log = write_log(tmp_path / "log.json", [record])
    assert accuracy_log.read(log) == [Response(3, (7, 8), first_tokens=(7,), token_count=2)]


def test_an_empty_list_is_a_log_without_records(tmp_path: Path) -> None:
    assert accuracy_log.read(write_log(tmp_path / "log.json", [])) == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (entry(1, []) | {"data": "0100000002"}, "sample 1 has 5 bytes"),
        (entry(1, []) | {"data": "xyz"}, "expected hexadecimal data, sample 1"),
        (entry(1, []) | {"token_data": "xyz"}, "expected hexadecimal data, sample 1"),
        (entry(1, [4, -3]), "sample 1 has -3"),
        ({"qsl_idx": 0}, "entry 2 lacks them"),
        ({"qsl_idx": "0", "data": ""}, "entry 2 lacks them"),
        ({"qsl_idx": 1.0, "data": ""}, "entry 2 lacks them"),
        ({"qsl_idx": True, "data": ""}, "entry 2 lacks them"),
        (entry(1, [5]) | {"token_count": "1"}, "entry 2 has others"),
        (entry(1, [5]) | {"token_count": True}, "entry 2 has others"),
        (entry(1, [5]) | {"token_data": 5}, "entry 2 has others"),
        (7, "entry 2 lacks them"),
    ],
)
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, record: Any, message: str) -> None:
    log = write_log(tmp_path / "log.json", [entry(0, [1]), record])
    with pytest.raises(BrokeError) as caught:
        accuracy_log.read(log)
    assert message in str(caught.value)
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b'[\n{ "qsl_idx" : 0, "data" : "01', "bytes that end early or are damaged"),
        (b'[{"qsl_idx": 0, "data": "\xff\xfe"}]', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"qsl_idx": 0}', "expected a list of responses"),
        (b"null", "expected a list of responses"),
    ],
)
def test_a_log_that_is_no_list(tmp_path: Path, content: bytes, message: str) -> None:
    log = tmp_path / "log.json"
    log.write_bytes(content)
    with pytest.raises(BrokeError, match=message):
        accuracy_log.read(log)


def test_no_log_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="found none"):
        accuracy_log.read(tmp_path / "log.json")
    with pytest.raises(MissingError, match="could not read it"):
        accuracy_log.read(tmp_path)


def test_extra_keys_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    log.write_text(json.dumps([entry(0, [1]) | {"another": {}}]))
    assert accuracy_log.read(log) == [Response(0, (1,))]
