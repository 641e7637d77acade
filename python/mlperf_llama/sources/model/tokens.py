"""What a model folder says about its tokens."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError
from ...records.files import digest, read_object
from ...rules import MODEL_SHAPE
from .. import pins

REFERENCE_SHA256 = pins.TOKENIZER
# The same tokenizer written again by transformers has other bytes. Then: the size of its
# vocabulary, its named tokens and a known encoding (BOS first) have to agree.
REFERENCE_IDS = {
    "<|begin_of_text|>": 128000,
    "<|end_of_text|>": 128001,
    "<|eom_id|>": 128008,
    "<|eot_id|>": 128009,
}
PROBE, PROBE_IDS = "Hello world!", (128000, 9906, 1917, 0)


def stop_ids(model_dir: Path) -> tuple[int, ...]:
    """Ids that end an answer: generation_config.json's eos_token_id, else config.json's."""
    for name in ("generation_config.json", "config.json"):
        path = model_dir / name
        named = read_object(path).get("eos_token_id") if path.is_file() else None
        ids = named if isinstance(named, list) else [named]
        if ids and all(isinstance(token, int) for token in ids):
            return tuple(ids)
    raise UsageError(
        f"{model_dir}: expected eos_token_id in generation_config.json or config.json, found none"
    )


def is_reference_tokenizer(model_dir: Path) -> bool:
    """Whether this is Llama 3.1's tokenizer: by the file's hash, else by what it does."""
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        return False
    if digest(path) == REFERENCE_SHA256:
        return True
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"{path}: expected a tokenizer, could not read it: {error}") from None
    return (
        tokenizer.get_vocab_size() == MODEL_SHAPE.vocabulary
        and all(tokenizer.token_to_id(name) == number for name, number in REFERENCE_IDS.items())
        and tuple(tokenizer.encode(PROBE).ids) == PROBE_IDS
    )
