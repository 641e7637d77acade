#!/usr/bin/env bash
# Builds the image: its base first, then the target, from the lock files.
#
# Usage: docker/build.sh
# Reads: MLPERF_TARGET (cuda, the default, or cpu), MLPERF_IMAGE, MLPERF_DOCKER, MLPERF_CA_BUNDLE,
#   SSL_CERT_FILE, pip's settings (index, proxy, folders of wheels), http_proxy and its like
# Exit codes: 0 built, 2 wrong setting, 3 no engine that builds, 4 the build failed
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=docker/image.sh
source "$root/docker/image.sh"
# shellcheck source=scripts/pip.sh
source "$root/scripts/pip.sh"

# base_image: prints the base image to build on: the pinned one, or its likeness made here.
base_image() {
    local pinned name docker
    docker=$(setting DOCKER docker)
    pinned=$(sed -n 's/^ARG BASE=//p' "$root/docker/Dockerfile")
    name=${pinned%@*}
    if "$docker" image inspect "$pinned" >/dev/null 2>&1 || timeout 120 "$docker" pull --quiet "$pinned" >&2; then
        printf '%s' "$pinned"
        return
    fi
    log "base image: no registry gave $name"
    "$docker" image inspect "$name" >/dev/null 2>&1 || "$root/docker/local-base.sh" "$name"
    printf '%s' "$name"
}

# wheels_image: the first of pip's folders of wheels, as an image that the build mounts; prints its name.
wheels_image() {
    local folder
    for folder in $(pip_setting find-links); do
        folder=${folder#file://}
        if compgen -G "$folder/*.whl" >/dev/null; then
            log "wheels: those in $folder are offered to pip"
            "$client" build --quiet --tag mlperf-llama-wheels --file - "$folder" \
                <<<$'FROM scratch\nCOPY *.whl /' >/dev/null
            printf 'mlperf-llama-wheels'
            return
        fi
    done
    printf 'scratch'
}

# add_recipe: the Dockerfile and its ignore file. Podman builds one stage after the other, and before 4.4 it waits
# for ever where two mounts of a step lock their caches; BuildKit finds the ignore file beside the Dockerfile.
add_recipe() {
    if [[ $client == *podman* ]]; then
        sed 's/,sharing=locked//' "$root/docker/Dockerfile" >"$scratch/Dockerfile"
        # OCI's own format knows neither SHELL nor HEALTHCHECK.
        arguments+=(--format docker)
        arguments+=(--file "$scratch/Dockerfile" --ignorefile "$root/docker/Dockerfile.dockerignore")
    else
        arguments+=(--file "$root/docker/Dockerfile")
    fi
}

revision() {
    git -C "$root" describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null || true
}

# origin: where the source comes from, without a password that the address may carry.
origin() {
    git -C "$root" remote get-url origin 2>/dev/null | sed -E 's#^([a-z]+://)[^/@]*@#\1#' || true
}

main() {
    local target image ca name inputs code=0
    local -a arguments
    target=$(setting TARGET cuda)
    [[ $target == cpu || $target == cuda ]] || die "$EXIT_USAGE" "TARGET: expected cpu or cuda, found '$target'"
    image=$(image_name "$target")
    "$(setting DOCKER docker)" info >/dev/null 2>&1 ||
        die "$EXIT_MISSING" "no $(setting DOCKER docker) engine answers: start it, or run docker/engine.sh docker/build.sh"
    client=$(builder)
    ca=$(setting CA_BUNDLE "${SSL_CERT_FILE:-}")
    [[ -z $ca || -r $ca ]] || die "$EXIT_USAGE" "CA_BUNDLE: expected a readable file, found $ca"
    scratch=$(temporary_folder)
    trap 'rm -rf "$scratch"' EXIT
    pip_configuration >"$scratch/pip"
    inputs=$(inputs)
    export DOCKER_BUILDKIT=1
    arguments=(
        --target "$target"
        --tag "$image"
        --build-arg "BASE=$(base_image)"
        --build-arg "WHEELS=$(wheels_image)"
        --build-arg "REVISION=$(revision)"
        --build-arg "SOURCE=$(origin)"
        --label "mlperf-llama.inputs=$inputs"
        --secret "id=pip,src=$scratch/pip"
    )
    add_recipe
    [[ -z $ca ]] || arguments+=(--secret "id=ca,src=$ca")
    for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
        # By name: the value stays out of the command line, and BuildKit keeps it out of the image.
        [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name")
    done
    log "building $image ($target), minutes when nothing is cached"
    trap_signals
    run_child "$client" build "${arguments[@]}" "$root" >&2 || code=$?
    [[ -z $stopped ]] || exit "$stopped"
    ((code == 0)) || die "$EXIT_BROKE" "the build of $image failed, see above"
    # A client that was ended may have said nothing: the image itself must be there, and of these files.
    [[ $(label "$image" mlperf-llama.inputs) == "$inputs" ]] ||
        die "$EXIT_BROKE" "expected $client to leave the image $image, found none of these files: see above"
    log "built $image, $("$client" image inspect --format '{{.Size}}' "$image") bytes"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
