#!/usr/bin/env bash
# The whole journey on a host: preflight, set-up or build, GPU check, every scenario and mode,
# verdict, report. Time-stamped; coloured on a terminal.
#
# Usage: ./run_all.sh
# Reads: everything in .env.example; SCENARIO and MODE default to all here
# Exit codes: scripts/lib.sh, the run's own; stdout: the run folder's path, alone, last
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/host.sh
source "$root/scripts/host.sh"

# stage NAME COMMAND...: its code; an interrupted one ends the journey.
stage() {
    local name=$1 began=$SECONDS code=0
    shift
    log "$(paint '1;36' "== $name")"
    run_child "$@" || code=$?
    if ((code)); then
        log "$(paint 33 "== $name ended with $code, $(meaning "$code")") ($((SECONDS - began)) s)"
    else
        log "$(paint 32 "== $name done") ($((SECONDS - began)) s)"
    fi
    [[ -z $stopped ]] || exit "$stopped"
    return "$code"
}

list_gpus() {
    if has_gpu; then
        nvidia-smi -L
    elif [[ $gpu_state == failing ]]; then
        printf '%s: %s\n' "$gpu_failure" "$REPAIR_GPU"
    else
        printf 'no NVIDIA GPU answers here: the run takes the CPU, and is never submittable\n'
    fi
}

main() {
    local code=0 output
    (($# == 0)) || die "$EXIT_USAGE" "usage: ./run_all.sh (settings: .env.example)"
    cd "$root"
    MLPERF_SCENARIO=$(setting SCENARIO all)
    MLPERF_MODE=$(setting MODE all)
    export MLPERF_SCENARIO MLPERF_MODE
    scratch=$(temporary_folder)
    output=$scratch/folder
    trap 'rm -rf "$scratch"' EXIT
    trap_signals
    # The doctor's findings are advice: what cannot work says so itself, with its own code.
    stage "preflight" scripts/launch.sh --native doctor >&2 || true
    stage "set-up" scripts/launch.sh prepare >&2
    stage "GPU check" list_gpus >&2
    stage "run: $MLPERF_SCENARIO, $MLPERF_MODE" scripts/launch.sh run >"$output" || code=$?
    [[ -s $output ]] || exit "$code" # no folder was created, so there is nothing to report
    stage "verdict" scripts/launch.sh verdict >&2
    stage "report" scripts/launch.sh report >&2
    log "$(meaning "$code") ($code), $SECONDS s in all"
    cat "$output"
    exit "$code"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
