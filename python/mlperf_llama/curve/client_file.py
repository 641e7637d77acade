"""The official client's YAML file of one point.

Its fields: mlcommons/endpoints, src/inference_endpoint/config/schema.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from .. import rules
from .points import DATASET, OFFLINE, Point

# mlcommons/endpoints_policies, seedset.yaml: set A, for submissions to cohort 2026-10-C1 and the next three.
SCHEDULER_SEED, SAMPLE_SEED = 10487924139932647040, 586478644936801402
SET = "cnn_dailymail::llama3_8b"


def text(point: Point, address: str, report: Path) -> str:
    """JSON, which is YAML; with one key a line it can be read and compared."""
    offline = point.region == OFFLINE
    performance = {"name": SET, "type": "performance", "samples": DATASET, "parser": {"input": "prompt"}}
    scorer = {
        "eval_method": "rouge",
        "ground_truth": "highlights",
        "extractor": "identity_extractor",
        "num_repeats": 1,
    }
    accuracy = {**performance, "type": "accuracy", "accuracy_config": scorer}
    pattern: dict[str, object] = {"type": "max_throughput" if offline else "concurrency"}
    if not offline:
        pattern["target_concurrency"] = point.concurrency
    content = {
        "name": f"llama3.1-8b-{point.name}",
        "version": "1.0",
        "type": "offline" if offline else "online",
        "model_params": {
            "name": rules.MODEL_ID,
            "temperature": 0.0,
            "top_p": 1.0,
            "max_new_tokens": rules.MAX_NEW_TOKENS,
            "streaming": "on",
        },
        "datasets": [*([accuracy] if point.accuracy else []), performance],
        "settings": {
            "runtime": {
                "min_duration_ms": int(1000 * point.min_duration_s),
                "max_duration_ms": 0,
                "n_samples_to_issue": point.samples,
                "scheduler_random_seed": SCHEDULER_SEED,
                "dataloader_random_seed": SAMPLE_SEED,
            },
            "load_pattern": pattern,
            "client": {"stream_all_chunks": True},
        },
        "endpoint_config": {"endpoints": [address], "api_key": None, "api_type": "openai"},
        "report_dir": str(report),
    }
    return json.dumps(content, indent=2) + "\n"
