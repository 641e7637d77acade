"""What accuracy_logprobs.py's answers say: `accuracy_table.py OUT MODEL CACHE` does it again.

Differences of log probabilities to bf16's, per token, by article: forced (the same tokens, read as a prompt),
first (the first token, where both chose the same) and later (the tokens behind it, as far as both answers are
the same). Errors are standard errors over articles.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlperf_llama import rules

FILE = "accuracy.json"
Found = dict[str, Any]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens until two answers part."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def spread(by_article: Sequence[Sequence[float]]) -> dict[str, float | int | None]:
    """Of differences by article: mean, mean size and their standard errors over articles that have any."""
    arrays = [np.asarray(values, dtype=float) for values in by_article if len(values)]
    if not arrays:
        return {"tokens": 0}
    signed, sizes = (np.array([f(values).mean() for values in arrays]) for f in (np.asarray, np.abs))
    return {
        "tokens": int(sum(map(len, arrays))),
        "articles": len(arrays),
        "mean": float(signed.mean()),
        "mean_error": error_of(signed),
        "size": float(sizes.mean()),
        "size_error": error_of(sizes),
    }


def error_of(values: Any) -> float | None:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def differences(run_: Found, base: Found) -> dict[str, Found]:
    forced, first, later = [], [], []
    keys = ("forced", "answers", "decoded")
    columns = [run[key] for key in keys for run in (run_, base)]
    for read, base_read, own, base_own, decoded, base_decoded in zip(*columns, strict=True):
        forced.append(np.subtract(read, base_read))
        same = common(own, base_own)
        both = np.subtract(decoded[:same], base_decoded[:same])
        first.append(both[:1])
        later.append(both[1:])
    return {"forced": spread(forced), "first": spread(first), "later": spread(later)}


def rouge_rows(texts: Sequence[str], references: Sequence[str]) -> Any:
    """F-measures in percent, a row per article."""
    from mlperf_llama.score import rouge

    stems = rouge.RememberedStems()
    pairs = zip(texts, references, strict=True)
    return 100 * np.array([rouge.score_pair(text, reference, stems).f_measures for text, reference in pairs])


def scores(rows: Any, base: Any) -> dict[str, Found]:
    """By ROUGE's names: mean and error, and the paired difference to bf16's and its error."""
    by_key = {}
    for number, key in enumerate(rules.ROUGE_KEYS):
        own, paired = rows[:, number], rows[:, number] - base[:, number]
        by_key[key] = {
            "mean": float(own.mean()),
            "error": error_of(own),
            "difference": float(paired.mean()),
            "difference_error": error_of(paired),
        }
    return by_key


def write(out: Path, model: Path, cache: Path, names: Sequence[str], failed: dict[str, str]) -> None:
    """accuracy.json of what is there so far."""
    files = {name: out / f"{name}.json" for name in names}
    done = {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}
    base = done.get(names[0])
    record: Found = {"articles": 0, "failed": failed, "precisions": {}}
    if base:
        record["articles"] = len(base["answers"])
        rows, reason = rouge_of(out, model, cache, done)
        record["rouge_missing"] = reason
        for name, one in done.items():
            record["precisions"][name] = {
                "engine": one["engine"],
                "differences": differences(one, base),
                "tokens": sum(map(len, one["answers"])),
                "same_first_tokens": sum(common(a, b) > 0 for a, b in answers_of(one, base)),
                "same_answers": sum(a == b for a, b in answers_of(one, base)),
                "rouge": scores(rows[name], rows[names[0]]) if rows else None,
            }
    (out / FILE).write_text(json.dumps(record, indent=2) + "\n")


def answers_of(one: Found, base: Found) -> list[tuple[list[int], list[int]]]:
    return list(zip(one["answers"], base["answers"], strict=True))


def rouge_of(out: Path, model: Path, cache: Path, done: dict[str, Found]) -> tuple[Found, str | None]:
    """ROUGE by precision and article, or why there is none; the answers are there to score elsewhere."""
    from mlperf_llama.errors import PipelineError

    try:
        from mlperf_llama.score import nltk_data, responses

        nltk_data.use(nltk_data.ensure(cache, os.environ))
        lines = (out / "articles.jsonl").read_text(encoding="utf-8").splitlines()
        references = [json.loads(line)["highlights"] for line in lines]
        return {
            name: rouge_rows(responses.decode(one["answers"], model), references)
            for name, one in done.items()
        }, None
    except (ImportError, PipelineError) as error:
        return {}, str(error)


def table(record: Found) -> str:
    """The figures in columns."""
    rows = [("precision", "forced", "(error)", "size", "(error)", "first", "later", "tokens", "same first",
             *(cell for key in rules.ROUGE_KEYS for cell in (key, "to bf16", "(error)")))]  # fmt: skip
    for name, one in record["precisions"].items():
        parts = one["differences"]
        cells = [
            *(parts["forced"].get(key) for key in ("mean", "mean_error", "size", "size_error")),
            *(parts[part].get("size") for part in ("first", "later")),
            one["tokens"],
            one["same_first_tokens"],
        ]
        for key in rules.ROUGE_KEYS:
            score = (one["rouge"] or {}).get(key, {})
            cells += [score.get(cell) for cell in ("mean", "difference", "difference_error")]
        rows.append((name, *(cell_of(cell) for cell in cells)))
    rows += [(name, reason) for name, reason in record["failed"].items()]
    widths = [max(len(row[n]) for row in rows if n < len(row) > 2) for n in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)) for row in rows)


def cell_of(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


if __name__ == "__main__":
    folder, weights, kept = map(Path, sys.argv[1:4])
    known = [path.stem for path in folder.glob("*.log") if path.with_suffix(".json").is_file()]
    known.sort(key=lambda name: name != "bf16")
    before = json.loads((folder / FILE).read_text())["failed"] if (folder / FILE).is_file() else {}
    write(folder, weights, kept, known, before)
    print(table(json.loads((folder / FILE).read_text())))
