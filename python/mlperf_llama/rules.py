"""The benchmark's fixed numbers, each with its source.

Sources, by the short names used below:
  conf     mlcommons/inference loadgen/mlperf.conf
  checker  mlcommons/inference tools/submission/submission_checker/constants.py
  policy   mlcommons/inference_policies inference_rules.adoc
  ref      mlcommons/inference language/llama3.1-8b
"""

from __future__ import annotations

from dataclasses import dataclass

DATACENTER = "datacenter"
EDGE = "edge"
OFFLINE, SERVER, INTERACTIVE, SINGLE_STREAM = "Offline", "Server", "Interactive", "SingleStream"
SCENARIOS = (OFFLINE, SERVER, INTERACTIVE, SINGLE_STREAM)
MODES = ("performance", "accuracy", "compliance")


@dataclass(frozen=True)
class Round:
    """One MLPerf round: its LoadGen release, whose seeds are compiled in."""

    name: str
    loadgen_version: str
    qsl_rng_seed: int
    sample_index_rng_seed: int
    schedule_rng_seed: int


# conf of each release; read back from the detail logs of the three wheels.
ROUNDS = {
    r.name: r
    for r in (
        Round("v5.1", "5.1.2", 1780908523862526354, 14771362308971278857, 18209322760996052031),
        Round("v6.0", "6.0.14", 2465351861681999779, 14276810075590677512, 3936089224930324775),
        Round("v6.1", "6.0.17", 2085463073848966840, 2747215439041700203, 16159082839903944936),
    )
}

# checker: dataset-size; conf: performance_sample_count_override.
SAMPLE_COUNT = {DATACENTER: 13368, EDGE: 5000}
# policy: articles of CNN/DailyMail's training part that may decide scales (calibration/CNNDailyMail).
CALIBRATION_COUNT = 1000
# conf: min_duration of every scenario, in seconds.
MIN_DURATION_S = 600.0
# conf: ttft_latency and tpot_latency in ms, at the 99th percentile.
TOKEN_LATENCY_LIMITS_MS = {SERVER: (2000.0, 100.0), INTERACTIVE: (500.0, 30.0)}
# policy: what a closed submission of each category has to hold (each tuple: one of them).
REQUIRED_SCENARIOS = {
    DATACENTER: ((OFFLINE,), (SERVER, INTERACTIVE)),
    EDGE: ((SINGLE_STREAM,), (OFFLINE,)),
}
CATEGORY_SCENARIOS = {
    DATACENTER: (OFFLINE, SERVER, INTERACTIVE),
    EDGE: (SINGLE_STREAM, OFFLINE),
}
# checker: accuracy-target; gen_len counts characters of the decoded text.
REFERENCE_SCORES: dict[str, dict[str, float]] = {
    DATACENTER: {
        "rouge1": 38.7792, "rouge2": 15.9075, "rougeL": 24.4957, "rougeLsum": 35.793,
        "gen_len": 8167644, "gen_num": 13368,
    },
    EDGE: {
        "rouge1": 39.06, "rouge2": 16.1147, "rougeL": 24.6375, "rougeLsum": 36.124,
        "gen_len": 3051113, "gen_num": 5000,
    },
}  # fmt: skip
ROUGE_KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ACCURACY_TIER = 0.99
GEN_LEN_RANGE = (0.90, 1.10)

# ref: SUT_VLLM.py.
MAX_NEW_TOKENS = 128
MIN_NEW_TOKENS = 1
# ref: longest prompt of the validation set is 2540 tokens, and 128 come out.
LONGEST_PROMPT = 2540
MAX_MODEL_LEN = LONGEST_PROMPT + MAX_NEW_TOKENS
# generation_config.json of Llama-3.1-8B-Instruct.
EOS_IDS = (128001, 128008, 128009)


@dataclass(frozen=True)
class ModelShape:
    """A Llama model's shape; the default is config.json of Llama-3.1-8B-Instruct."""

    layers: int = 32
    hidden: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head_size: int = 128
    intermediate: int = 14336
    vocabulary: int = 128256

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads

    @property
    def body_weights(self) -> int:
        """Weights every token is multiplied with: attention and MLP matrices of all layers."""
        query_out = 2 * self.hidden * self.heads * self.head_size
        key_value = 2 * self.hidden * self.kv_heads * self.head_size
        return self.layers * (query_out + key_value + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """The output matrix; the input embedding, as large, is looked up and never multiplied."""
        return self.hidden * self.vocabulary

    def kv_bytes(self, value_bytes: float) -> float:
        """KV cache bytes per token."""
        return 2 * self.layers * self.kv_heads * self.head_size * value_bytes

    @property
    def attention_flops(self) -> int:
        """For one query token and one key: a product for the score, one for the value."""
        return 4 * self.layers * self.heads * self.head_size


MODEL_SHAPE = ModelShape()
MODEL_ID = "meta-llama/Llama-3.1-8B-Instruct"
MODEL_REVISION = "be673f326cab4cd22ccfef76109faf68e41aa5f1"
DATASET_ID = "cnn_dailymail"
DATASET_CONFIG = "3.0.0"

# ref: download_cnndm.py; the dataset's `instruction` field with the article put in.
PROMPT_TEMPLATE = (
    "Summarize the following news article in 128 tokens. Please output the summary only, "
    "without any other text.\n\nArticle:\n{article}\n\nSummary:"
)


def loadgen_model(category: str, scenario: str) -> str:
    """Model string of mlperf.conf. A dot in it would match nothing, silently."""
    if category == EDGE:
        return "llama3_1-8b-edge"
    return "llama3_1-8b-interactive" if scenario == INTERACTIVE else "llama3_1-8b"


def loadgen_scenario(scenario: str) -> str:
    """LoadGen's own name: Interactive is Server under stricter limits."""
    return SERVER if scenario == INTERACTIVE else scenario


def benchmark_name(category: str) -> str:
    """The benchmark's folder name in a submission (checker)."""
    return "llama3.1-8b-edge" if category == EDGE else "llama3.1-8b"
