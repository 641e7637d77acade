"""Speed of scoring against the official recipe, with equal numbers.

    python benchmarks/scoring.py [--pairs 13368] [--workers 2] [--articles FILE] [--record]

The official recipe (mlcommons/inference language/llama3.1-8b/evaluation.py) is written out
here: one process, NLTK and rouge_score called directly. `evaluate`, which the script calls,
wraps the same rouge_score and only adds to its time. Both get the same texts; reading the log
and decoding tokens are left out, as both do them alike. Ours includes starting its workers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import resource
import string
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from mlperf_llama import rules  # noqa: E402
from mlperf_llama.score import nltk_data, processes  # noqa: E402
from mlperf_llama.settings import BY_NAME  # noqa: E402
from mlperf_llama.sources.dataset import synthetic  # noqa: E402

Pairs = Sequence[tuple[str, str]]
Row = dict[str, str]
TARGET_RATIO = 1.8
# Words in 128 tokens of summary.
PREDICTION_WORDS = 95
# Share of words that occur nowhere else: stemming once a word must not profit from a small
# made-up vocabulary. Real text of this size has fewer (Heaps' law: about 3%).
NEW_WORDS = 0.04


def read_articles(path: Path | None, count: int) -> list[Row]:
    """Rows with `article` and `highlights`, from a JSON Lines file or made up."""
    if path is None:
        return list(synthetic.articles(0, min(count, 1000)))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_pairs(rows: Sequence[Row], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Predictions out of an article's own sentences and strangers', cut after 95 words."""
    import nltk

    rng = random.Random(seed)
    split = [nltk.sent_tokenize(row["article"]) for row in rows]
    pairs = []
    for number in range(count):
        own, row = split[number % len(rows)], rows[number % len(rows)]
        words: list[str] = []
        while len(words) < PREDICTION_WORDS:
            source = own[:8] if rng.random() < 0.8 else rng.choice(split)
            words += rng.choice(source or ["Nothing."]).split()
        prediction = with_new_words(words[:PREDICTION_WORDS], rng)
        reference = with_new_words(row["highlights"].split(" "), rng)
        pairs.append((prediction, reference))
    return pairs


def with_new_words(words: Sequence[str], rng: random.Random) -> str:
    def new() -> str:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 10)))

    return " ".join(new() if rng.random() < NEW_WORDS else word for word in words)


def official(pairs: Pairs) -> tuple[dict[str, list[float]], int]:
    """f-measures by ROUGE type, and gen_len."""
    import nltk
    from rouge_score import rouge_scorer

    predictions = ["\n".join(nltk.sent_tokenize(one.strip())) for one, _ in pairs]
    references = ["\n".join(nltk.sent_tokenize(one.strip())) for _, one in pairs]
    scorer = rouge_scorer.RougeScorer(rouge_types=list(rules.ROUGE_KEYS), use_stemmer=True)
    scores = [scorer.score(ref, pred) for ref, pred in zip(references, predictions, strict=True)]
    measures = {key: [score[key].fmeasure for score in scores] for key in rules.ROUGE_KEYS}
    return measures, sum(map(len, predictions))


def ours(pairs: Pairs, count: int, data: Path) -> tuple[dict[str, list[float]], int]:
    predictions, references = zip(*pairs, strict=True)
    scores = processes.score_pairs(predictions, references, count, data)
    measures = {key: [s.f_measures[at] for s in scores] for at, key in enumerate(rules.ROUGE_KEYS)}
    return measures, sum(score.characters for score in scores)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall seconds, and user and system seconds, ended children included."""

    def cpu_s() -> float:
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(use.ru_utime + use.ru_stime for use in uses)

    wall, cpu = time.perf_counter(), cpu_s()
    result = work()
    return result, time.perf_counter() - wall, cpu_s() - cpu


def table(pairs: Pairs, times: dict[str, tuple[float, float]], count: int, load: float) -> str:
    (slow, slow_cpu), (fast, fast_cpu) = times["official"], times["ours"]
    lengths = [sum(len(pair[side].split()) for pair in pairs) / len(pairs) for side in (0, 1)]
    machine = f"{cpu_name()}, {os.cpu_count()} cores, load average {load:.2f} at the start"
    command = " ".join(["python benchmarks/scoring.py", *sys.argv[1:]])
    return f"""
### Scoring, {datetime.now(UTC):%Y-%m-%d}

{machine}. Python {platform.python_version()}, rouge-score {version("rouge-score")}, nltk {version("nltk")}. \
`{command}`

{len(pairs)} pairs (prediction {lengths[0]:.0f} words, reference {lengths[1]:.0f}), {count} processes; \
every f-measure equal to the last bit, gen_len equal.

| | wall s | user and system s | pairs/s |
| --- | ---: | ---: | ---: |
| official recipe, one process | {slow:.1f} | {slow_cpu:.1f} | {len(pairs) / slow:.0f} |
| ours | {fast:.1f} | {fast_cpu:.1f} | {len(pairs) / fast:.0f} |
| ratio | {slow / fast:.2f} | {slow_cpu / fast_cpu:.2f} | |
"""


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=rules.SAMPLE_COUNT[rules.DATACENTER])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--articles", type=Path, help="JSON Lines (default: made-up articles)")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    load = os.getloadavg()[0]
    data = nltk_data.ensure(Path(BY_NAME["CACHE_DIR"].default).expanduser(), os.environ)
    pairs = make_pairs(read_articles(arguments.articles, arguments.pairs), arguments.pairs)
    found, *fast = timed(lambda: ours(pairs, arguments.workers, data))
    expected, *slow = timed(lambda: official(pairs))
    if found != expected:
        raise SystemExit("the numbers differ from the official recipe's")
    times = {"official": (slow[0], slow[1]), "ours": (fast[0], fast[1])}
    text = table(pairs, times, arguments.workers, load)
    print(text)
    if arguments.record:
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as results:
            results.write(text)
    return 0 if slow[0] / fast[0] >= TARGET_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())
