#!/usr/bin/env bash
# stand-in-8b against random-fp8 on a GPU host, from nothing: the model, its static FP8 checkpoint, the comparison.
#
# Usage: benchmarks/gpu/host.sh benchmarks/gpu/compare_models.sh OUT prepare
#        benchmarks/gpu/host.sh benchmarks/gpu/compare_models.sh OUT codes
#        benchmarks/gpu/host.sh benchmarks/gpu/compare_models.sh OUT compare [ARGUMENT...]
#   prepare   stand-in-8b and its static FP8 checkpoint in the cache; needs no vLLM
#   codes     measure_codes.py: products alone by what is multiplied; needs no vLLM
#   compare   compare_models.py with ARGUMENT, such as --budget-s 500
#   OUT       folder for card.txt, log.txt, engine.log, quantization.json, table.txt, points.jsonl, steps.npz
# Reads: ARTICLES (JSON Lines with article and highlights: calibration and prompts)
# Exit codes: 0 done, 2 no such stage, otherwise those of the command that failed, whose last lines are shown
set -Eeuo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:?a folder}" stage="${2:?prepare, codes or compare}"
shift 2
mkdir -p "$out"
export PYTHONPATH="$root/benchmarks/gpu:$root/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export MLPERF_ENV_FILE=/dev/null MLPERF_MODEL=stand-in-8b
model="${MLPERF_CACHE_DIR:?}/models/stand-in-8b-fp8"

prepare() {
    [[ -d $model ]] ||
        python3 -m mlperf_llama quantize --calibration "${ARTICLES:?}" --target "$model" >>"$out/log.txt" 2>&1
    cp "$model/quantization.json" "$out/"
    grep -h sha256 -A 5 "$model/quantization.json"
}

codes() {
    python3 "$root/benchmarks/gpu/measure_codes.py" "$MLPERF_CACHE_DIR"/models/stand-in-8b-1 "$model" \
        "${ARTICLES:?}" "$out" 2>"$out/codes.log" | tee -a "$out/log.txt"
}

compare() {
    python3 "$root/benchmarks/gpu/compare_models.py" "$model" "$out" --articles "${ARTICLES:?}" "$@" \
        2>"$out/engine.log" | tee -a "$out/log.txt"
}

failed() {
    tail -n 25 "$out"/*.log "$out/log.txt" 2>/dev/null | cut -c1-240
}

trap failed ERR
nvidia-smi --query-gpu=name,driver_version,power.limit,temperature.gpu --format=csv,noheader | tee "$out/card.txt"
case $stage in
    prepare) prepare ;;
    codes) codes ;;
    compare) compare "$@" ;;
    *) printf 'no such stage: %s\n' "$stage" >&2 && exit 2 ;;
esac
printf '%s: %d s\n' "$stage" "$SECONDS"
