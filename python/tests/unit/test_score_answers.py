"""Reading and checking the accuracy log, and turning token ids into text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score_support as support
from score_support import entry, write_log

from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.score.responses import decode, read_answers

TEXTS = [
    "The council agreed , she said . It wasn't close ; they 're done ?",
    "She said 'no ' twice !\nIt 's over and I 'm done . They 've won , n't they",
    "Café naïve 東京 \u201cquoted\u201d 🙂 end .",
]


def test_answers_keep_the_logs_order(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [entry(2, [5, 6]), entry(0, [1]), entry(1, [2**31 - 1])])
    answers = read_answers(log, 3)
    assert [(index, tokens.tolist()) for index, tokens in answers.items()] == [
        (2, [5, 6]), (0, [1]), (1, [2**31 - 1]),
    ]  # fmt: skip
    assert all(tokens.dtype == np.int32 for tokens in answers.values())


def test_a_repeated_answer_is_dropped(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [entry(1, [5]), entry(0, [1]), entry(1, [5])])
    assert list(read_answers(log, 2)) == [1, 0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [entry(0, [1]), entry(3, [1])],
            "expected answers for all 4 samples, found 2; the first missing is sample 1",
        ),
        ([entry(0, [1]), entry(4, [1])], "expected sample indexes from 0 to 3, found 4 in entry 2"),
        ([entry(-1, [1])], "expected sample indexes from 0 to 3, found -1 in entry 1"),
        ([entry(0, [1]), entry(0, [2])], "expected one answer for sample 0, found another in entry 2"),
        ([{"qsl_idx": i, "data": "0100000002"} for i in range(4)], "sample 0 has 5 bytes"),
        ([{"qsl_idx": i, "data": "xyz"} for i in range(4)], "expected hexadecimal data"),
        ([entry(i, [-3]) for i in range(4)], "sample 0 has -3"),
        ([{"qsl_idx": 0}], "entry 1 lacks them"),
        ([{"qsl_idx": "0", "data": ""}], "entry 1 lacks them"),
        ([{"qsl_idx": True, "data": ""}], "entry 1 lacks them"),
        ([7], "entry 1 lacks them"),
        ([], "expected a list of answers, found none"),
    ],
)  # fmt: skip
def test_a_damaged_log_is_one_clear_line(tmp_path: Path, entries: list[Any], message: str) -> None:
    log = write_log(tmp_path / "log.json", entries)
    with pytest.raises(BrokeError) as caught:
        read_answers(log, 4)
    assert message in str(caught.value)
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file"),
        ('[\n{ "qsl_idx" : 0, "data" : "01', "bytes that end early or are damaged"),
        ('{"qsl_idx": 0}', "expected a list of answers"),
        ("null", "expected a list of answers"),
    ],
)
def test_a_log_that_is_no_list(tmp_path: Path, content: str, message: str) -> None:
    log = tmp_path / "log.json"
    log.write_text(content)
    with pytest.raises(BrokeError, match=message):
        read_answers(log, 1)


def test_a_log_of_broken_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    log.write_bytes(b'[{"qsl_idx": 0, "data": "\xff\xfe"}]')
    with pytest.raises(BrokeError, match="damaged"):
        read_answers(log, 1)


def test_no_log_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="found none"):
        read_answers(tmp_path / "log.json", 1)


def tidied(text: str) -> str:
    """What transformers 4.46.2 does to decoded text, from its documentation of the option."""
    for before, after in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
        (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize(("clean_up", "expected"), [(True, tidied), (False, str)])
def test_text_is_tidied_as_the_tokenizer_says(
    tmp_path: Path, clean_up: bool, expected: Callable[[str], str]
) -> None:
    """transformers 5 ignores the option for BPE tokenizers; the official script's version does not."""
    tokenizer = support.make_tokenizer(tmp_path, TEXTS, clean_up)
    ids = [np.array(tokenizer(text)["input_ids"], np.int32) for text in TEXTS]
    assert decode(ids, tmp_path) == [expected(text) for text in TEXTS]


def test_special_tokens_are_left_out_and_cut_characters_kept(tmp_path: Path) -> None:
    tokenizer = support.make_tokenizer(tmp_path, TEXTS, False)
    ids = [*tokenizer("done 🦊")["input_ids"], tokenizer.eos_token_id]
    cut = ids[:-2]
    texts = decode([np.array(one, np.int32) for one in (ids, cut, [tokenizer.eos_token_id], [])], tmp_path)
    assert texts == ["done 🦊", "done \ufffd", "", ""]


def test_no_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the model's tokenizer"):
        decode([np.array([1], np.int32)], tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected the model's tokenizer"):
        decode([np.array([1], np.int32)], tmp_path)
