"""The table of verbs: name, help, function, arguments. What a person types comes first.

Over 250 lines: the whole table stands in one place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import run_verbs, script_verbs, verbs

Function = Callable[[argparse.Namespace, Mapping[str, str], Mapping[str, str]], int]
Argument = tuple[tuple[str, ...], dict[str, Any]]

RUN_DIR: Argument = (("--run-dir",), {"required": True, "type": Path, "help": "the run folder"})
RUN_OR_LATEST: Argument = (
    ("--run-dir",),
    {"type": Path, "help": "the run folder (default: RESULTS_DIR/latest)"},
)
SOURCE: Argument = (("source",), {"help": "the source's name, as create-run prints it"})


@dataclass(frozen=True)
class Verb:
    """`settings`: the verb takes every setting as a flag; `internal`: only scripts call it."""

    name: str
    help: str
    function: Function
    arguments: tuple[Argument, ...] = ()
    settings: bool = False
    internal: bool = False


USER = (
    Verb("run", "the benchmark; prints the run folder's path", run_verbs.by_entrypoint, settings=True),
    Verb(
        "resume",
        "finish a run that ended early, here or on another machine",
        run_verbs.resume,
        ((("folder",), {"type": Path, "metavar": "FOLDER", "help": "the run folder"}),),
    ),
    Verb(
        "tune",
        "find the highest TARGET_QPS that stays VALID, and the engine settings for this GPU",
        run_verbs.by_entrypoint,
        settings=True,
    ),
    Verb(
        "submission",
        "every run that a submission needs, packed and checked; prints the tree's path",
        run_verbs.by_entrypoint,
        settings=True,
    ),
    Verb(
        "doctor",
        "what this machine has, what it lacks, and how to mend it",
        verbs.doctor,
        ((("--json",), {"action": "store_true", "help": "print the findings as JSON"}),),
        settings=True,
    ),
    Verb(
        "auth",
        "which way to the weights works here, and how to get one: exit code 0, or 3 where none does",
        verbs.auth,
        (
            (("--check",), {"action": "store_true", "help": "only check what is set, and ask nothing"}),
            (
                ("--keep",),
                {"choices": ("env", "files"), "help": "keep what works in .env, or as files (mode 600)"},
            ),
        ),
        settings=True,
    ),
    Verb(
        "plan",
        "how many queries and minutes each run takes, and what `make run` will do here",
        verbs.plan,
        (
            (
                ("--need",),
                {
                    "type": float,
                    "metavar": "QUERIES_PER_S",
                    "help": "how many of which GPU this load takes in SCENARIO; needs no GPU here",
                },
            ),
        ),
        settings=True,
    ),
    Verb("score", "score the accuracy logs of a run again", verbs.score, (RUN_OR_LATEST,), settings=True),
    Verb("verdict", "judge a run again", verbs.verdict, (RUN_OR_LATEST,), settings=True),
    Verb("report", "write the report of a run again", verbs.report, (RUN_OR_LATEST,), settings=True),
    Verb("sign", "sign a run folder's hashes with SIGN_KEY", verbs.sign, (RUN_OR_LATEST,), settings=True),
    Verb(
        "compare",
        "two runs or submissions side by side: which is faster, by how much, and what differs",
        verbs.compare,
        (
            (
                ("a",),
                {"metavar": "A", "help": "a run folder or a submission tree, or repeats of one with commas"},
            ),
            (("b",), {"metavar": "B", "help": "the other one"}),
            (("--json",), {"action": "store_true", "help": "print the comparison as JSON"}),
            (("--page",), {"type": Path, "metavar": "FILE", "help": "write an HTML page with both curves"}),
        ),
    ),
    Verb(
        "history",
        "a page of all runs below RESULTS_DIR, by machine and over time; prints its path",
        verbs.history,
        settings=True,
    ),
    Verb(
        "pack",
        "pack run folders into a submission and check it",
        verbs.pack,
        (
            (
                ("runs",),
                {
                    "type": Path,
                    "nargs": "*",
                    "metavar": "RUN_DIR",
                    "help": "run folders (default: the latest)",
                },
            ),
        ),
        settings=True,
    ),
    Verb(
        "check",
        "MLCommons' checker and ours on a submission tree",
        verbs.check,
        (
            (
                ("tree",),
                {
                    "type": Path,
                    "nargs": "?",
                    "metavar": "TREE",
                    "help": "the tree (default: what was packed last)",
                },
            ),
        ),
        settings=True,
    ),
    Verb(
        "scales",
        "make the static scales of a run again and compare: exit code 0, or 5 where others come out",
        verbs.scales,
        (RUN_OR_LATEST,),
        settings=True,
    ),
    Verb(
        "quantize",
        "make an FP8 checkpoint of the model; --calibration names the data for static scales",
        verbs.quantize,
        ((("--target",), {"type": Path, "help": "the new folder (default: in the cache)"}),),
        settings=True,
    ),
    Verb(
        "endpoints",
        "the plan of a curve of MLPerf Endpoints, and its official client point by point",
        verbs.endpoints,
        settings=True,
    ),
    Verb(
        "serve",
        "the engine of these settings as an OpenAI server at SERVE_ADDRESS, until it is stopped",
        verbs.serve,
        settings=True,
    ),
    Verb(
        "health",
        "whether the latest run still advances: exit code 0 or 1",
        verbs.health,
        (RUN_OR_LATEST,),
        settings=True,
    ),
)

INTERNAL = (
    Verb(
        "create-run",
        "check the settings and make a run folder, or open one again; print it and the two chains",
        run_verbs.create_run,
        (
            (
                ("--resume",),
                {"type": Path, "metavar": "RUN_DIR", "help": "open this folder, of a run that ended early"},
            ),
            (("--submission",), {"action": "store_true", "help": "every run that a submission needs"}),
            (("--tune",), {"action": "store_true", "help": "the folder of a tuning"}),
        ),
        settings=True,
        internal=True,
    ),
    Verb("dataset", "try one source of the dataset", run_verbs.try_source, (SOURCE, RUN_DIR), internal=True),
    Verb("model", "try one source of the model", run_verbs.try_source, (SOURCE, RUN_DIR), internal=True),
    Verb(
        "execute",
        "the benchmark, in a run folder whose dataset and model are there",
        run_verbs.execute,
        (RUN_DIR,),
        internal=True,
    ),
    Verb(
        "finalize-run",
        "mark a run folder as ended early",
        run_verbs.finalize_run,
        (
            RUN_DIR,
            (
                ("--status",),
                {"default": "interrupted", "help": "interrupted or failed (default: interrupted)"},
            ),
        ),
        internal=True,
    ),
    Verb(
        "assets",
        "fetch what scoring needs",
        script_verbs.assets,
        ((("--target",), {"required": True, "type": Path, "help": "the folder to put it in"}),),
        internal=True,
    ),
    Verb(
        "worker",
        "serve as a member of a run: one engine for its head",
        run_verbs.worker,
        (
            (("--head",), {"required": True, "metavar": "HOST:PORT", "help": "where the run listens"}),
            (
                ("--member",),
                {
                    "type": int,
                    "default": -1,
                    "help": "which member, as the head counts them from 0 (default: the next free one)",
                },
            ),
        ),
        internal=True,
    ),
    Verb(
        "stand-in",
        "make the stand-in model, for an environment that holds it",
        script_verbs.stand_in,
        ((("--target",), {"required": True, "type": Path, "help": "the folder to put models/ in"}),),
        internal=True,
    ),
    Verb(
        "gather",
        "gather what a bundle holds beside packages",
        script_verbs.gather,
        (
            (("--target",), {"required": True, "type": Path, "help": "the bundle's folder"}),
            (("--build",), {"required": True, "choices": ("cpu", "cuda"), "help": "whose packages it holds"}),
            (("--sizes",), {"action": "store_true", "help": "only say how much it will be"}),
            (("--settle",), {"action": "store_true", "help": "only note where it lies now"}),
        ),
        settings=True,
        internal=True,
    ),
    Verb("env-example", "print .env.example", script_verbs.write_env_example, internal=True),
)

VERBS = USER + INTERNAL
BY_NAME = {verb.name: verb for verb in VERBS}
