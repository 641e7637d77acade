"""The made-up articles: readable, different, true to their summaries, of the right lengths."""

from __future__ import annotations

import itertools
import re
import statistics
from pathlib import Path

import pytest

from mlperf_llama import config, rules
from mlperf_llama.config import Config
from mlperf_llama.errors import UsageError
from mlperf_llama.sources.dataset import grammar, serve, store, synthetic
from mlperf_llama.sources.dataset.rows import Row, read_rows

SOME = 600


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [grammar.article(0, index) for index in range(SOME)]


def settings(cache: Path, **flags: str) -> Config:
    return config.load({"CACHE_DIR": str(cache), "DATASET_SOURCE": "synthetic", **flags}, {})


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.slow
def test_the_full_set_is_made_and_every_index_is_different() -> None:
    made = [grammar.article(0, index) for index in range(rules.SAMPLE_COUNT[rules.DATACENTER])]
    assert len({row.article for row in made}) == len(made)
    assert len({row.reference for row in made}) == len(made)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for file, seed in zip(files, (7, 7, 8), strict=True):
        store.write_lines(file, synthetic.articles(seed, 40))
    first, second, third = (file.read_bytes() for file in files)
    assert first == second != third
    assert grammar.article(7, 39) == read_rows(files[0])[39]


def test_no_trace_of_the_templates_is_left(rows: list[Row]) -> None:
    for row in rows:
        for text in (row.article, *row.reference.split("\n")):
            assert not re.search(r"[{}\[\]|]|  | [.,]|\ba [aeio]", text), text
            assert re.match(r"[A-Z0-9\"]", text)
            assert text.endswith((".", '."'))


def test_every_choice_of_every_template_fills_in() -> None:
    """Each option is rendered with the facts it will meet: a name it lacks would raise."""
    topics, common, names = grammar.load()
    dice = grammar.Dice(0, 0)
    for topic in topics:
        facts = grammar._draw_facts(topic.file, names, dice)
        own = (*topic.core, *topic.details, *topic.summary)
        assert all(
            option.format_map(facts) or option == "" for part in own for choice in part for option in choice
        )
        grammar._draw_witness(facts, names, dice)
        assert all(
            option.format_map(facts) for part in common for choice in part for option in choice if option
        )


def test_an_article_never_repeats_a_sentence(rows: list[Row]) -> None:
    for row in rows:
        sentences = re.split(r"(?<=[.?!])\"? (?=[A-Z\"])", row.article)
        long = [sentence for sentence in sentences if words(sentence) > 3]
        assert len(set(long)) == len(long)


def test_a_summary_follows_from_its_article(rows: list[Row]) -> None:
    """Every number and every name of a summary stands in the article."""
    for row in rows:
        for line in row.reference.split("\n"):
            # The first word's capital says nothing; later ones are names, months and the like.
            named = re.findall(r"(?<=\s)\$?[A-Z][a-z]+|\d[\d,.]*\d|\d", line)
            assert named or line.startswith(("A nurses", "The study", "They fear")), line
            for name in named:
                assert name in row.article, (name, row)


def test_a_summary_has_several_lines_and_the_real_sets_length(rows: list[Row]) -> None:
    counts = [words(row.reference) for row in rows]
    # Real reference summaries: 51 words on average (MLPERF facts; 51.6 on 60 real ones).
    assert 48 <= statistics.mean(counts) <= 54
    assert {row.reference.count("\n") + 1 for row in rows} == {3, 4, 5}


def test_lengths_follow_the_real_distribution() -> None:
    """In words, which the Llama 3 tokenizer makes 1.206 tokens of on average."""
    counts = [words(grammar.article(3, index).article) for index in range(3000)]
    tokens = [grammar.PROMPT_OVERHEAD + grammar.TOKENS_PER_WORD * count for count in counts]
    assert 865 <= statistics.mean(tokens) <= 925
    assert 780 <= statistics.median(tokens) <= 860
    assert 380 <= statistics.pstdev(tokens) <= 440
    # Even at 1.28 tokens a word, more than any long article needs, the longest prompt fits.
    assert grammar.PROMPT_OVERHEAD + 1.28 * max(counts) <= rules.LONGEST_PROMPT
    assert max(tokens) > 2100


def test_all_topics_come_up(rows: list[Row]) -> None:
    topics = grammar.load()[0]
    assert len(topics) == 12
    starts = {re.sub(r"[A-Z]\w*|[\d,.]+", "", row.reference.split("\n")[0])[:25] for row in rows}
    assert len(starts) >= len(topics)


def test_persons_keep_their_pronouns_and_surnames_apart() -> None:
    _, _, names = grammar.load()
    facts = {"taken": ""}
    dice = grammar.Dice(1, 1)
    for role in map(str, range(60)):
        grammar._draw_person(facts, role, names, dice)
        first = facts[role].split()[0]
        assert facts[f"{role}_he"] == ("he" if first in names.men else "she")
    surnames = [facts[f"{role}_last"] for role in range(60)]
    assert not any(a == b for a, b in itertools.combinations(surnames, 2))


@pytest.mark.slow
def test_served_from_the_cache_the_second_time_and_made_again_when_damaged(tmp_path: Path) -> None:
    wanted = settings(tmp_path, CATEGORY="edge", SEED="5")
    served = serve("synthetic", wanted, {})
    assert not served.eligible
    assert "made up" in served.reason
    assert served.rows == 5000 == len(read_rows(Path(served.path)))
    made = Path(served.path).stat().st_mtime_ns
    assert serve("synthetic", wanted, {}) == served
    assert Path(served.path).stat().st_mtime_ns == made
    Path(served.path).write_text("{}\n")
    assert serve("synthetic", wanted, {}) == served
    assert len(read_rows(Path(served.path))) == 5000


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="CACHE_DIR"):
        serve("synthetic", settings(tmp_path / "file"), {})
