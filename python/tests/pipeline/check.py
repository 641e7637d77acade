"""Runs one category of test_pipeline.sh: python check.py NAME.

Exit codes: 0 passed, 1 failed, 3 this machine lacks what it needs. The last line says why.
"""

from __future__ import annotations

import sys

import contract
import machine
import runs
from harness import Missing

CHECKS = (
    *(machine.settings, machine.disk_and_memory, machine.network_reach, machine.container_engine),
    *(machine.gpu, runs.dataset_chain, runs.exit_codes, contract.results_contract),
)


def main(name: str) -> int:
    check = next(c for c in CHECKS if c.__name__ == name)
    try:
        print(check())
    except Missing as reason:
        print(reason)
        return 3
    except AssertionError as complaint:
        print(complaint)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
