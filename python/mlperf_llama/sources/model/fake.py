"""Source `fake`: for the fake engine, which needs a tokenizer and no weights.

A byte-level BPE tokenizer trained on synthetic articles. Never eligible.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Config
from ...errors import MissingError
from ...records.files import digest
from ..chain import Served
from ..dataset import grammar
from ..fetch import cached
from . import checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REASON = "fake model: a tokenizer without weights"
VOCABULARY = 8000
TRAINED_ON = 400
BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"
POSITIONS = 8192


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The tokenizer's folder, from the cache if it was made before."""
    folder = config.cache_path / "models" / f"fake-{grammar.version()}"
    provide(folder, VOCABULARY, {"model_type": "llama", "max_position_embeddings": POSITIONS})
    sha256 = digest(folder / "tokenizer.json")
    return Served("fake", str(folder), sha256, False, REASON, details={"model": "fake"})


def provide(folder: Path, vocabulary: int, config: Mapping[str, object]) -> None:
    """A folder with this config.json and a tokenizer; its own ids where config.json names none.

    MissingError: it cannot be written.
    """
    try:
        cached.provide(folder, lambda made: _make(made, vocabulary, config), _problem)
    except OSError as error:
        raise MissingError(f"{folder}: the tokenizer could not be written: {error.strerror}") from None


def _problem(folder: Path) -> str:
    return checkpoint.problem(folder, weights=False)


def _make(made: Path, vocabulary: int, config: Mapping[str, object]) -> None:
    tokenizer = _train(vocabulary)
    tokenizer.save(str(made / "tokenizer.json"))
    ids: dict[str, object] = {
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": tokenizer.token_to_id(END),
    }
    ids |= {name: config[name] for name in ids if name in config}
    _write(made / "config.json", {**config, **ids})
    _write(made / "generation_config.json", ids)
    names = {"bos_token": BEGIN, "eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"}
    _write(made / "tokenizer_config.json", names)


def _train(vocabulary: int) -> Tokenizer:
    """BPE over the grammar's articles: deterministic, a second or two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    begin = (BEGIN, tokenizer.token_to_id(BEGIN))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[begin])
    return tokenizer


def _texts() -> Iterator[str]:
    for index in range(TRAINED_ON):
        row = grammar.article(0, index)
        yield row.article
        yield row.reference


def _write(path: Path, data: Mapping[str, object]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
