"""Checks of the engine by the rules' own limits: one that computes, and nothing reused, cut or made up."""

from __future__ import annotations

from collections.abc import Callable

from .. import rules
from ..records.schema import Check
from .check import check
from .evidence import Evidence

# Engines that compute their output. `fake` scripts them, anything unknown may too.
REAL_ENGINES = ("vllm",)


def checks(evidence: Evidence) -> list[Check]:
    name = evidence.engine_name
    requested = evidence.config.engine if evidence.config else None
    return [
        check(
            "engine",
            name in REAL_ENGINES and requested == name,
            f"{name}, ENGINE={requested}; engines that compute: {', '.join(REAL_ENGINES)}",
            "run with ENGINE=vllm",
        ),
        _endings(evidence),
        *_settings(evidence),
    ]


def _endings(evidence: Evidence) -> Check:
    config = evidence.config
    ignored = config is None or config.ignore_eos
    return check(
        "ignore_eos",
        not ignored,
        "answers ran past their end tokens" if ignored else "answers end at the model's end tokens",
        "run without IGNORE_EOS: it is for measurements of speed",
    )


def _settings(evidence: Evidence) -> list[Check]:
    """The rules' own limits on the engine, in the settings of every single run."""
    every = evidence.every_settings

    def setting(name: str, key: str, allowed: Callable[[object], bool], why: str) -> Check:
        values = [s.get(key) for s in every]
        detail = f"{key}={', '.join(dict.fromkeys(map(str, values)))}; {why}"
        fix = f"run again with ENGINE_ARGS and PRESET that leave {key}"
        return check(name, all(map(allowed, values)), detail, fix)

    return [
        setting(
            "weights", "load_format", lambda v: isinstance(v, str) and v != "dummy", "no made-up weights"
        ),
        setting("prefix_caching", "enable_prefix_caching", lambda v: v is False, "no reuse across queries"),
        setting("speculative_decoding", "speculative_decoding", lambda v: v is False, "not for this model"),
        setting(
            "prompt_length",
            "max_model_len",
            lambda v: isinstance(v, int) and v >= rules.MAX_MODEL_LEN,
            f"at least {rules.MAX_MODEL_LEN}, so that no prompt is cut",
        ),
    ]
