"""Synthetic articles whose prompts have Llama's length in another model's tokens: `articles.py MODEL FILE`.

The stand-in's tokenizer needs 4% more tokens for the same text, and longer prompts are slower. Each article
loses its last words, the same share of each, until the prompts' mean is the benchmark's
(roofline.PROMPT_MEAN). Writes JSON Lines with article and highlights, for DATASET_SOURCE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mlperf_llama import rules
from mlperf_llama.machine import roofline
from mlperf_llama.sources.dataset import grammar

# Articles that the share is worked out from; halvings of its bounds.
TRIED, STEPS = 1000, 12


def cut(article: str, share: float) -> str:
    """The article's first words."""
    words = article.split(" ")
    return " ".join(words[: max(1, round(share * len(words)))])


def mean_length(tokenizer: Any, articles: list[str]) -> float:
    prompts = [rules.PROMPT_TEMPLATE.format(article=article) for article in articles]
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(prompts)) / len(prompts)


def share_for(tokenizer: Any, articles: list[str], mean: float) -> float:
    """What to keep of each article for prompts of that mean length; 1 where they are shorter as they are."""
    low, high = 0.0, 1.0
    if mean_length(tokenizer, articles) <= mean:
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if mean_length(tokenizer, [cut(article, middle) for article in articles]) > mean:
            high = middle
        else:
            low = middle
    return low


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=rules.SAMPLE_COUNT[rules.DATACENTER])
    given = parser.parse_args()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    rows = [grammar.article(0, index) for index in range(given.count)]
    share = share_for(tokenizer, [row.article for row in rows[:TRIED]], roofline.PROMPT_MEAN)
    with given.file.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"article": cut(row.article, share), "highlights": row.reference}) + "\n")
    print(f"kept {share:.4f} of {given.count} articles", flush=True)


if __name__ == "__main__":
    main()
