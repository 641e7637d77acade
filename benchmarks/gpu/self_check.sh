#!/usr/bin/env bash
# The self-check of the kernels for Hopper on a GPU host, from nothing: figures of sound models and of faults.
#
# Usage: benchmarks/gpu/host.sh benchmarks/gpu/self_check.sh OUT [BUDGET_S]
#   OUT       folder for what compare_models.sh prepares and measure_self_check.py writes
#   BUDGET_S  of this script, default 540: a model's mutations that would begin later are left out
# Reads: ARTICLES (JSON Lines with article and highlights: calibration of the static scales)
# Exit codes: 0 both models passed and every fault was caught, 1 not, or the code of what failed before
set -Eeuo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:?a folder}" budget="${2:-540}" failed=0
"$root/benchmarks/gpu/compare_models.sh" "$out" prepare
export PYTHONPATH="$root/benchmarks/gpu:$root/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
models="${MLPERF_CACHE_DIR:?}/models"
# Few graphs: they take seconds to capture, and the self-check uses none.
engine='{"compilation_config": {"cudagraph_capture_sizes": [1, 8, 64]}}'

# measure KIND MODEL SECONDS
measure() {
    python3 "$root/benchmarks/gpu/measure_self_check.py" "$1" "$2" "$out" --engine "$engine" --budget-s "$3" \
        2>"$out/$1.log" | tee -a "$out/log.txt" || failed=1
    grep -E 'Error|Traceback' "$out/$1.log" | tail -n 20 | cut -c1-240 || true
}

measure static "$models/stand-in-8b-fp8" $(((budget - SECONDS) * 6 / 10))
measure dynamic "$models/stand-in-8b-1" $((budget - SECONDS))
printf 'self-check: %d s\n' "$SECONDS"
exit "$failed"
