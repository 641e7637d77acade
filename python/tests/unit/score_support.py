"""What the scoring tests share: texts, a tokenizer, logs, and the official recipe written out."""

from __future__ import annotations

import functools
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlperf_llama.errors import PipelineError
from mlperf_llama.score import nltk_data
from mlperf_llama.settings import BY_NAME

ARTICLES = Path(__file__).resolve().parents[4] / "shared/data/cnn_dailymail_60.jsonl"
KEYS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
PROSE = (
    "the a of and running runner ran nationally nation's happily relational stories story x yy zzz "
    "Mr. U.S. e.g. 3.5 $1,200 10km co-operate don't won't café naïve \u212aelvin İstanbul ΣΑΣ 東京 "
    "generously agreement agreed hopping hoped dying lying ties 'quoted' \u201ccurly\u201d dash\u2014dash"
)
WORDS = [*PROSE.split(), "tab\tinside"]
ENDS = (".", "!", "?", " .", "...", '."', ".\n", "\n", ";", "")


@functools.cache
def sentence_model() -> Path:
    """The NLTK data folder; the test is skipped where it cannot be had."""
    try:
        return nltk_data.ensure(Path(BY_NAME["CACHE_DIR"].default).expanduser(), os.environ)
    except PipelineError as error:
        pytest.skip(str(error))


def real_articles() -> list[dict[str, str]]:
    if not ARTICLES.is_file():
        pytest.skip(f"the real articles are not here: {ARTICLES}")
    return [json.loads(line) for line in ARTICLES.read_text(encoding="utf-8").splitlines()]


def real_pairs() -> list[tuple[str, str]]:
    """(prediction, reference): the lead, cut in mid-sentence, mixed with a stranger's summary."""
    rows, rng, pairs = real_articles(), random.Random(11), []
    for row in rows:
        words = row["article"].split(" ")
        start = rng.randrange(max(1, len(words) // 3))
        stranger = rng.choice(rows)["highlights"]
        pairs.append((" ".join(words[:95]), row["highlights"]))
        pairs.append((" ".join([*words[start : start + 60], *stranger.split(" ")]), row["highlights"]))
        pairs.append((row["highlights"], row["highlights"]))
    return pairs


def made_up_text(rng: random.Random, most_sentences: int) -> str:
    parts = []
    for _ in range(rng.randint(0, most_sentences)):
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 25))]
        parts.append(" ".join(words) + rng.choice(ENDS))
    return rng.choice(("", " ", "\n")) + " ".join(parts) + rng.choice(("", "  ", "\n\n"))


def made_up_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    odd = [("", ""), ("", "a b"), ("a b", ""), ("...", "word."), ("\n\n", " \t"), ("same", "same")]
    return (odd + [(made_up_text(rng, 7), made_up_text(rng, 5)) for _ in range(count)])[:count]


def official_f_measures(pairs: Sequence[tuple[str, str]]) -> dict[str, list[float]]:
    """rouge_score and NLTK called directly, one pair after the other."""
    import nltk
    from rouge_score import rouge_scorer

    nltk_data.use(sentence_model())
    scorer = rouge_scorer.RougeScorer(rouge_types=KEYS, use_stemmer=True)
    f_measures: dict[str, list[float]] = {key: [] for key in KEYS}
    for prediction, reference in pairs:
        joined = ["\n".join(nltk.sent_tokenize(text.strip())) for text in (reference, prediction)]
        for key, score in scorer.score(*joined).items():
            f_measures[key].append(score.fmeasure)
    return f_measures


def official_result(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What the official script prints: rounded text, characters, number."""
    import nltk

    scores = official_f_measures(pairs)
    result: dict[str, Any] = {key: f"{round(np.mean(scores[key]) * 100, 4)}" for key in KEYS}
    result["gen_len"] = sum(len("\n".join(nltk.sent_tokenize(text.strip()))) for text, _ in pairs)
    result["gen_num"] = len(pairs)
    return result


def make_tokenizer(folder: Path, texts: Sequence[str], clean_up: bool) -> Any:
    """A small byte-level BPE tokenizer like Llama-3.1's; `clean_up` as in its tokenizer_config."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|begin_of_text|>", "<|eot_id|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        clean_up_tokenization_spaces=clean_up,
    )
    whole.save_pretrained(folder)
    return whole


def entry(index: int, tokens: Sequence[int]) -> dict[str, Any]:
    return {"seq_id": 7, "qsl_idx": index, "data": np.array(tokens, "<i4").tobytes().hex().upper()}


def write_log(path: Path, entries: Sequence[Any]) -> Path:
    path.write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n", encoding="utf-8")
    return path
