#!/usr/bin/env bash
# Lists what an image holds, in CycloneDX's JSON: its Python packages (cyclonedx-py) and its Debian
# packages (debsbom). The tools run inside the image, from outside it, and see no network.
#
# Usage: docker/sbom.sh     stdout: the two files, in results/sbom
# Reads: MLPERF_TARGET (cuda, the default, or cpu), MLPERF_IMAGE, MLPERF_RESULTS_DIR, and what
#   docker/options.sh reads
# Exit codes: 0 done, 3 no image or no tool, 4 a tool failed
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=docker/lib.sh
source "$root/docker/lib.sh"
# shellcheck source=docker/host.sh
source "$root/docker/host.sh"
# shellcheck source=docker/image.sh
source "$root/docker/image.sh"
# shellcheck source=docker/pip.sh
source "$root/docker/pip.sh"
# shellcheck source=docker/options.sh
source "$root/docker/options.sh"

# inside ARGUMENT...: the image's Python with the caller's identity.
inside() {
    "$docker" run --rm --read-only --tmpfs /tmp:mode=1777 --entrypoint python "${options[@]}" \
        --env PYTHONPATH=/tools "$image" "$@"
}

tools() {
    local -a options=("${options[@]}" --volume "$scratch:/tools" --volume "$root/requirements-sbom.lock:/lock:ro")
    surroundings
    inside -m pip install --quiet --no-cache-dir --require-hashes --no-deps --target /tools -r /lock >&2 ||
        die "$EXIT_MISSING" "the tools in requirements-sbom.lock cannot be installed, see above"
}

main() {
    local target image docker results name
    local -a options=()
    docker=$(setting DOCKER docker)
    target=$(setting TARGET cuda)
    image=$(image_name "$target")
    "$docker" image inspect "$image" >/dev/null 2>&1 ||
        die "$EXIT_MISSING" "expected the image $image, found none: make build TARGET=$target"
    results=$(folder RESULTS_DIR "$(setting RESULTS_DIR results)/sbom")
    name=$results/$target
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    identity
    tools
    options+=(--network none --volume "$scratch:/tools:ro")
    inside -m cyclonedx_py environment /opt/venv/bin/python --output-format JSON >"$name.python.cdx.json" ||
        die "$EXIT_BROKE" "cyclonedx-py failed, see above"
    inside /tools/bin/debsbom generate --sbom-type cdx --root / --out - >"$name.debian.cdx.json" ||
        die "$EXIT_BROKE" "debsbom failed, see above"
    printf '%s\n' "$name.python.cdx.json" "$name.debian.cdx.json"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
