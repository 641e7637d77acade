"""One response per sample out of the accuracy log, and token ids turned into text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import score_support as support
from score_support import entry, write_log

from mlperf_llama.errors import BrokeError, UsageError
from mlperf_llama.score.responses import decode, read_responses

TEXTS = [
    "The council agreed , she said . It wasn't close ; they 're done ?",
    "She said 'no ' twice !\nIt 's over and I 'm done . They 've won , n't they",
    "Café naïve 東京 \u201cquoted\u201d 🙂 end .",
]


def test_responses_keep_the_logs_order(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [entry(2, [5, 6]), entry(0, [1]), entry(1, [2**31 - 1])])
    responses = read_responses(log, 3)
    assert list(responses.items()) == [(2, (5, 6)), (0, (1,)), (1, (2**31 - 1,))]


def test_a_repeated_response_is_dropped(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.json", [entry(1, [5]), entry(0, [1]), entry(1, [5])])
    assert list(read_responses(log, 2)) == [1, 0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [entry(0, [1]), entry(3, [1])],
            "expected responses for all 4 samples, found 2; the first missing is sample 1",
        ),
        ([], "expected responses for all 4 samples, found 0; the first missing is sample 0"),
        ([entry(0, [1]), entry(4, [1])], "expected sample indexes from 0 to 3, found 4 in entry 2"),
        ([entry(-1, [1])], "expected sample indexes from 0 to 3, found -1 in entry 1"),
        ([entry(0, [1]), entry(0, [2])], "expected one response for sample 0, found another in entry 2"),
        ([{"qsl_idx": 0}], "entry 1 lacks them"),
    ],
)
def test_samples_that_are_not_answered_once(tmp_path: Path, entries: list[Any], message: str) -> None:
    log = write_log(tmp_path / "log.json", entries)
    with pytest.raises(BrokeError) as caught:
        read_responses(log, 4)
    assert message in str(caught.value)
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)


def tidied(text: str) -> str:
    """What transformers 4.46.2 does to decoded text, from its documentation of the option."""
    for before, after in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
        (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        text = text.replace(before, after)
    return text


@pytest.mark.slow
@pytest.mark.parametrize(("clean_up", "expected"), [(True, tidied), (False, str)])
def test_text_is_tidied_as_the_tokenizer_says(
    tmp_path: Path, clean_up: bool, expected: Callable[[str], str]
) -> None:
    """transformers 5 ignores the option for BPE tokenizers; the official script's version does not."""
    tokenizer = support.make_tokenizer(tmp_path, TEXTS, clean_up)
    ids = [tuple(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert decode(ids, tmp_path) == [expected(text) for text in TEXTS]


@pytest.mark.slow
def test_special_tokens_are_left_out_and_cut_characters_kept(tmp_path: Path) -> None:
    tokenizer = support.make_tokenizer(tmp_path, TEXTS, False)
    ids = [*tokenizer("done 🦊")["input_ids"], tokenizer.eos_token_id]
    cut = ids[:-2]
    texts = decode([tuple(tokens) for tokens in (ids, cut, [tokenizer.eos_token_id], [])], tmp_path)
    assert texts == ["done 🦊", "done \ufffd", "", ""]


@pytest.mark.slow
def test_no_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the model's tokenizer"):
        decode([(1,)], tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected the model's tokenizer"):
        decode([(1,)], tmp_path)
