#!/usr/bin/env bash
# Makes the virtual environment of the native path, or finds it finished (then quiet and quick).
#
# Usage: scripts/native.sh [--dev] [COMMAND ...]
#   --dev    adds the tools of `make lint` and `make test`
#   COMMAND  what to become then, with the environment's commands first on PATH
# Reads: MLPERF_VENV (default .venv), MLPERF_TARGET (cpu or cuda; default by nvidia-smi), MLPERF_HOSTS (ray adds Ray)
# Exit codes: 0 ready, 2 wrong setting, 3 no Python or a package cannot be had, 130/143 interrupted
#
# The stamp with the hash of everything that went in is written last, so an interrupted
# set-up is done again from the start; pip's own cache keeps what was downloaded.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/host.sh
source "$root/scripts/host.sh"
# shellcheck source=scripts/steps.sh
source "$root/scripts/steps.sh"

# build_of_target: as TARGET says, else by the GPU. One that fails changes no environment that is finished, and
# stands for no build of a new one.
build_of_target() {
    local target build
    target=$(setting TARGET "")
    case $target in
        cpu | cuda) printf '%s' "$target" ;;
        "")
            probe_gpu
            case $gpu_state in
                present) printf 'cuda' ;;
                none) printf 'cpu' ;;
                *)
                    for build in cuda cpu; do
                        if stamped base "$(fingerprint_of_build)"; then
                            printf '%s' "$build"
                            return
                        fi
                    done
                    die "$EXIT_MISSING" "expected a GPU that answers, found $gpu_failure: $REPAIR_GPU;" \
                        "TARGET=cpu sets up for the CPU"
                    ;;
            esac
            ;;
        *) die "$EXIT_USAGE" "TARGET: expected cpu or cuda, found '$target'" ;;
    esac
}

# refuse_other_build: a GPU that appeared or vanished empties no finished environment; TARGET says that it may.
refuse_other_build() {
    local wanted=$build build=cpu
    if [[ $wanted == cpu ]]; then build=cuda; fi
    if [[ -z $(setting TARGET "") ]] && stamped base "$(fingerprint_of_build)"; then
        die "$EXIT_USAGE" "TARGET: expected a $wanted environment by what nvidia-smi says, found a finished" \
            "$build one in $venv: TARGET=$build uses it, TARGET=$wanted makes it anew, VENV names another folder"
    fi
}

# fingerprint LOCK_FILE...: one word that changes with anything that went into the environment.
fingerprint() {
    (cd "$root" && cat "$@" scripts/environment.sh && printf '%s' "$venv" "$build") |
        sha256sum | cut -d ' ' -f 1
}

# fingerprint_of_build: that of the environment itself, without the developers' tools.
fingerprint_of_build() {
    fingerprint "locks/$build.lock" locks/torch-cpu.lock locks/tools.lock locks/loadgen.lock locks/vendored.lock
}

# stamped NAME FINGERPRINT: the environment works and was finished with just these files.
stamped() {
    [[ -x $venv/bin/python && -f $venv/.stamp-$1 && $(<"$venv/.stamp-$1") == "$2" ]]
}

# stamped_extras NAME...: so were these, which stand beside a build.
stamped_extras() {
    local name
    for name in "$@"; do
        stamped "$name" "$(fingerprint "locks/$name.lock")" || return
    done
}

# lock_venv: take the folder for us alone; a folder that we did not make is never emptied.
lock_venv() {
    if [[ -d $venv && ! -e $venv/.lock && -n $(ls -A "$venv") ]]; then
        die "$EXIT_USAGE" "VENV: expected no folder, or one made by this script, found $venv: name another"
    fi
    mkdir -p "$venv" || die "$EXIT_USAGE" "VENV: expected a folder that can be made, found $venv"
    require flock "so that two set-ups cannot meet"
    exec {lock}>>"$venv/.lock"
    if ! flock --nonblock "$lock"; then
        log "another set-up is at work in $venv; waiting for it"
        flock "$lock"
    fi
}

main() {
    local lock base
    local -a extras=()
    if [[ ${1:-} == --dev ]]; then
        extras+=(dev)
        shift
    fi
    if [[ $(setting HOSTS "") == ray ]]; then extras+=(ray); fi
    venv=$(realpath -m "$(setting VENV "$root/.venv")")
    build=$(build_of_target)
    base=$(fingerprint_of_build)
    if ! stamped base "$base"; then refuse_other_build; fi
    if ! stamped base "$base" || ! stamped_extras "${extras[@]}"; then
        lock_venv
        install_all "$base" "${extras[@]}"
    fi
    if (($#)); then PATH=$venv/bin:$PATH exec "$@"; fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
