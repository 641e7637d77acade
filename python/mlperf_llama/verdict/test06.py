"""TEST06, the consistency test of LLM outputs, stricter than the official script.

Official: mlcommons/inference compliance/TEST06. Its EOS check counts only the id 2
and accepts an empty log; ours knows Llama 3.1's ids and wants 100 records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import rules
from ..errors import PipelineError
from ..loadgen import accuracy_log, logs
from ..loadgen.accuracy_log import Response
from ..loadgen.plan import AUDIT_QUERIES, AUDIT_SETTINGS
from ..records.files import write_text
from ..records.run_folder import RunFolder
from ..records.schema import Check
from . import responses
from .check import check, equal
from .evidence import ScenarioEvidence

# What LoadGen logs when it read audit.config.
AUDIT = {
    "effective_accuracy_log_rng_seed": AUDIT_SETTINGS["accuracy_log_rng_seed"],
    "effective_accuracy_log_sampling_target": AUDIT_SETTINGS["accuracy_log_sampling_target"],
    "effective_sample_concatenate_permutation": False,
    "effective_min_duration_ms": AUDIT_SETTINGS["min_duration"],
}
RECORDS = AUDIT_QUERIES
TEXT = "verify_accuracy.txt"


@dataclass(frozen=True)
class Verification:
    """The outcome: each part's faults in words, empty where it passed."""

    scenario: str
    records: int
    problem: str
    first_token: tuple[str, ...]
    eos: tuple[str, ...]
    length: tuple[str, ...]

    @property
    def faulty(self) -> bool:
        """Some response, or the log itself, is wrong."""
        return bool(self.problem or self.first_token or self.eos or self.length)

    @property
    def passed(self) -> bool:
        return self.records == RECORDS and not self.faulty

    def text(self) -> str:
        """verify_accuracy.txt in the official form."""
        whole = self.records == RECORDS and not self.problem
        first = "Skipped" if self.scenario == rules.OFFLINE else str(whole and not self.first_token)
        return (
            f"First token check pass: {first}\n"
            f"EOS check pass: {whole and not self.eos}\n"
            f"Sample length check pass: {whole and not self.length}\n"
            f"TEST06 verification {'complete' if self.passed else 'failed'}\n"
        )


def verify(log: Path, scenario: str) -> Verification:
    """Check TEST06's accuracy log."""
    try:
        logged = accuracy_log.read(log)
    except PipelineError as error:
        return Verification(scenario, 0, str(error), (), (), ())
    wide = accuracy_log.logged_as_64_bit(logged)
    logged = [accuracy_log.halved(r) for r in logged] if wide else logged
    first = () if scenario == rules.OFFLINE else tuple(_first_token_faults(logged))
    length = (*_width_faults(logged, wide), *responses.length_faults(logged), *_count_faults(logged))
    return Verification(scenario, len(logged), "", first, tuple(responses.ending_faults(logged)), length)


def _first_token_faults(logged: list[Response]) -> list[str]:
    return [
        f"sample {r.index}: first token {list(r.first_tokens or ())}, output begins {list(r.tokens[:1])}"
        for r in logged
        if not r.first_tokens or r.first_tokens != r.tokens[: len(r.first_tokens)]
    ]


def _width_faults(logged: list[Response], wide: bool) -> list[str]:
    """MLCommons' reference logs 32-bit integers; its script reads others only where it is told to."""
    return [f"sample {r.index}: {len(r.tokens)} tokens logged as 64-bit integers" for r in logged if wide]


def _count_faults(logged: list[Response]) -> list[str]:
    return [
        f"sample {r.index}: {len(r.tokens)} tokens, LoadGen was given {r.token_count}"
        for r in logged
        if r.token_count != len(r.tokens)
    ]


def verify_run(run: RunFolder, scenario: str) -> Verification:
    """Verify a scenario's log and write verify_accuracy.txt beside it."""
    folder = run.log_dir(scenario, "compliance")
    verification = verify(folder / logs.ACCURACY, scenario)
    write_text(folder / TEXT, verification.text())
    return verification


def checks(scenario: ScenarioEvidence) -> list[Check]:
    """TEST06's checks of one scenario."""
    log = scenario.compliance
    verification = verify(log.path / logs.ACCURACY, scenario.name)
    prefix, again = f"{scenario.name}.test06", "run MODE=compliance again"
    mismatches = [f"{k} {log.get(k)}, expected {v}" for k, v in AUDIT.items() if log.get(k) != v]
    parts = (
        ("first_token", verification.first_token, "every first token is its output's first"),
        ("eos", verification.eos, "one EOS at most and only at the end"),
        ("length", verification.length, "every length as logged, none over 128"),
    )
    return [
        check(
            f"{prefix}.audit",
            not mismatches,
            "; ".join(mismatches) or "LoadGen's audit settings were used",
            again,
        ),
        equal(f"{prefix}.records", verification.records, RECORDS, verification.problem or again),
        *(check(f"{prefix}.{n}", not f, responses.summary(f, good), again) for n, f, good in parts),
        _file(scenario, verification),
    ]


def _file(scenario: ScenarioEvidence, verification: Verification) -> Check:
    """The outcome; a verify_accuracy.txt that is there must say the same."""
    path, text = scenario.compliance.path / TEXT, verification.text()
    agrees = not path.is_file() or path.read_text(encoding="utf-8", errors="replace") == text
    return check(
        f"{scenario.name}.test06.verdict",
        verification.passed and agrees,
        ("passed" if verification.passed else "failed") + ("" if agrees else f", {TEXT} says otherwise"),
        f"run MODE=compliance again; {TEXT} must say what the log says",
    )
