"""News-like articles with summaries that follow from them, made up from a seed.

The words are in topics/*.toml. An article is one topic's `core` sentences, which hold every
fact of its summary, then paragraphs of the topic and of common.toml until it is long enough.
A fact is drawn once for an article, so it stays the same wherever it is named.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeVar

from .rows import Row

T = TypeVar("T")

TOPICS = Path(__file__).parent / "topics"
SHARED = ("common", "names")

# The length of a prompt in Llama tokens. Real articles: log-mean 6.69, log-sd 0.48, 225 to 2109
# in 100 of the training set, longest 2540 in the validation set (MLPERF.md). The bounds leave
# room for other tokenizers; cutting at them costs a little of the mean, which the log-mean gives back.
LENGTHS = NormalDist(6.715, 0.475)
SHORTEST, LONGEST = 5.55, 7.77
# Measured with the Llama 3 tokenizer on articles of this grammar (1.244 on 60 real ones).
TOKENS_PER_WORD = 1.205
PROMPT_OVERHEAD = 28
# Share of a topic's own paragraphs among those that follow the core, while there are any.
OWN_SHARE = 0.6
# Paragraphs tried and found too long before an article is left a little short.
MISFITS = 8
# Chance of a summary's fourth and fifth line: 51 words on average, as in the real set.
MORE_LINES = (0.6, 0.25)

Template = tuple[tuple[str, ...], ...]
Facts = dict[str, str]


@dataclass(frozen=True)
class Topic:
    """A topic's templates and what its facts are drawn from, as in its TOML file."""

    core: tuple[Template, ...]
    details: tuple[Template, ...]
    summary: tuple[Template, ...]
    data: Mapping[str, Any]


class Dice:
    """Draws that depend on the seed and the row alone.

    Built on random.random() only, the one method whose sequence Python promises to keep.
    """

    def __init__(self, seed: int, index: int) -> None:
        self._random = random.Random(f"{seed}/{index}").random

    def chance(self) -> float:
        return self._random()

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in items]


def compile_template(text: str) -> Template:
    """Split `a [b|c] d` into the choices at each place."""
    parts = re.split(r"\[([^\]]*)\]", text)
    return tuple(tuple(part.split("|")) if at % 2 else (part,) for at, part in enumerate(parts))


def _render(template: Template, facts: Facts, dice: Dice) -> str:
    chosen = [options[0] if len(options) == 1 else dice.pick(options) for options in template]
    text = "".join(chosen).format_map(facts)
    return text[0].upper() + text[1:]


@cache
def load() -> tuple[tuple[Topic, ...], tuple[Template, ...], Mapping[str, Any]]:
    """The topics, the common paragraphs and the names."""

    def compiled(lines: Sequence[str]) -> tuple[Template, ...]:
        return tuple(map(compile_template, lines))

    files = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in _files()}
    topics = tuple(
        Topic(compiled(data["core"]), compiled(data["details"]), compiled(data["summary"]), data)
        for name, data in files.items()
        if name not in SHARED
    )
    return topics, compiled(files["common"]["details"]), files["names"]


def _files() -> list[Path]:
    return sorted(TOPICS.glob("*.toml"))


def version() -> str:
    """Changes whenever the articles of a seed may change."""
    content = b"\0".join(path.read_bytes() for path in (Path(__file__), *_files()))
    return hashlib.sha256(content).hexdigest()[:16]


def article(seed: int, index: int) -> Row:
    """Row `index` of the dataset that `seed` makes."""
    topics, common, names = load()
    dice = Dice(seed, index)
    words = (_prompt_tokens(dice) - PROMPT_OVERHEAD) / TOKENS_PER_WORD
    topic = dice.pick(topics)
    facts = _draw_facts(topic.data, names, dice)
    paragraphs = [_render(template, facts, dice) for template in topic.core]
    # The summary before the paragraphs: their witnesses replace each other in the facts.
    summary = _summary(topic, facts, dice)
    left = int(words) - sum(map(_words, paragraphs))
    decks = [dice.shuffled(topic.details), dice.shuffled(common)]
    misfits = 0
    while misfits < MISFITS and (decks[0] or decks[1]):
        own = bool(decks[0]) and (not decks[1] or dice.chance() < OWN_SHARE)
        if not own:
            _draw_witness(facts, names, dice)
        text = _render(decks[0 if own else 1].pop(), facts, dice)
        if _words(text) > left:
            misfits += 1
            continue
        left -= _words(text)
        paragraphs.append(text)
    return Row(article=" ".join(paragraphs), reference=summary, tok_input=None)


def _words(text: str) -> int:
    return text.count(" ") + 1


def _prompt_tokens(dice: Dice) -> float:
    """A length from LENGTHS between its bounds, in Llama tokens of the whole prompt."""
    low, high = LENGTHS.cdf(SHORTEST), LENGTHS.cdf(LONGEST)
    return math.exp(LENGTHS.inv_cdf(low + (high - low) * dice.chance()))


def _summary(topic: Topic, facts: Facts, dice: Dice) -> str:
    first, more = topic.summary[:3], topic.summary[3:]
    kept = [line for line, share in zip(more, MORE_LINES, strict=True) if dice.chance() < share]
    return "\n".join(_render(line, facts, dice) for line in (*first, *kept))


def _number(dice: Dice, low: int, high: int, step: int = 1) -> int:
    return low + step * dice.below((high - low) // step + 1)


def _draw_facts(data: Mapping[str, Any], names: Mapping[str, Any], dice: Dice) -> Facts:
    """All facts of one article; later kinds may name earlier ones."""
    facts = {"matter": str(data["matter"]), "taken": "", **_places(names, dice)}
    for role in data.get("people", ()):
        _draw_person(facts, role, names, dice)
    for role in data.get("men", ()):
        _draw_person(facts, role, names, dice, male=True)
    numbers = {name: _number(dice, *bounds) for name, bounds in data.get("numbers", {}).items()}
    for name, (base, low, high) in data.get("relative", {}).items():
        numbers[name] = numbers[base] + _number(dice, low, high)
    facts |= {name: f"{value:,}" for name, value in numbers.items()}
    for name, (low, high) in data.get("decimals", {}).items():
        facts[name] = f"{_number(dice, round(low * 10), round(high * 10)) / 10:.1f}"
    for name, (low, high) in data.get("years", {}).items():
        facts[name] = str(_number(dice, low, high))
    for name, options in data.get("choices", {}).items():
        facts[name] = dice.pick(options).format_map(facts)
    return facts


def _places(names: Mapping[str, Any], dice: Dice) -> Facts:
    beginnings = dice.shuffled(names["town_beginnings"])
    day = dice.below(7)
    return {
        "town": beginnings[0] + dice.pick(names["town_endings"]),
        "other_town": beginnings[1] + dice.pick(names["town_endings"]),
        "city": dice.pick(names["cities"]),
        "region": dice.pick(names["regions"]),
        "street": dice.pick(names["streets"]),
        "month": dice.pick(names["months"]),
        "day": names["days"][day],
        "day_after": names["days"][(day + 2) % 7],
    }


def _draw_person(facts: Facts, role: str, names: Mapping[str, Any], dice: Dice, male: bool = False) -> None:
    """A name, an age and the pronouns of one person; no two of an article share a surname."""
    male = dice.chance() < 0.5 or male
    surname = dice.pick(names["surnames"])
    while f" {surname} " in facts["taken"]:
        surname = dice.pick(names["surnames"])
    facts["taken"] += f" {surname} "
    he, him, his, himself = ("he", "him", "his", "himself") if male else ("she", "her", "her", "herself")
    facts |= {
        role: f"{dice.pick(names['men' if male else 'women'])} {surname}",
        f"{role}_last": surname,
        f"{role}_age": str(_number(dice, 27, 74)),
        f"{role}_he": he,
        f"{role}_He": he.capitalize(),
        f"{role}_him": him,
        f"{role}_his": his,
        f"{role}_His": his.capitalize(),
        f"{role}_self": himself,
    }


def _draw_witness(facts: Facts, names: Mapping[str, Any], dice: Dice) -> None:
    """The person and the numbers of one common paragraph."""
    _draw_person(facts, "w", names, dice)
    percent = _number(dice, 38, 71)
    facts |= {
        "w_job": dice.pick(names["jobs"]),
        "w_street": dice.pick(names["streets"]),
        "pct": str(percent),
        "pct_small": str(_number(dice, 8, 24)),
        "few": str(_number(dice, 3, 9)),
        "n_small": str(_number(dice, 11, 48)),
        "n_big": str(_number(dice, 120, 940)),
        "years": str(_number(dice, 8, 34)),
        "miles": str(_number(dice, 9, 62)),
    }
