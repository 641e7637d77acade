"""The verbs that scripts call: they fill an image, an environment or a bundle, and print .env.example.

As in verbs.py every verb imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from .. import config
from ..credentials import redaction
from . import env_example
from .verbs import Env, show


def stand_in(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..sources.model import standin

    standin.provide(arguments.target / standin.SHIPPED, config.load(flags, env), env)
    show(arguments.target / standin.SHIPPED)
    return 0


def assets(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..score import nltk_data

    show(nltk_data.install(arguments.target))
    return 0


def gather(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """A bundle's model, articles and checker; --sizes: how much it will be; --settle: it lies here now."""
    from .. import bundle

    def report(line: str) -> None:
        print(redaction.visible(line), file=sys.stderr, flush=True)

    settings, target = config.load(flags, env), arguments.target.absolute()
    if arguments.settle:
        bundle.settle(target)
    elif arguments.sizes:
        bundle.say_sizes(target, settings, arguments.build, report)
    else:
        bundle.gather(target, settings, env, arguments.build, report)
    return 0


def write_env_example(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    print(env_example.render(), end="", flush=True)
    return 0
