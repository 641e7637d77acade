"""Checks of the accuracy run: every index once, honest tokens, ROUGE over its targets."""

from __future__ import annotations

from collections.abc import Mapping

from .. import rules
from ..errors import PipelineError
from ..loadgen import accuracy_log, logs
from ..records.files import digest
from ..records.schema import Accuracy, Check, Target
from ..score import accuracy_text, gate
from . import responses, twice
from .check import at_least, check, equal
from .evidence import ScenarioEvidence

FIX_SCORE = "use the official weights and data, greedy decoding and less aggressive quantisation"
FIX_TEXT = "write accuracy.txt as MLCommons' evaluation script prints it"
FIX_NUMBER = "score the whole accuracy log"
# Weights, prompts, articles and greedy decoding are given, so the texts are too, but for rounding: results in
# 16 and in 8 bits lie within 1% of the reference.
CEILING = 1.05


def checks(scenario: ScenarioEvidence) -> list[Check]:
    """What must hold in the accuracy run of one scenario."""
    path = scenario.accuracy.path / accuracy_text.NAME
    scores, sha256 = accuracy_text.read(path)
    return [
        *_log(scenario),
        *targets(f"{scenario.name}.accuracy", scenario.category, scores, accuracy_text.faults(path)),
        _ceiling(scenario, scores),
        _recorded(scenario, scores),
        _hash(scenario, sha256),
    ]


def _log(scenario: ScenarioEvidence) -> list[Check]:
    prefix, again = f"{scenario.name}.accuracy", "run MODE=accuracy again"
    full = scenario.full_count
    try:
        logged = accuracy_log.read(scenario.accuracy.path / logs.ACCURACY)
    except PipelineError as error:
        return [Check(f"{prefix}.log", False, str(error), again)]
    indices = responses.index_faults(logged, full)
    lengths, endings = responses.length_faults(logged), responses.ending_faults(logged)
    recorded = scenario.recorded.accuracy
    return [
        twice.counted_log(prefix, logged, recorded.driven if recorded else None),
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


def targets(
    prefix: str, category: str, scores: Mapping[str, float | None], faults: Mapping[str, str]
) -> list[Check]:
    """The accuracy gate (score/gate.py), one check for each score. `faults`: accuracy.txt's, by score."""
    return [
        check(
            f"{prefix}.{key}",
            target.met and key not in faults,
            faults.get(key) or _detail(key, scores.get(key), target, category),
            FIX_TEXT if key in faults else FIX_NUMBER if key == "gen_num" else FIX_SCORE,
        )
        for key, target in gate.targets(scores, category, full=True).items()
    ]


def _detail(key: str, value: float | None, target: Target, category: str) -> str:
    """The score and its bounds, in words."""
    if key == "gen_num":
        return equal(key, value, target.low, "").detail
    if target.high is None:
        return at_least(key, value, target.low, "", "").detail
    share = "not recorded"
    if value is not None:
        share = f"{value:.10g} characters, {value / rules.REFERENCE_SCORES[category][key]:.2%}"
    return f"{share} of the reference, {target.low:.10g} to {target.high:.10g}"


def _ceiling(scenario: ScenarioEvidence, scores: Mapping[str, float | None]) -> Check:
    """ROUGE far above the reference's comes of other articles, summaries or texts than the benchmark's."""
    reference = rules.REFERENCE_SCORES[scenario.category]
    above = [
        f"{key} {value}, at most {reference[key] * CEILING:.4f}"
        for key in rules.ROUGE_KEYS
        if (value := scores.get(key)) is not None and not value <= reference[key] * CEILING
    ]
    return check(
        f"{scenario.name}.accuracy.ceiling",
        not above,
        "; ".join(above) or f"at most {CEILING - 1:.0%} above the reference's scores",
        "score the answers of the official model to the official articles against their own summaries",
    )


def _recorded(scenario: ScenarioEvidence, scores: dict[str, float]) -> Check:
    recorded = scenario.recorded.accuracy or Accuracy()
    mismatches = [
        f"{key} {getattr(recorded, key)}, accuracy.txt {scores.get(key)}"
        for key in gate.KEYS
        if getattr(recorded, key) is None or getattr(recorded, key) != scores.get(key)
    ]
    return check(
        f"{scenario.name}.accuracy.results",
        not mismatches,
        "; ".join(mismatches) or "results.json equals accuracy.txt",
        "run the score verb again",
    )


def _hash(scenario: ScenarioEvidence, sha256: str | None) -> Check:
    path = scenario.accuracy.path / logs.ACCURACY
    log_sha256 = digest(path) if path.is_file() else None
    return check(
        f"{scenario.name}.accuracy.hash",
        log_sha256 is not None and sha256 == log_sha256,
        f"accuracy.txt {sha256}, the log {log_sha256}",
        "run the score verb again: accuracy.txt must name the log it scored",
    )
