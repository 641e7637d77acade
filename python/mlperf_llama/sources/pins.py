"""Every SHA-256 that proves a file to be the official one, with its source: the one place for them.

A hash that is None is not known here. Such a file is official only where its publisher announces it in
the very run (fetch/publisher.py), which provenance.json then records; a hash taken from such a record of
a trusted run belongs on the file's line below.
"""

from __future__ import annotations

# MLCommons' dataset files. MLCommons publishes MD5 lists alone, in its R2 store; these SHA-256 are what a
# public MLPerf launcher pins for that very download.
CNN_EVAL: str | None = "6d066a21bd615909466885d53b664b73c5aabc32d60c1cbd03f4293de6430026"
SAMPLE_CNN_EVAL_5000: str | None = "2d1a21eadd8ef7547d2f5fba939a9e1886a22ee926fe3781cb8934d3a01445db"
# cnn_dailymail_calibration.json, MLCommons' calibration file.
CALIBRATION: str | None = None
# The ids of its 1,000 articles (998 different ones) in their order, one a line: calibration-list.txt of
# mlcommons/inference, calibration/CNNDailyMail, where language/llama3.1-8b/prepare-calibration.py takes them.
CALIBRATION_IDS = "4de1bc2bcf345ba8fc118788455dfaf2e09530fd9ed4daedf2b15661324ad9a7"
# validation-00000-of-00001.parquet of abisee/cnn_dailymail 3.0.0, as a public evaluation script pins it.
PARQUET: str | None = "65a5ccce932b08f050114ce6e3c39355d563fa24f194052bb2f27d1c6c499c91"

# The shards of meta-llama/Llama-3.1-8B-Instruct, revision 0e9e39f2, as the Hub lists them for its large
# files and as several independent projects record them. MLCommons' own copy of the weights (an MD5 list in
# its R2 store) has no pin of its own: it is official by these hashes, or as its store announces it.
WEIGHTS: dict[str, str] = {
    "model-00001-of-00004.safetensors": "2b1879f356aed350030bb40eb45ad362c89d9891096f79a3ab323d3ba5607668",
    "model-00002-of-00004.safetensors": "09d433f650646834a83c580877bd60c6d1f88f7755305c12576b5c7058f9af15",
    "model-00003-of-00004.safetensors": "fc1cdddd6bfa91128d6e94ee73d0ce62bfcdb7af29e978ddcab30c66ae9ea7fa",
    "model-00004-of-00004.safetensors": "92ecfe1a2414458b4821ac8c13cf8cb70aed66b5eea8dc5ad9eeb4ff309d6d7b",
}
# tokenizer.json of the same repository and revision (9,085,657 bytes); Llama 3.2 and 3.3 ship the same file.
TOKENIZER = "79e3e522635f3171300913bb421464a87de6222182a0570b9b2ccba2a964b2b4"
