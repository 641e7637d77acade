#!/usr/bin/env bash
# The image's Python layer: the environment of a build, made small. Runs inside the build.
# Out goes what no run reads, and byte code stays only for the modules that runs import (it cannot
# be written later, by a user that owns nothing here).
#
# Usage: docker/layer.sh PREFIX BUILD
# Reads: the build's secrets `pip` (settings of pip) and `ca` (a CA bundle), where given.
# Exit codes: 0 done, otherwise what pip or an import answered.
set -Eeuo pipefail

readonly SECRETS=/run/secrets
here=$(dirname "${BASH_SOURCE[0]}")

# Imported by a run of either build, beside what these import in turn.
readonly MODULES="accelerate, datasets, evaluate, gguf, nltk, rouge_score,
    transformers.models.auto.tokenization_auto, transformers.models.llama.modeling_llama,
    vllm.engine.arg_utils, vllm.model_executor.models.llama, vllm.v1.engine.async_llm, vllm.v1.engine.core"

# trim FOLDER: test suites, and PyTorch's C++ test programs: 230 MB.
trim() {
    rm -rf "$1"/torch/test "$1"/{mpmath,networkx,numba,pandas,pyarrow,setuptools,sympy}/tests
    rm -rf "$1"/{networkx,sympy}/*/tests "$1"/sympy/*/*/tests
    find "$1/torch/bin" -type f ! -name torch_shm_manager -delete
}

main() {
    [[ ! -s $SECRETS/pip ]] || export PIP_CONFIG_FILE=$SECRETS/pip
    [[ ! -s $SECRETS/ca ]] || export PIP_CERT=$SECRETS/ca
    "$here/../scripts/environment.sh" "$@"
    trim "$(echo "$1"/lib/python3*/site-packages)"
    "$1/bin/python" -c "import ${MODULES//[[:space:]]/}"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
