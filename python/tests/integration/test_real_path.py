"""Real articles, real vLLM on this machine's CPU, real ROUGE: the main job, as a user runs it.

The run is compared with what nobody here wrote: transformers' own greedy generation,
and the official scoring recipe (mlcommons/inference language/llama3.1-8b) done plainly.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import ARTICLES, Ended, entrypoint

from mlperf_llama import rules
from mlperf_llama.sources import model

for _name in ("vllm", "torch", "rouge_score", "nltk"):
    pytest.importorskip(_name)
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not ARTICLES.is_file(), reason=f"the real articles are not at {ARTICLES}"),
]
SAMPLES = 4


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return entrypoint(
        tmp_path_factory.mktemp("real"),
        "run",
        DATASET_SOURCE=ARTICLES,
        MODEL="stand-in",
        SAMPLES=SAMPLES,
        DTYPE="float32",
        timeout_s=1200,
    )


@pytest.fixture(scope="module")
def answers(ended: Ended) -> dict[int, list[int]]:
    assert ended.folder is not None, ended.stderr
    log = json.loads((ended.folder / "Offline/accuracy/mlperf_log_accuracy.json").read_text())
    return {e["qsl_idx"]: np.frombuffer(bytes.fromhex(e["data"]), np.int32).tolist() for e in log}


def articles() -> list[dict[str, str]]:
    return [json.loads(line) for line in ARTICLES.read_text().splitlines()[:SAMPLES]]


def test_it_ends_well_and_says_what_it_is(ended: Ended) -> None:
    assert ended.code == 0, ended.stderr
    assert ended.folder is not None
    assert ended.stdout == f"{ended.folder}\n"
    performance = ended.read("results.json")["scenarios"]["Offline"]["performance"]
    assert performance["loadgen_result"] == "VALID"
    assert performance["loadgen_errors"] == []
    assert performance["counters"]["preemptions"] == 0
    verdict = ended.read("verdict.json")
    failed = {c["name"] for c in verdict["checks"] if not c["passed"]}
    assert verdict["submittable"] is False
    assert {"model_eligible", "dataset_eligible", "samples", "duration"} <= failed
    # The real engine, from the locked environment, with clocks and counts that agree.
    sound = {"engine_arguments", "engine_extension", "preset", "python_start", "preload", "packages"}
    counted = {f"Offline.{m}.{c}" for m in ("performance", "accuracy") for c in ("counted", "clock")}
    assert not failed & (sound | counted | {"Offline.accuracy.handed_on"})
    for name in ("config.json", "system.json", "provenance.json", "events.jsonl", "run.log"):
        assert (ended.folder / name).stat().st_size
    for name in ("report.md", "report.html", "Offline/user.conf", "Offline/accuracy/accuracy.txt"):
        assert (ended.folder / name).stat().st_size


def test_token_ids_equal_transformers_greedy_generation(ended: Ended, answers: dict[int, list[int]]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ended.read("provenance.json")["model"]["path"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    greedy = {
        "do_sample": False,
        "max_new_tokens": rules.MAX_NEW_TOKENS,
        "min_new_tokens": rules.MIN_NEW_TOKENS,
        "eos_token_id": list(model.stop_ids(Path(folder))),
    }
    assert sorted(answers) == list(range(SAMPLES))
    for index, row in enumerate(articles()):
        prompt = tokenizer(rules.PROMPT_TEMPLATE.format(article=row["article"]), return_tensors="pt")
        with torch.inference_mode():
            whole = network.generate(**prompt, **greedy)
        assert answers[index] == whole[0, prompt["input_ids"].shape[1] :].tolist(), f"sample {index}"


def test_scores_equal_the_official_recipe(ended: Ended, answers: dict[int, list[int]]) -> None:
    import nltk
    from rouge_score.rouge_scorer import RougeScorer
    from transformers import AutoTokenizer

    from mlperf_llama import config
    from mlperf_llama.score import nltk_data

    settings = config.load({}, config.environment())
    nltk_data.use(nltk_data.ensure(settings.cache_path, config.environment()))
    tokenizer = AutoTokenizer.from_pretrained(ended.read("provenance.json")["model"]["path"])

    def lines(text: str) -> str:
        return "\n".join(nltk.sent_tokenize(text.strip()))

    ids = [answers[i] for i in range(SAMPLES)]
    predictions = [lines(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    references = [lines(row["highlights"]) for row in articles()]
    scorer = RougeScorer([*rules.ROUGE_KEYS], use_stemmer=True)
    scores = [scorer.score(r, p) for r, p in zip(references, predictions, strict=True)]
    found = ended.read("results.json")["scenarios"]["Offline"]["accuracy"]
    for key in rules.ROUGE_KEYS:
        assert found[key] == round(np.mean([s[key].fmeasure for s in scores]) * 100, 4)
    assert (found["gen_len"], found["gen_num"]) == (sum(map(len, predictions)), SAMPLES)
