#!/usr/bin/env bash
# In the container and natively: verb -> fallback chains of model and dataset -> one Python process.
#
# Usage: entrypoint.sh [VERB] [FLAGS]      default verb: run; entrypoint.sh --help lists the verbs
# Reads: everything in .env.example, through python/mlperf_llama/config.py
# Exit codes: scripts/lib.sh; stdout of `run`: the run folder's path, alone, last
# Over 120 lines: verbs, chains and signals share one state, the run folder and its Python.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

run_dir=""      # once `create-run` has made it
mlperf_llama=() # the command of our package, once `isolate` has made it

# step ARGUMENTS: one verb of ours; an interrupted one ends everything.
step() {
    local code=0
    [[ -z $stopped ]] || exit_interrupted "$stopped"
    debug "$*"
    run_child "${mlperf_llama[@]}" "$@" || code=$?
    debug "$1 ended with $code"
    if [[ $code -eq $EXIT_INT || $code -eq $EXIT_TERM ]]; then exit_interrupted "$code"; fi
    return "$code"
}

# exit_interrupted CODE: the run was interrupted; its folder says so.
exit_interrupted() {
    trap '' INT TERM
    set_status interrupted
    exit "$1"
}

# debug TEXT: a line where VERBOSITY asks for more.
debug() {
    [[ $verbosity != debug ]] || log "debug: $*"
}

# set_status STATUS: how the run ended, into its folder, where there is one.
set_status() {
    [[ -z $run_dir ]] ||
        "${mlperf_llama[@]}" finalize-run --run-dir "$run_dir" --status "$1" 2>/dev/null || true
}

# resumes: the command that goes on with this run.
resumes() {
    printf 'make resume RUN_DIR=%q' "$run_dir"
}

# hold_lock FOLDER: keep the file of its lock open. The steps find it and lock it (records/lock.py), and the
# lock stays with this process from one to the next.
hold_lock() {
    if [[ -f $1/config.json && -w $1 && ! -L $1/.lock && (! -e $1/.lock || -w $1/.lock) ]]; then exec 9<>"$1/.lock"; fi
}

# try_sources KIND SOURCE...: the first source that serves ends the chain; codes 3 and 4 step on.
try_sources() {
    local kind=$1 source code=$EXIT_MISSING tried=""
    shift
    while (($#)); do
        source=$1
        shift
        code=0
        step "$kind" "$source" --run-dir "$run_dir" || code=$?
        [[ $code -ne $EXIT_OK ]] || return 0
        tried+="${tried:+, }$source: $(meaning "$code") ($code)"
        if [[ $code -ne $EXIT_MISSING && $code -ne $EXIT_BROKE ]]; then break; fi
        if (($#)); then log "$kind chain: $source ended with $code ($(meaning "$code")); next: $1"; fi
    done
    set_status failed
    if ((code > 128)); then die "$code" "$kind $source was killed; $(resumes) goes on with the run"; fi
    die "$code" "no $kind could be had: $tried; provenance.json in $run_dir has the reasons"
}

run() {
    local line reader writer code=0
    local -a dataset_chain model_chain
    trap_signals
    # Through a pipe, which holds these few lines: there may be no folder for temporary files.
    coproc holder { cat; }
    reader=${holder[0]} writer=${holder[1]}
    step create-run "$@" >&"$writer" || exit $?
    exec {writer}>&-
    while IFS= read -r line; do
        case $line in
            run_dir=*) run_dir=${line#*=} ;;
            dataset_chain=*) read -ra dataset_chain <<<"${line#*=}" ;;
            model_chain=*) read -ra model_chain <<<"${line#*=}" ;;
        esac
    done <&"$reader"
    exec {reader}<&-
    hold_lock "$run_dir"
    # Said now: nothing is left to say it after a kill.
    log "run folder: $run_dir (to go on after an interruption: $(resumes))"
    # What a source prints is not the result, and stdout carries the result alone.
    try_sources model "${model_chain[@]}" >&2
    try_sources dataset "${dataset_chain[@]}" >&2
    [[ -z $stopped ]] || exit_interrupted "$stopped"
    exec "${mlperf_llama[@]}" execute --run-dir "$run_dir"
}

# submission FLAG...: the runs of a submission, then the tree; stdout: the tree's path.
submission() {
    trap_signals
    run_child "$root/entrypoint.sh" run --submission "$@" >&2 || exit $?
    exec "${mlperf_llama[@]}" pack "$@"
}

# isolate: Python imports from its environment and from here, whatever folders and start-up settings the
# caller's environment names. PACKAGES alone adds a folder, and is named in the verdict.
isolate() {
    local name packages
    packages=$(setting PACKAGES "")
    for name in $(compgen -e PYTHON); do
        case $name in
            PYTHONUNBUFFERED | PYTHONDONTWRITEBYTECODE | PYTHONHASHSEED | PYTHONUTF8 | PYTHONFAULTHANDLER) ;;
            *) unset "$name" ;;
        esac
    done
    export PYTHONPATH=$root/python${packages:+:$packages}
    mlperf_llama=("$python" -P -s -m mlperf_llama)
}

# asks_for_help ARGUMENT...: then nothing may start. argparse knows --help by any of its beginnings.
asks_for_help() {
    local word
    for word in "$@"; do
        if [[ $word =~ ^(-h|--h(e(lp?)?)?)$ ]]; then return 0; fi
    done
    return 1
}

main() {
    local verb=${1:-run}
    python=$(setting VENV "$root/.venv")/bin/python
    [[ -x $python ]] || python=python3 # in the image
    isolate
    debug "$root, $python, $verb, temporary files in ${TMPDIR:-/tmp}"
    if [[ $verb == help ]]; then set -- "${@:2}" --help; fi
    if asks_for_help "$@"; then exec "${mlperf_llama[@]}" "$@"; fi
    shift $(($# ? 1 : 0))
    case $verb in
        run) run "$@" ;;
        tune) run --tune "$@" ;;
        submission) submission "$@" ;;
        resume)
            (($# == 1)) || die "$EXIT_USAGE" "usage: entrypoint.sh resume FOLDER (of a run that ended early)"
            hold_lock "$1"
            run --resume "$1"
            ;;
        *) exec "${mlperf_llama[@]}" "$verb" "$@" ;;
    esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
