#!/usr/bin/env bash
# Ten categories of checks, from the shell's syntax to the contract of the results, each PASS,
# FAIL or SKIP with its reason. What this machine lacks is skipped, never passed.
#
# Usage: ./test_pipeline.sh [WORD ...]     only the categories whose name holds a WORD
# Reads: MLPERF_VENV; a run of its own never sees the user's settings
# Exit codes: 0 none failed, 1 some failed, 2 usage, 3 the set-up failed, 130/143 interrupted
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

# Name, then the command that decides it: 0 passed, 3 something is missing here, else failed.
readonly CATEGORIES=(
    "shell syntax and lint|scripts/lint.sh shell"
    "Python syntax and types|scripts/lint.sh python"
    "settings|python python/tests/pipeline/check.py settings"
    "disk and memory|python python/tests/pipeline/check.py disk_and_memory"
    "network reach|python python/tests/pipeline/check.py network_reach"
    "Docker|python python/tests/pipeline/check.py container_engine"
    "GPU|python python/tests/pipeline/check.py gpu"
    "dataset chain|python python/tests/pipeline/check.py dataset_chain"
    "pipeline with the fake engine through every exit code|python python/tests/pipeline/check.py exit_codes"
    "results contract|python python/tests/pipeline/check.py results_contract"
)

# wanted NAME WORD...: no words, or one of them is in the name.
wanted() {
    local name=$1 word
    shift
    (($#)) || return 0
    for word in "$@"; do [[ $name != *"$word"* ]] || return 0; done
    return 1
}

# category NAME COMMAND...: one line with its result, and all its output when it failed.
category() {
    local name=$1 began=$SECONDS code=0 last
    shift
    run_child "$@" >"$PIPELINE_SCRATCH/output" 2>&1 || code=$?
    [[ -z $stopped ]] || exit "$stopped"
    last=$(tail -n 1 "$PIPELINE_SCRATCH/output")
    case $code in
        0)
            passed=$((passed + 1))
            printf '%s  %s: %s (%d s)\n' "$(paint 32 PASS)" "$name" "$last" $((SECONDS - began))
            ;;
        "$EXIT_MISSING")
            skipped=$((skipped + 1))
            printf '%s  %s (%s)\n' "$(paint 33 SKIP)" "$name" "$last"
            ;;
        *)
            failed=$((failed + 1))
            printf '%s  %s (code %d, %d s)\n' "$(paint 31 FAIL)" "$name" "$code" $((SECONDS - began))
            sed 's/^/      /' "$PIPELINE_SCRATCH/output"
            ;;
    esac
}

main() {
    local entry passed=0 failed=0 skipped=0
    local -a command
    cd "$root"
    [[ -t 1 ]] || export NO_COLOR=1 # the lines go to stdout
    trap_signals
    run_child scripts/native.sh --dev
    [[ -z $stopped ]] || exit "$stopped"
    PATH=$(setting VENV "$root/.venv")/bin:$PATH
    PIPELINE_SCRATCH=$(temporary_folder)
    export PATH PIPELINE_SCRATCH
    trap 'rm -rf "$PIPELINE_SCRATCH"' EXIT
    for entry in "${CATEGORIES[@]}"; do
        wanted "${entry%%|*}" "$@" || continue
        read -ra command <<<"${entry#*|}"
        category "${entry%%|*}" "${command[@]}"
    done
    ((passed + failed + skipped)) || die "$EXIT_USAGE" "no category's name holds one of: $*"
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0))
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
