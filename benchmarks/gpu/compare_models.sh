#!/usr/bin/env bash
# stand-in-8b against random-fp8 on a GPU host, from nothing: the model, its static FP8 checkpoint, the comparison.
#
# Usage: benchmarks/gpu/host.sh benchmarks/gpu/compare_models.sh OUT BUDGET_S [ARGUMENT...]
#   OUT       folder for table.txt, points.jsonl, steps.npz, log.txt, quantization.json, hashes.txt
#   BUDGET_S  seconds from the start of this script; what would end later is left out
#   ARGUMENT  of compare_models.py
# Reads: ARTICLES (JSON Lines with article and highlights: calibration and prompts)
# Exit codes: 0 done, otherwise those of the command that failed; log.txt has its output
set -Eeuo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:?a folder}" budget="${2:?seconds}"
shift 2
mkdir -p "$out"
export PYTHONPATH="$root/benchmarks/gpu:$root/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export MLPERF_ENV_FILE=/dev/null MLPERF_MODEL=stand-in-8b

main() {
    local began=$SECONDS model="$MLPERF_CACHE_DIR/models/stand-in-8b-fp8"
    nvidia-smi --query-gpu=name,driver_version,power.limit,temperature.gpu --format=csv,noheader >"$out/card.txt" ||
        true
    if [[ ! -d $model ]]; then
        python3 -m mlperf_llama quantize --calibration "${ARTICLES:?}" --target "$model" >>"$out/log.txt" 2>&1
    fi
    cp "$model/quantization.json" "$out/"
    printf 'model ready after %d s\n' $((SECONDS - began)) | tee -a "$out/log.txt"
    python3 "$root/benchmarks/gpu/compare_models.py" "$model" "$out" --articles "${ARTICLES:?}" \
        --budget-s $((budget - SECONDS + began)) "$@" 2>"$out/engine.log" | tee -a "$out/log.txt"
    printf 'ended after %d s\n' $((SECONDS - began))
}

failed() {
    tail -n 40 "$out/log.txt" "$out/engine.log" 2>/dev/null | cut -c1-240
}

trap failed ERR
main "$@"
