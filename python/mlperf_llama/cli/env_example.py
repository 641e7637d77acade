"""The text of .env.example, out of the settings' table."""

from __future__ import annotations

import textwrap

from ..settings import DATA, ENGINE, RESULTS, RUN, SECRET, SHELL, TESTS, Group, Setting

WIDTH = 100
HEAD = """\
# Every setting: meaning, unit, and its line with the default. Copy this file to .env, take
# the # off the lines you change.
#
# Plain NAME=value lines: no quotes, no expansion. Flags (./entrypoint.sh run --samples 24) beat
# the environment (MLPERF_SAMPLES=24), the environment beats .env. With make leave the prefix
# out: make run SAMPLES=24. An unknown MLPERF_ name is an error.
# auto: the pipeline decides, by the benchmark's rules and by what this machine has.
#
# Written from python/mlperf_llama/settings.py: change a text there, then
# ./entrypoint.sh env-example >.env.example
"""
# As a reader needs them: what only tests set stands last.
GROUPS = (RUN, DATA, ENGINE, RESULTS, SHELL, SECRET, TESTS)


def _setting(setting: Setting) -> str:
    meaning = textwrap.fill(
        setting.explanation,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{meaning}\n#{setting.env_name}={setting.default}\n"


def _group(group: Group) -> str:
    return f"\n# --- {group.title}\n\n" + "".join(_setting(s) for s in group.settings)


def render() -> str:
    """Every setting with its meaning above its line; the whole file."""
    return HEAD + "".join(_group(group) for group in GROUPS)
