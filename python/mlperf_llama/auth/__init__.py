"""Which way to the weights works here: asked at once, said in order, kept when wanted, and never shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from getpass import getpass
from typing import TextIO

from ..config import Config, secret
from ..credentials import trimmed
from ..credentials.redaction import visible
from ..errors import EXIT_MISSING, EXIT_OK, MissingError
from ..sources.model import mlcommons
from ..terminal.style import Style, colour_wanted
from . import browser, keep, ways
from .ways import Way

__all__ = ["Questions", "Way", "main"]
TRIES = 3


@dataclass(frozen=True)
class Questions:
    """How a person is asked: `hidden` shows nothing of what is typed, `plain` does."""

    hidden: Callable[[str], str]
    plain: Callable[[str], str]


def terminal() -> Questions | None:
    """The person at the terminal; None where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def plain(question: str) -> str:
        print(question, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()

    return Questions(lambda question: getpass(question, sys.stderr), plain)


def main(
    config: Config,
    env: Mapping[str, str],
    check_only: bool,
    keep_where: str | None,
    questions: Questions | None,
    out: TextIO,
) -> int:
    """Say what works and what to do; 0 where one way works, else 3."""
    style = Style(colour=colour_wanted(out, env))
    examined = ways.examine(config, env)
    print("Ways to the weights; one is enough. The articles need no token.", file=out)
    for way in examined:
        print(_line(way, style), file=out)
    answers: dict[str, str] = {}
    if not check_only and not any(way.works for way in examined):
        for way in examined:
            _explain(way, out)
        answers = _ask(config, env, questions, style, out) if questions else {}
        env = {**env, **answers}
        examined = ways.examine(config, env) if answers else examined
    working = [way for way in examined if way.works]
    if working and not check_only:
        where = keep_where or (_where(questions) if questions and answers else None)
        if where:
            names = [name for way in working for name in ways.SECRETS[way.name]]
            tokens = {name: secret(name, env) or "" for name in names}
            for path in keep.keep(where, tokens, env):
                print(f"kept in {visible(str(path))}, readable by you alone", file=out)
    return EXIT_OK if working else EXIT_MISSING


def _line(way: Way, style: Style) -> str:
    level = style.paint("ok  ", "green") if way.works else style.paint("no  ", "yellow")
    return f"{level}  {way.name:<24}  {visible(way.detail)}"


def _explain(way: Way, out: TextIO) -> None:
    print(f"\n{way.name}, in this order:", file=out)
    for number, step in enumerate(ways.STEPS[way.name], 1):
        print(f"  {number}. {step}", file=out)


def _ask(
    config: Config, env: Mapping[str, str], questions: Questions, style: Style, out: TextIO
) -> dict[str, str]:
    """Tokens that a person gives and a host accepts; the first way that works is enough."""
    print("\nPaste a token here: nothing is shown. Enter passes over.", file=out, flush=True)
    for name in (ways.HUB, ways.SERVICE, ways.BROWSER):
        for _ in range(TRIES):
            by_browser = name == ways.BROWSER
            answers = _log_in(config, env, questions, out) if by_browser else _tokens(name, questions)
            if not answers:
                break
            # Where the filter of everything shown finds them.
            os.environ.update(answers)
            way = ways.check(name, config, {**env, **answers})
            print(_line(way, style), file=out, flush=True)
            if way.works:
                return answers
    return {}


def _tokens(name: str, questions: Questions) -> dict[str, str]:
    """Every part of a token; none where one is passed over."""
    answers = {}
    for part in ways.SECRETS[name]:
        value = trimmed(questions.hidden(f"{part}: "))
        if not value:
            return {}
        answers[part] = value
    return answers


def _log_in(config: Config, env: Mapping[str, str], questions: Questions, out: TextIO) -> dict[str, str]:
    if not browser.command(env) or not _yes(questions.plain("Start the log-in in a browser? [y/N] ")):
        return {}
    try:
        url = mlcommons.metadata_uri(config)
        token = browser.log_in(url, env, lambda line: print(browser.hidden(line), file=out, flush=True))
    except MissingError as error:
        print(visible(str(error)), file=out, flush=True)
        return {}
    return {browser.NAME: token}


def _yes(answer: str) -> bool:
    return answer.strip().lower() in ("y", "yes")


def _where(questions: Questions) -> str | None:
    answer = questions.plain("Keep it for later runs? env: in .env; files: as files; Enter: no: ").strip()
    return answer if answer in (keep.ENV, keep.FILES) else None
