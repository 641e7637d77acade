#!/usr/bin/env bash
# The shipped pipeline on a GPU, with random weights in the model's shape: full-length runs and tuning.
#
# Usage: benchmarks/gpu/acceptance.sh OUT STAGE...     inside host.sh, where the host has no network
#   offline      three whole passes of 13,368 samples, 600 s or more
#   interactive  tuned, confirmed by a run of 120 s or more
#   server       tuned, confirmed by a full-length run
#   NAME@QPS     server or interactive at that rate, a full-length run (600 s or more), not tuned
#   dynamic      a short Offline run with dynamic scales (no calibration data)
#   rouge        accuracy of the stand-in on ARTICLES, in 16 bits and in FP8
# Reads: ARTICLES (JSON Lines with article and highlights, for rouge)
# Writes: OUT/STAGE.tgz (the run folder without its largest logs), OUT/STAGE.log
# Exit codes: 0 every stage ended well, 1 one did not (the others still ran), 2 no such stage
set -Eeuo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:?a folder}"
shift
mkdir -p "$out"
failed=0

# pipeline NAME SETTING=VALUE... COMMAND...: with a results folder of its own, and what to keep of it.
pipeline() {
    local name=$1 code=0 results="${MLPERF_RESULTS_DIR:-/tmp/results}/$1" began=$SECONDS
    shift
    env MLPERF_RESULTS_DIR="$results" MLPERF_ENV_FILE=/dev/null MLPERF_DATASET_SOURCE=synthetic \
        "$@" >"$out/$name.log" 2>&1 || code=$?
    printf '%s: code %d, %d s\n' "$name" "$code" $((SECONDS - began)) | tee -a "$out/stages.txt"
    [[ $code -eq 0 ]] || failed=1
    tar -C "$results" --exclude mlperf_log_accuracy.json --exclude mlperf_log_trace.json --exclude latest \
        -czf "$out/$name.tgz" . || failed=1
}

fp8=(MLPERF_MODEL=random-fp8 MLPERF_MODE=performance)
for stage in "$@"; do
    case $stage in
        # 60 queries a second expected: 39,600 samples, rounded up to three passes.
        offline) pipeline offline "${fp8[@]}" MLPERF_SCENARIO=Offline MLPERF_TARGET_QPS=60 "$root/entrypoint.sh" run ;;
        interactive)
            pipeline interactive "${fp8[@]}" MLPERF_SCENARIO=Interactive MLPERF_SAMPLES=7200 MLPERF_DURATION_S=120 \
                MLPERF_TARGET_QPS=52 MLPERF_PROBE_S=40 "$root/entrypoint.sh" tune
            ;;
        server)
            pipeline server "${fp8[@]}" MLPERF_SCENARIO=Server MLPERF_TARGET_QPS=60 MLPERF_PROBE_S=64 \
                "$root/entrypoint.sh" tune
            ;;
        interactive@* | server@*)
            scenario="${stage%@*}"
            pipeline "${stage/@/-}" "${fp8[@]}" MLPERF_SCENARIO="${scenario^}" MLPERF_TARGET_QPS="${stage#*@}" \
                "$root/entrypoint.sh" run
            ;;
        dynamic)
            pipeline dynamic MLPERF_MODEL=random MLPERF_MODE=performance MLPERF_SCENARIO=Offline \
                MLPERF_SAMPLES=2000 MLPERF_DURATION_S=20 "$root/entrypoint.sh" run
            ;;
        rouge)
            for bits in bfloat16 fp8; do
                given='{}'
                [[ $bits == fp8 ]] || given='{"quantization": null, "kv_cache_dtype": "auto"}'
                pipeline "rouge-$bits" MLPERF_MODEL=stand-in MLPERF_DATASET_SOURCE="${ARTICLES:?}" \
                    MLPERF_SCENARIO=Offline MLPERF_MODE=accuracy MLPERF_ENGINE_ARGS="$given" "$root/entrypoint.sh" run
            done
            ;;
        *) printf 'no such stage: %s\n' "$stage" >&2 && exit 2 ;;
    esac
done
exit "$failed"
