"""The command line: one sub-parser per verb, the settings' flags with their help from the table."""

from __future__ import annotations

import argparse
from typing import Any

from .. import __version__
from ..credentials import redaction
from ..errors import EXIT_USAGE
from ..settings import PIPELINE, RENAMED, Setting
from . import table

EPILOG = "A flag beats the environment (MLPERF_SAMPLES=24), the environment beats the file .env."
DEST = "setting_"


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        if message.startswith("argument verb:"):
            message = message.partition(" (choose from")[0]  # the choices are more than help lists
        message = redaction.visible(redaction.text(message))
        # entrypoint.sh hands the flags of `run` to this verb.
        verb = self.prog.replace("create-run", "run")
        self.exit(EXIT_USAGE, f"error: {message}; `{verb} --help` lists what is known\n")


def help_of(setting: Setting) -> str:
    """Meaning, choices and default; argparse expands every % sign."""
    text = f"{setting.explanation} (default: {setting.default or 'empty'})"
    return text.replace("%", "%%")


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Every setting as a flag, in the groups of the table; the usage line does not repeat them."""
    command.usage = f"{command.format_usage().removeprefix('usage: ').strip()} [--SETTING VALUE ...]"
    for group in PIPELINE:
        section = command.add_argument_group(group.title)
        for setting in group.settings:
            section.add_argument(
                setting.flag, metavar=setting.name, dest=DEST + setting.name, help=help_of(setting)
            )
    for name in RENAMED:
        flag = "--" + name.lower().replace("_", "-")
        command.add_argument(flag, dest=DEST + name, help=argparse.SUPPRESS)


def build() -> argparse.ArgumentParser:
    """Every verb of the table; internal ones work and stand in no list."""
    parser = Parser(prog="mlperf-llama", description="MLPerf Inference for Llama-3.1-8B")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="verb", parser_class=Parser)
    for verb in table.VERBS:
        listed: dict[str, Any] = {} if verb.internal else {"help": verb.help}
        description = f"{verb.help[0].upper()}{verb.help[1:]}."
        command = commands.add_parser(
            verb.name, description=description, epilog=EPILOG if verb.settings else None, **listed
        )
        for names, options in verb.arguments:
            command.add_argument(*names, **options)
        if verb.settings:
            _add_settings(command)
    return parser


def flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings given as flags; an empty one counts as absent."""
    return {
        name.removeprefix(DEST): value
        for name, value in vars(arguments).items()
        if name.startswith(DEST) and value
    }
