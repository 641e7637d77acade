"""Reading dataset files: both formats, and every fault by file, row and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlperf_llama import rules
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.sources.dataset import official
from mlperf_llama.sources.dataset.rows import Row, read, read_rows
from mlperf_llama.sources.fetch.publisher import Announcement

REAL = Path(__file__).parents[4] / "shared/data/cnn_dailymail_60.jsonl"
GOOD = {"instruction": "Say {input}", "input": "Text.", "tok_input": [1, 2], "output": "Short."}


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "data.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_array_and_lines_give_the_same_rows(tmp_path: Path) -> None:
    array = write(tmp_path, json.dumps([GOOD, {"input": "É\u2028b", "output": ""}]))
    assert read_rows(array) == [Row("Text.", "Short.", (1, 2)), Row("É\u2028b", "", None)]
    pairs = [("Text.", "Short."), ("É\u2028b", "")]
    lines = [json.dumps({"article": a, "highlights": h, "id": "x"}, ensure_ascii=False) for a, h in pairs]
    rows = read_rows(write(tmp_path, "\n".join(lines) + "\n\n"))
    assert rows == [Row(a, h, None) for a, h in pairs]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Say {input}", "Say {input}"), ({"llama": "Say {input}"}, "Say {input}"), (None, None), (["x"], None)],
)
def test_instruction_is_text_or_the_reference_scripts_table(
    tmp_path: Path, value: Any, expected: str | None
) -> None:
    assert read(write(tmp_path, json.dumps([{**GOOD, "instruction": value}]))).instruction == expected


FAILING = Path(__file__).parents[4] / "shared/failing-inputs/data"
PAIRS = [{"article": "One town.", "highlights": "Town."}, {"article": "Two towns.", "highlights": "Towns."}]
OWN = [{"input": row["article"], "output": row["highlights"]} for row in PAIRS]
ROWS = [Row("One town.", "Town.", None), Row("Two towns.", "Towns.", None)]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("data", [PAIRS, OWN], ids=["hub names", "MLCommons names"])
@pytest.mark.parametrize("gap", ["\n", "\n\n", "\r\n \t\r\n"], ids=["lines", "blank lines", "CRLF"])
def test_both_formats_take_both_names_marks_and_blank_lines(
    data: list[dict[str, str]], mark: str, gap: str, tmp_path: Path
) -> None:
    assert read_rows(write(tmp_path, mark + gap + json.dumps(data) + gap)) == ROWS
    assert read_rows(write(tmp_path, mark + gap + gap.join(map(json.dumps, data)) + gap)) == ROWS


def test_lines_with_mlcommons_names_keep_token_ids_and_instruction(tmp_path: Path) -> None:
    content = read(write(tmp_path, json.dumps(GOOD) + "\n" + json.dumps(GOOD)))
    assert content.instruction == "Say {input}" and content.rows[1].tok_input == (1, 2)


def test_texts_without_a_counted_word_are_counted(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "output": ""}, {**GOOD, "input": " \n", "output": "\u65b0\u95fb!"}]
    content = read(write(tmp_path, json.dumps(rows)))
    assert content.wordless() == [
        "1 article has no word that ROUGE counts (the first: row 3)",
        "2 summaries have no word that ROUGE counts (the first: row 2)",
    ]
    assert read(write(tmp_path, json.dumps([GOOD]))).wordless() == []


@pytest.mark.skipif(not FAILING.is_dir(), reason="the small inputs are not here")
@pytest.mark.parametrize("name", ["bom.jsonl", "array_with_hub_names.json", "empty_references.jsonl"])
def test_small_inputs_are_read(name: str) -> None:
    content = read(FAILING / name)
    assert len(content.rows) == 4
    assert bool(content.wordless()) is (name == "empty_references.jsonl")


def test_their_count_stands_in_the_reasons(tmp_path: Path) -> None:
    def announce() -> Announcement:
        raise MissingError("nobody was asked")

    path = write(tmp_path, json.dumps([GOOD, {**GOOD, "output": "..."}]))
    reason = official.examine(path, rules.EDGE, announce).reason
    assert "1 summary has no word that ROUGE counts (the first: row 2)" in reason


@pytest.mark.parametrize("summary", ["", " \n", "\u2026 \u65b0\u95fb"])
def test_a_dataset_without_any_counted_word_in_its_summaries_is_refused(summary: str, tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps([{**GOOD, "output": summary}] * 2))
    with pytest.raises(UsageError, match="found none with a word that ROUGE counts"):
        official.examine(path, rules.EDGE, lambda: pytest.fail("asked"))
    # Articles to calibrate with need none.
    assert len(read_rows(path)) == 2


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != field}


LINE = '{"article": "a", "highlights": "h"}\n'


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty file"]),
        (" \n ", ["empty file"]),
        ("[]", ["found no row"]),
        ("[{", ["broken JSON"]),
        (b"[\xff]", ["UTF-8", "at 1"]),
        (LINE + '{"article": \n', ["row 2", "broken JSON"]),
        (LINE + "\n" + '{"article": ', ["row 2", "broken JSON"]),
        (LINE + "7\n", ["row 2", "a JSON object", "found one of type int"]),
        (LINE + '{"article": "a"}', ["row 2", "field highlights", "no such field (only article)"]),
        ("{}", ["row 1", "field article", "only none"]),
        ('{"article": 3, "highlights": "h"}', ["row 1", "field article", "found type int"]),
        (r'{"article": "\ud800", "highlights": "h"}', ["row 1", "field article", "surrogate"]),
        (json.dumps([GOOD, without("output")]), ["row 2", "field output"]),
        (json.dumps([GOOD, GOOD, without("input")]), ["row 3", "field input"]),
        (json.dumps([{**GOOD, "input": None}]), ["row 1", "field input", "found type NoneType"]),
        (json.dumps([{**GOOD, "tok_input": "1 2"}]), ["row 1", "field tok_input"]),
        (json.dumps([{**GOOD, "tok_input": [1, "2"]}]), ["row 1", "field tok_input"]),
        (json.dumps([{**GOOD, "tok_input": [1, True]}]), ["row 1", "field tok_input"]),
        (json.dumps([{**GOOD, "tok_input": []}]), ["row 1", "field tok_input"]),
        ("[" * 100_000, ["broken JSON"]),
    ],
)
def test_a_fault_names_file_row_and_field(tmp_path: Path, content: str | bytes, parts: list[str]) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json: expected a dataset file, found none"):
        read_rows(tmp_path / "nothing.json")
    with pytest.raises(UsageError, match="directory"):
        read_rows(tmp_path)


@pytest.mark.skipif(not REAL.is_file(), reason=f"the real articles are not here: {REAL}")
def test_real_articles() -> None:
    rows = read_rows(REAL)
    assert len(rows) == 60
    assert all(row.article and row.reference and row.tok_input is None for row in rows)
