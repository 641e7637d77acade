#!/usr/bin/env bash
# Runs a command with a Docker engine: the one that answers, or one started for it and stopped after.
#
# Usage: docker/engine.sh COMMAND [ARGUMENTS]
# Reads: MLPERF_DOCKER. As root on Debian or Ubuntu it installs docker.io and debootstrap if need be.
# Exit codes: COMMAND's, or 2 usage, 3 no engine and none can be started here
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

readonly DEADLINE_S=60

engine_responds() {
    "$docker" info >/dev/null 2>&1
}

# provide: dockerd, and debootstrap beside it for a base image without a registry.
provide() {
    if type -P dockerd >/dev/null && type -P debootstrap >/dev/null; then return; fi
    type -P apt-get >/dev/null || die "$EXIT_MISSING" "no $docker engine answers and none is installed: install Docker"
    log "engine: installing docker.io and debootstrap"
    DEBIAN_FRONTEND=noninteractive apt-get update --quiet=2 >&2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends \
        docker.io debootstrap iptables ca-certificates >"$scratch/apt" 2>&1 ||
        die "$EXIT_MISSING" "docker.io cannot be installed: $(tail -n 1 "$scratch/apt")"
}

start() {
    local tries
    dockerd >"$scratch/dockerd" 2>&1 &
    engine=$!
    for ((tries = 0; tries < DEADLINE_S * 2; tries++)); do
        if engine_responds; then return; fi
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.5
    done
    tail -n 10 "$scratch/dockerd" >&2
    die "$EXIT_MISSING" "expected dockerd to answer within $DEADLINE_S s, see its last lines above"
}

finish() {
    if [[ -n $engine ]]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" || true
        log "engine: stopped"
    fi
    rm -rf "$scratch"
}

main() {
    (($#)) || die "$EXIT_USAGE" "usage: docker/engine.sh COMMAND [ARGUMENTS]"
    docker=$(setting DOCKER docker)
    if engine_responds; then exec "$@"; fi
    [[ $docker == docker && $EUID -eq 0 ]] ||
        die "$EXIT_MISSING" "no $docker engine answers: start it, or run this as root to have one started"
    engine=""
    scratch=$(temporary_folder)
    trap finish EXIT
    trap_signals
    provide
    start
    log "engine: none answered, so one was started (process $engine)"
    run_child "$@"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
