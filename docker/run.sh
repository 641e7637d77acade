#!/usr/bin/env bash
# Runs a verb in the container as if it ran here: same folder, same user, same paths, so that what
# it prints on stdout means the same on the host. Builds the image first when it is absent or old.
#
# Usage: docker/run.sh [VERB] [FLAGS]
#   VERB  one of entrypoint.sh (default: run), shell, or prepare (only the image)
# Reads: MLPERF_IMAGE (then nothing is built), MLPERF_TARGET (default by nvidia-smi), MLPERF_DOCKER, MLPERF_CONTAINER_ARGS,
#   MLPERF_RESULTS_DIR, and what docker/options.sh and docker/build.sh read; passes on all settings
# Exit codes: the verb's, or 2 wrong setting, 3 no engine, 4 the build failed
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/host.sh
source "$root/scripts/host.sh"
# shellcheck source=docker/image.sh
source "$root/docker/image.sh"
# shellcheck source=scripts/pip.sh
source "$root/scripts/pip.sh"
# shellcheck source=docker/options.sh
source "$root/docker/options.sh"

# build_if_old: builds unless the image was made from just these files.
build_if_old() {
    if [[ -n $(setting IMAGE "") ]]; then return; fi
    if [[ $(label "$image" mlperf-llama.inputs) == "$(inputs)" ]]; then return; fi
    log "the image $image is absent or older than these files"
    MLPERF_TARGET=$target "$root/docker/build.sh"
}

# start ARGUMENT...: the container; it ends this script with the verb's code. Where the engine itself fails (125 to
# 127), it has said why; on a terminal it takes this script's place, and its code stays.
start() {
    local code=0
    if [[ -t 0 ]]; then exec "$docker" run "${options[@]}" "$@"; fi
    exec {input}<&0
    trap_signals
    run_child with_input "$docker" run "${options[@]}" "$@" || code=$?
    if ((code >= 125 && code <= 127)) && [[ -z $stopped ]]; then
        die "$EXIT_MISSING" "$docker could not start the container, see above (its code $code): CONTAINER_ARGS takes" \
            "other flags, for example --ulimit, and CONTAINER=0 runs natively"
    fi
    exit "$code"
}

# with_input COMMAND...: with our standard input, which a command in the background would lose.
with_input() {
    exec "$@" <&"$input"
}

main() {
    local target image docker results
    local -a options arguments
    docker=$(setting DOCKER docker)
    "$docker" info >/dev/null 2>&1 ||
        die "$EXIT_MISSING" "expected a $docker engine that answers, found none: start it, or CONTAINER=0"
    probe_gpu
    if [[ $gpu_state == failing && -z $(setting TARGET "") ]]; then
        die "$EXIT_MISSING" "expected a GPU that answers, found $gpu_failure: $REPAIR_GPU;" \
            "TARGET=cpu runs on the CPU"
    fi
    target=$(setting TARGET "$(if has_gpu; then printf cuda; else printf cpu; fi)")
    image=$(image_name "$target")
    build_if_old
    if [[ ${1:-} == prepare ]]; then return; fi
    results=$(folder RESULTS_DIR "$(setting RESULTS_DIR results)")
    options=(
        --rm
        --workdir "$PWD"
        --shm-size 8g # vLLM's workers hand tensors over through it; only what is used counts
        --cap-drop ALL
        --security-opt no-new-privileges
        --env "MLPERF_IMAGE_ID=$("$docker" image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)"
    )
    add_user
    add_gpus
    add_volumes
    add_environment
    if [[ -t 0 && -t 1 && -t 2 ]]; then options+=(--interactive --tty); fi
    # Further flags of the engine, by white space; of two of a kind it takes the last.
    read -ra arguments <<<"$(setting CONTAINER_ARGS "")"
    if [[ ${1:-} == shell ]]; then
        shift
        start --entrypoint /bin/bash "${arguments[@]}" "$image" "$@"
    fi
    add_network "$@"
    add_bind_mounts "$@"
    start "${arguments[@]}" "$image" "$@"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
