"""The table of verbs: name, help, handler, arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.run_folder import INTERRUPTED
from . import handlers

Handler = Callable[[argparse.Namespace, Mapping[str, str], Mapping[str, str]], int]
Argument = tuple[tuple[str, ...], dict[str, Any]]

RUN_DIR: Argument = (("--run-dir",), {"required": True, "type": Path, "help": "the run folder"})
RUN_OR_LATEST: Argument = (
    ("--run-dir",),
    {"type": Path, "help": "the run folder (default: RESULTS_DIR/latest)"},
)


@dataclass(frozen=True)
class Verb:
    """`settings`: the verb takes every setting as a flag."""

    name: str
    help: str
    handler: Handler
    arguments: tuple[Argument, ...] = ()
    settings: bool = False


VERBS = (
    Verb(
        "create-run",
        "check the settings and make a run folder, or open one again",
        handlers.open_run,
        (
            (("--resume",), {"type": Path, "metavar": "RUN_DIR", "help": "finish a run that ended early"}),
            (("--submission",), {"action": "store_true", "help": "every run that a submission needs"}),
            (("--tune",), {"action": "store_true", "help": "the folder of a tuning"}),
        ),
        settings=True,
    ),
    Verb("dataset", "try one rung of the dataset chain", handlers.rung, ((("rung",), {}), RUN_DIR)),
    Verb("model", "try one rung of the model chain", handlers.rung, ((("rung",), {}), RUN_DIR)),
    Verb("execute", "the benchmark, in an opened run folder", handlers.run_benchmark, (RUN_DIR,)),
    Verb("plan", "how many queries and minutes each run takes", handlers.plan, settings=True),
    Verb("score", "score the accuracy logs again", handlers.score, (RUN_OR_LATEST,), settings=True),
    Verb("verdict", "judge a run again", handlers.verdict, (RUN_OR_LATEST,), settings=True),
    Verb("report", "write the report again", handlers.report, (RUN_OR_LATEST,), settings=True),
    Verb(
        "finalize-run",
        "mark a run folder as ended early",
        handlers.close,
        (RUN_DIR, (("--status",), {"default": INTERRUPTED})),
    ),
    Verb(
        "doctor",
        "what this machine has, lacks, and how to mend it",
        handlers.doctor,
        ((("--json",), {"action": "store_true"}),),
        settings=True,
    ),
    Verb("health", "does the latest run still advance?", handlers.health, (RUN_OR_LATEST,), settings=True),
    Verb(
        "compare",
        "two runs or submissions side by side",
        handlers.compare,
        ((("a",), {"type": Path}), (("b",), {"type": Path})),
    ),
    Verb(
        "pack",
        "pack run folders into a submission and check it",
        handlers.pack,
        ((("runs",), {"type": Path, "nargs": "*", "metavar": "RUN_DIR"}),),
        settings=True,
    ),
    Verb(
        "check",
        "MLCommons' checker and ours on a submission tree",
        handlers.check,
        ((("tree",), {"type": Path, "nargs": "?", "help": "default: what was packed last"}),),
        settings=True,
    ),
    Verb(
        "quantize",
        "an FP8 checkpoint of the model",
        handlers.quantize,
        (
            (("--calibration",), {"type": Path, "help": "calibration data; without it no data is used"}),
            (("--target",), {"type": Path, "help": "the new folder (default: in the cache)"}),
        ),
        settings=True,
    ),
    Verb(
        "assets",
        "fetch what scoring needs",
        handlers.assets,
        ((("--target",), {"required": True, "type": Path}),),
    ),
)
BY_NAME = {verb.name: verb for verb in VERBS}
