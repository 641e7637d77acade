#!/usr/bin/env bash
# In the container and natively: verb -> chains of model and dataset -> one Python process.
#
# Usage: entrypoint.sh [VERB] [FLAGS]      default verb: run; entrypoint.sh --help lists the verbs
# Reads: everything in .env.example, through python/mlperf_llama/config.py
# Exit codes: docker/lib.sh; stdout of `run`: the run folder's path, alone, last
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/lib.sh
source "$root/docker/lib.sh"

run_dir="" # once `create-run` has made it

# step ARGUMENTS: one verb of ours; an interrupted one ends everything.
step() {
    local code=0
    [[ -z $stopped ]] || leave "$stopped"
    attend "$python" -m mlperf_llama "$@" || code=$?
    if [[ $code -eq $EXIT_INT || $code -eq $EXIT_TERM ]]; then leave "$code"; fi
    return "$code"
}

# leave CODE: the run was interrupted; its folder says so.
leave() {
    trap '' INT TERM
    mark interrupted
    exit "$1"
}

mark() {
    [[ -z $run_dir ]] || "$python" -m mlperf_llama finalize-run --run-dir "$run_dir" --status "$1" 2>/dev/null || true
}

# walk KIND RUNG...: the first rung that serves ends the chain; codes 3 and 4 step on.
walk() {
    local kind=$1 rung code=$EXIT_MISSING tried=""
    shift
    while (($#)); do
        rung=$1
        shift
        code=0
        step "$kind" "$rung" --run-dir "$run_dir" || code=$?
        [[ $code -ne $EXIT_OK ]] || return 0
        tried+="${tried:+, }$rung: $(meaning "$code") ($code)"
        if [[ $code -ne $EXIT_MISSING && $code -ne $EXIT_BROKE ]]; then break; fi
        if (($#)); then log "$kind chain: $rung ended with $code ($(meaning "$code")); next: $1"; fi
    done
    mark failed
    die "$code" "no $kind could be had: $tried; provenance.json in $run_dir has the reasons"
}

# submission FLAG...: the runs of a submission, then the tree; stdout: the tree's path.
submission() {
    heed
    attend "$root/entrypoint.sh" run --submission "$@" >&2 || exit $?
    exec "$python" -m mlperf_llama pack
}

run() {
    local opened line code=0
    local -a dataset_chain model_chain
    heed
    opened=$(mktemp)
    # shellcheck disable=SC2064  # the name as it is now
    trap "rm -f '$opened'" EXIT
    step create-run "$@" >"$opened" || exit $?
    while IFS= read -r line; do
        case $line in
            run_dir=*) run_dir=${line#*=} ;;
            dataset_chain=*) read -ra dataset_chain <<<"${line#*=}" ;;
            model_chain=*) read -ra model_chain <<<"${line#*=}" ;;
        esac
    done <"$opened"
    # Without a folder it only printed help.
    [[ -n $run_dir ]] || exec cat "$opened"
    rm -f "$opened"
    # What a rung prints is not the result, and stdout carries the result alone.
    walk model "${model_chain[@]}" >&2
    walk dataset "${dataset_chain[@]}" >&2
    [[ -z $stopped ]] || leave "$stopped"
    exec "$python" -m mlperf_llama execute --run-dir "$run_dir"
}

main() {
    python=$(setting VENV "$root/.venv")/bin/python
    [[ -x $python ]] || python=python3 # in the image
    export PYTHONPATH=$root/python${PYTHONPATH:+:$PYTHONPATH}
    case ${1:-run} in
        run)
            shift $(($# ? 1 : 0))
            run "$@"
            ;;
        submission)
            shift
            submission "$@"
            ;;
        tune)
            shift
            run --tune "$@"
            ;;
        resume)
            (($# == 2)) || die "$EXIT_USAGE" "usage: entrypoint.sh resume FOLDER (of a run that ended early)"
            run --resume "$2"
            ;;
        *) exec "$python" -m mlperf_llama "$@" ;;
    esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
