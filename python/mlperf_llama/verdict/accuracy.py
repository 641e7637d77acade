"""Checks of the accuracy run: every index once, honest tokens, ROUGE over its targets."""

from __future__ import annotations

import re
from pathlib import Path

from .. import rules
from ..records import seal
from . import responses
from .check import Check, at_least, check, equal
from .evidence import ScenarioEvidence, record

LOG, TEXT = "mlperf_log_accuracy.json", "accuracy.txt"
# The official checker's own patterns (constants.py, ACC_PATTERN), which it matches at a line's
# beginning: a score it cannot read is a score that is not there.
PATTERNS = {
    **{key: rf".*'{key}':\s+'?([\d.]+)'?" for key in rules.ROUGE_KEYS},
    "gen_len": r".*'gen_len':\s([\d.]+)",
    "gen_num": r".*'gen_num':\s([\d.]+)",
}
FIX_SCORE = "use the official weights and data, greedy decoding and less aggressive quantisation"


def read_text(path: Path) -> tuple[dict[str, float], str | None]:
    """The scores and the hash in accuracy.txt; whatever is not there is left out."""
    scores: dict[str, float] = {}
    sha256 = None
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        for key, pattern in PATTERNS.items():
            found = re.match(pattern, line)
            if found and key not in scores:
                scores[key] = float(found.group(1))
        found = re.match(r"^hash=([\w\d]+)$", line)
        sha256 = found.group(1) if found else sha256
    return scores, sha256


def checks(one: ScenarioEvidence) -> list[Check]:
    """What must hold in the accuracy run of one scenario."""
    scores, sha256 = read_text(one.accuracy.path / TEXT)
    return [
        *_log(one),
        *targets(f"{one.name}.accuracy", one.category, scores),
        _recorded(one, scores),
        _hash(one, sha256),
    ]


def _log(one: ScenarioEvidence) -> list[Check]:
    prefix, again = f"{one.name}.accuracy", "run MODE=accuracy again"
    try:
        found = responses.read(one.accuracy.path / LOG)
    except ValueError as error:
        return [Check(f"{prefix}.log", False, str(error), again)]
    indices = responses.index_faults(found, one.full_count)
    lengths, endings = responses.length_faults(found), responses.ending_faults(found)
    total = f"{len(found)} answers"
    return [
        check(f"{prefix}.log", bool(found), total, again),
        check(
            f"{prefix}.indices", not indices, "; ".join(indices) or f"each of {one.full_count} once", again
        ),
        check(
            f"{prefix}.token_limit",
            not lengths,
            responses.summary(lengths, f"{rules.MIN_NEW_TOKENS} to {rules.MAX_NEW_TOKENS} tokens each"),
            "limit the engine to 128 new tokens and log what it generated",
        ),
        check(
            f"{prefix}.endings",
            not endings,
            responses.summary(endings, "one EOS at most, last, and in every answer under the limit"),
            f"stop at the model's EOS ids {rules.EOS_IDS} and keep them in the answer",
        ),
    ]


def targets(prefix: str, category: str, scores: dict[str, float]) -> list[Check]:
    """ROUGE at 99% of the reference, gen_len in its range, every sample scored."""
    reference = rules.REFERENCE_SCORES[category]
    result = [
        at_least(f"{prefix}.{key}", scores.get(key), reference[key] * rules.ACCURACY_TIER, "", FIX_SCORE)
        for key in rules.ROUGE_KEYS
    ]
    low, high = (reference["gen_len"] * part for part in rules.GEN_LEN_RANGE)
    length = scores.get("gen_len")
    detail = (
        "not recorded" if length is None else f"{length:.10g} characters, {length / reference['gen_len']:.2%}"
    )
    result.append(
        check(
            f"{prefix}.gen_len",
            length is not None and low <= length <= high,
            f"{detail} of the reference, {low:.10g} to {high:.10g}",
            FIX_SCORE,
        )
    )
    number = scores.get("gen_num")
    fix = "score the whole accuracy log"
    result.append(equal(f"{prefix}.gen_num", number, reference["gen_num"], fix))
    return result


def _recorded(one: ScenarioEvidence, scores: dict[str, float]) -> Check:
    recorded = record(one.recorded.get("accuracy"))
    wrong = [
        f"{k} {recorded.get(k)}, accuracy.txt {scores.get(k)}"
        for k in PATTERNS
        if recorded.get(k) is None or recorded.get(k) != scores.get(k)
    ]
    return check(
        f"{one.name}.accuracy.results",
        not wrong,
        "; ".join(wrong) or "results.json equals accuracy.txt",
        "run the score verb again",
    )


def _hash(one: ScenarioEvidence, sha256: str | None) -> Check:
    path = one.accuracy.path / LOG
    found = seal.file_sha256(path) if path.is_file() else None
    return check(
        f"{one.name}.accuracy.hash",
        found is not None and sha256 == found,
        f"accuracy.txt {sha256}, the log {found}",
        "run the score verb again: accuracy.txt must name the log it scored",
    )
