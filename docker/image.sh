#!/usr/bin/env bash
# The image's name, what goes into it, and who can build it. Sourced after lib.sh, never executed.
# Settings read: MLPERF_IMAGE, MLPERF_DOCKER. Exit codes: 3 without a client that can build.
# shellcheck disable=SC2154  # $root is the sourcing script's

# image_name TARGET: the user's IMAGE, or ours.
image_name() {
    setting IMAGE "mlperf-llama:$1"
}

# inputs: one word that changes with anything that goes into the image.
inputs() {
    local -a files=(LICENSE Makefile docker entrypoint.sh locks pyproject.toml python/mlperf_llama run_all.sh scripts)
    (
        cd "$root" || exit
        find "${files[@]}" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d ' ' -f 1
}

# builder: the first client on PATH that can build with BuildKit: one with buildx, or one from
# before version 23, which has BuildKit itself.
builder() {
    local docker client version
    docker=$(setting DOCKER docker)
    while read -r client; do
        version=$("$client" version --format '{{.Client.Version}}' 2>/dev/null || true)
        if [[ $docker == *podman* ]] || "$client" buildx version >/dev/null 2>&1 ||
            [[ ${version%%.*} =~ ^(19|20)$ ]]; then
            printf '%s\n' "$client"
            return
        fi
    done < <(type -ap "$docker")
    die "$EXIT_MISSING" "expected a Docker client with buildx, found none:" \
        "install it (Debian: docker.io; Docker's own packages: docker-buildx-plugin), or podman with DOCKER=podman"
}

# label IMAGE NAME: a label's value; nothing without the image.
label() {
    "$(setting DOCKER docker)" image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true
}
