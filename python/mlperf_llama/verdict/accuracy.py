"""Checks of the accuracy run: every index once, honest tokens, ROUGE over its targets."""

from __future__ import annotations

import re
from pathlib import Path

from .. import rules
from ..records.files import digest
from ..records.schema import Accuracy, Check
from . import responses
from .check import at_least, check, equal
from .evidence import ScenarioEvidence

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
            match = re.match(pattern, line)
            if match and key not in scores:
                scores[key] = float(match.group(1))
        match = re.match(r"^hash=([\w\d]+)$", line)
        sha256 = match.group(1) if match else sha256
    return scores, sha256


def checks(scenario: ScenarioEvidence) -> list[Check]:
    """What must hold in the accuracy run of one scenario."""
    scores, sha256 = read_text(scenario.accuracy.path / TEXT)
    return [
        *_log(scenario),
        *targets(f"{scenario.name}.accuracy", scenario.category, scores),
        _recorded(scenario, scores),
        _hash(scenario, sha256),
    ]


def _log(scenario: ScenarioEvidence) -> list[Check]:
    prefix, again = f"{scenario.name}.accuracy", "run MODE=accuracy again"
    full = scenario.full_count
    try:
        logged = responses.read(scenario.accuracy.path / LOG)
    except ValueError as error:
        return [Check(f"{prefix}.log", False, str(error), again)]
    indices = responses.index_faults(logged, full)
    lengths, endings = responses.length_faults(logged), responses.ending_faults(logged)
    return [
        check(f"{prefix}.log", bool(logged), f"{len(logged)} responses", again),
        check(f"{prefix}.indices", not indices, "; ".join(indices) or f"each of {full} once", again),
        check(
            f"{prefix}.token_limit",
            not lengths,
            responses.summary(lengths, f"{rules.MIN_NEW_TOKENS} to {rules.MAX_NEW_TOKENS} tokens each"),
            "limit the engine to 128 new tokens and log what it generated",
        ),
        check(
            f"{prefix}.endings",
            not endings,
            responses.summary(endings, "one EOS at most, last, and in every response under the limit"),
            f"stop at the model's EOS ids {rules.EOS_IDS} and keep them in the response",
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


def _recorded(scenario: ScenarioEvidence, scores: dict[str, float]) -> Check:
    recorded = scenario.recorded.accuracy or Accuracy()
    mismatches = [
        f"{key} {getattr(recorded, key)}, accuracy.txt {scores.get(key)}"
        for key in PATTERNS
        if getattr(recorded, key) is None or getattr(recorded, key) != scores.get(key)
    ]
    return check(
        f"{scenario.name}.accuracy.results",
        not mismatches,
        "; ".join(mismatches) or "results.json equals accuracy.txt",
        "run the score verb again",
    )


def _hash(scenario: ScenarioEvidence, sha256: str | None) -> Check:
    path = scenario.accuracy.path / LOG
    log_sha256 = digest(path) if path.is_file() else None
    return check(
        f"{scenario.name}.accuracy.hash",
        log_sha256 is not None and sha256 == log_sha256,
        f"accuracy.txt {sha256}, the log {log_sha256}",
        "run the score verb again: accuracy.txt must name the log it scored",
    )
