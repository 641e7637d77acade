"""Random weights in the model's shape: what is written, what vLLM is asked for, what it is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlperf_llama import config, rules
from mlperf_llama.engine import hopper
from mlperf_llama.machine import roofline
from mlperf_llama.records.schema import Provided
from mlperf_llama.report import published
from mlperf_llama.sources import model
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.dataset import grammar
from mlperf_llama.sources.model import checkpoint


def served(tmp_path: Path, name: str) -> Served:
    settings = config.load({"MODEL": name, "CACHE_DIR": str(tmp_path)}, {})
    assert model.chain(settings) == (name,)
    return model.serve(name, settings, {})


def written(found: Served) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((Path(found.path) / "config.json").read_text())
    return read


@pytest.mark.parametrize("name", ["random", "random-fp8"])
def test_it_has_the_shape_and_is_never_eligible(tmp_path: Path, name: str) -> None:
    found = served(tmp_path, name)
    assert (found.source, found.eligible) == (name, False)
    assert "random weights" in found.reason
    assert published.has_the_shape(Provided(**vars(found)))
    assert checkpoint.shape_difference(Path(found.path)) == ""
    assert not model.is_reference_tokenizer(Path(found.path))
    assert model.stop_ids(Path(found.path)) == rules.EOS_IDS
    assert model.is_random(written(found))
    assert served(tmp_path, name) == found


def test_the_checkpoint_of_quantize_has_a_shape_of_its_own(tmp_path: Path) -> None:
    plain, quantised = served(tmp_path, "random"), served(tmp_path, "random-fp8")
    assert "quantization_config" not in written(plain)
    assert written(quantised)["quantization_config"]["activation_scheme"] == "static"
    assert plain.sha256 != quantised.sha256


@pytest.mark.slow
def test_prompts_are_as_long_as_in_llama_s_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(served(tmp_path, "random").path) / "tokenizer.json"))
    prompts = [rules.PROMPT_TEMPLATE.format(article=grammar.article(0, i).article) for i in range(2000)]
    mean = float(np.mean([len(found.ids) for found in tokenizer.encode_batch(prompts)]))
    assert mean == pytest.approx(roofline.PROMPT_MEAN, rel=0.02)


def test_another_model_is_not_made_up() -> None:
    assert not model.is_random({"model_type": "llama"})


@pytest.mark.parametrize(
    ("given", "extension"),
    [
        ({}, None),
        ({"load_format": "dummy"}, hopper.RANDOM),
        ({"worker_extension_cls": hopper.EXTENSION}, hopper.EXTENSION),
        ({"worker_extension_cls": hopper.EXTENSION, "load_format": "dummy"}, hopper.RANDOM_EXTENSION),
    ],
)
def test_which_extension_vllm_is_asked_for(given: dict[str, Any], extension: str | None) -> None:
    assert hopper.with_extension(given).get("worker_extension_cls") == extension


@pytest.mark.slow
def test_the_extension_s_operations_split_the_compiled_model() -> None:
    pytest.importorskip("vllm")
    assert hopper.with_splitting_ops({"dtype": "auto"}) == {"dtype": "auto"}
    given = hopper.with_extension({"worker_extension_cls": hopper.EXTENSION, "load_format": "dummy"})
    operations = hopper.with_splitting_ops(given)["compilation_config"]["splitting_ops"]
    assert {"vllm::unified_attention_with_output", "vllm::mlperf_qkv_attention"} <= set(operations)
    assert "compilation_config" not in given
