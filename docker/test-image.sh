#!/usr/bin/env bash
# Builds an image and tests it really: python/tests/image. Starts a Docker engine where none answers.
#
# Usage: docker/test-image.sh
# Reads: MLPERF_TARGET (cpu, the default, or cuda), CI, and what docker/build.sh reads
#   In CI the CUDA image is built too when what goes into it is not what docker/built-cuda.txt says.
# Exit codes: 0 passed, 1 a test failed, otherwise those of docker/engine.sh and docker/build.sh
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=docker/image.sh
source "$root/docker/image.sh"

readonly RECORD="$root/docker/built-cuda.txt"
# A value that only the secrets of the build hold, for the test that looks for it in the image.
# Made anew, since this file lies in the image too.
readonly CANARY=secret-canary-$RANDOM$RANDOM$RANDOM.invalid

# layers_hash: one word that changes with what the CUDA image is made of, our own code apart.
layers_hash() {
    (cd "$root" && cat docker/{Dockerfile,layer.sh,stand-in.sh} scripts/environment.sh locks/{cuda,loadgen,tools,vendored}.lock) |
        sha256sum | cut -d ' ' -f 1
}

# build_and_test TARGET: build, then test.
build_and_test() {
    local image layers
    image=$(image_name "$1")
    layers=$(layers_hash)
    PIP_TRUSTED_HOST="$(pip config get global.trusted-host 2>/dev/null || true) $CANARY" \
    MLPERF_TARGET=$1 "$root/docker/build.sh"
    IMAGE_UNDER_TEST=$image IMAGE_TARGET=$1 IMAGE_CANARY=$CANARY MLPERF_TARGET=cpu \
        "$root/scripts/native.sh" --dev python -m pytest -q "$root/python/tests/image"
    if [[ $1 == cuda ]]; then
        printf '%s\n' "layers $layers" "bytes $(docker image inspect --format '{{.Size}}' "$image")" >"$RECORD"
    fi
}

main() {
    if [[ ${1:-} != --engine-answers ]]; then
        exec "$root/docker/engine.sh" "$0" --engine-answers
    fi
    cd "$root"
    MLPERF_TARGET=cpu scripts/native.sh --dev hadolint docker/Dockerfile
    build_and_test "$(setting TARGET cpu)"
    if [[ -n ${CI:-} && $(setting TARGET cpu) == cpu && $(sed -n 's/^layers //p' "$RECORD") != "$(layers_hash)" ]]; then
        log "the CUDA image's layers changed since $(basename "$RECORD") was written: building it"
        build_and_test cuda
    fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
