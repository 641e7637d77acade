#!/usr/bin/env bash
# Sets a GPU host without a network up, once, and runs COMMAND there.
#
# Usage: benchmarks/gpu/host.sh COMMAND...
# Reads: BUNDLE (default .gpu), a folder with any of
#   bundle/unpack.py         puts vLLM into a folder, where the host has none
#   mlcommons_loadgen-*.whl  each goes into LoadGen's folder of this Python
#   wheels/*.whl             further packages (scoring: nltk, rouge_score; the stand-in: gguf)
#   parts/NAME.NN            pieces of large wheels, joined where pip then finds them
# Exit codes: COMMAND's
set -Eeuo pipefail

main() {
    local bundle="${BUNDLE:-.gpu}" site=/tmp/site links=/tmp/links wheel part prefix
    prefix="$(python3 -c 'import sys; print(sys.prefix)')"
    mkdir -p "$site" "$links"
    if ! PYTHONPATH=$site python3 -c 'import vllm' 2>/dev/null && [[ -f $bundle/bundle/unpack.py ]]; then
        python3 "$bundle/bundle/unpack.py" --target "$site" >&2
    fi
    for wheel in "$bundle"/mlcommons_loadgen-*.whl; do
        [[ ! -f $wheel ]] || unpack "$wheel" "$prefix/loadgen/$(basename "$wheel" | cut -d- -f2)"
    done
    for wheel in "$bundle"/wheels/*.whl; do
        [[ ! -f $wheel ]] || unpack "$wheel" "$site" "$site/.$(basename "$wheel")"
    done
    for part in "$bundle"/parts/*.[0-9][0-9]; do
        [[ ! -f $part ]] || cp -n "$part" "$links/"
    done
    for part in "$links"/*.00; do
        [[ ! -f $part ]] || cat "${part%.00}".[0-9][0-9] >"${part%.00}"
    done
    # Bytecode, as pip makes it: without it each process of the first start compiles vLLM anew.
    [[ -e $site/.compiled ]] || {
        python3 -m compileall -q -j 0 "$site" >&2 || true
        touch "$site/.compiled"
    }
    # The shipped entrypoint takes PACKAGES alone, the measuring scripts here Python's own name.
    export MLPERF_PACKAGES="$site" PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PIP_NO_INDEX=1 PIP_FIND_LINKS="$links"
    export MLPERF_CACHE_DIR="${MLPERF_CACHE_DIR:-/tmp/cache}" MLPERF_RESULTS_DIR="${MLPERF_RESULTS_DIR:-/tmp/results}"
    exec "$@"
}

# unpack WHEEL FOLDER [MARK]: unless MARK (FOLDER itself) is there.
unpack() {
    local mark="${3:-$2}"
    [[ ! -e $mark ]] || return 0
    python3 -m zipfile -e "$1" "$2"
    touch "$mark"
}

main "$@"
