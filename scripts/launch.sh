#!/usr/bin/env bash
# Runs a verb in the container or natively, and says on stderr which and why.
#
# Usage: scripts/launch.sh [--native] VERB [FLAGS]
#   --native  never in the container
#   VERB      prepare (build the image or make the environment), shell, or one of entrypoint.sh
# Reads: MLPERF_CONTAINER (auto, 1 or 0), MLPERF_DOCKER (docker or podman), MLPERF_HOSTS, and what
#   docker/run.sh, scripts/native.sh and entrypoint.sh read
# Exit codes: scripts/lib.sh
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/host.sh
source "$root/scripts/host.sh"

# obstacle: prints why the container cannot be used with a GPU; nothing when it can.
obstacle() {
    local docker
    docker=$(setting DOCKER docker)
    if [[ -n $(setting HOSTS "") ]]; then
        printf 'HOSTS=%s is reached from here' "$(setting HOSTS "")"
    elif [[ $gpu_state == failing ]]; then
        printf '%s: %s' "$gpu_failure" "$REPAIR_GPU"
    elif [[ $gpu_state == none ]]; then
        printf 'no NVIDIA GPU answers here'
    elif ! command -v "$docker" >/dev/null; then
        printf '%s is not installed' "$docker"
    elif ! "$docker" info >/dev/null 2>&1; then
        printf 'no %s engine answers' "$docker"
    elif ! type -P nvidia-ctk >/dev/null && ! type -P nvidia-container-runtime-hook >/dev/null; then
        printf 'the NVIDIA Container Toolkit is not installed'
    fi
}

# doctor ARGUMENTS: with the environment's Python, or with any other: it needs no package, and installs nothing.
doctor() {
    local python
    if "$(setting VENV "$root/.venv")/bin/python" -c "" 2>/dev/null; then exec "$root/entrypoint.sh" "$@"; fi
    python=$(find_python sys 99 python3.11 python3.12 python3 python3.{13..15}) || exit
    PYTHONPATH=$root/python exec "$python" -P -s -m mlperf_llama "$@"
}

main() {
    local choice reason=""
    choice=$(setting CONTAINER auto)
    if [[ ${1:-} == --native ]]; then
        shift
        choice=0
    fi
    case $choice in
        1) reason="CONTAINER=1 asks for it" ;;
        0) ;;
        auto)
            probe_gpu
            reason=$(obstacle)
            if [[ -z $reason ]]; then
                choice=1
                reason="a $(setting DOCKER docker) engine and an NVIDIA GPU are here"
            else
                log "natively: $reason (CONTAINER=1 forces the container)"
            fi
            ;;
        *) die "$EXIT_USAGE" "CONTAINER: expected auto, 1 or 0, found '$choice'" ;;
    esac
    if [[ $choice == 1 ]]; then
        log "in the container: $reason (CONTAINER=0 forces the native path)"
        exec "$root/docker/run.sh" "$@"
    fi
    if [[ ${1:-} == doctor ]]; then doctor "$@"; fi
    trap_signals
    run_child "$root/scripts/native.sh" >&2
    [[ -z $stopped ]] || exit "$stopped"
    case ${1:-} in
        prepare) ;;
        shell) exec "$root/scripts/native.sh" "${SHELL:-bash}" ;;
        *) exec "$root/entrypoint.sh" "$@" ;;
    esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
