"""What the tests of the verdict share."""

from __future__ import annotations

from mlperf_llama import verdict
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Verdict


def failed(run: RunFolder) -> list[str]:
    """The checks that a run does not pass; what was written is what was judged."""
    judged = verdict.judge(run)
    names = [c.name for c in judged.checks if c.passed is not True]
    assert judged.submittable is (not names)
    assert all(c.fix for c in judged.checks if not c.passed)
    assert run.read(Verdict) == judged
    return names
