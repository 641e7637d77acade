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

# image_python ARGUMENT...: the image's Python as the caller.
image_python() {
    "$docker" run --rm --read-only --tmpfs /tmp:mode=1777 --entrypoint python "${options[@]}" \
        --env PYTHONPATH=/tools "$image" "$@"
}

install_tools() {
    local -a options=("${options[@]}" --volume "$scratch:/tools" --volume "$root/locks/sbom.lock:/lock:ro")
    add_environment
    image_python -m pip install --quiet --no-cache-dir --require-hashes --no-deps --target /tools -r /lock >&2 ||
        die "$EXIT_MISSING" "the tools in locks/sbom.lock cannot be installed, see above"
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
    scratch=$(temporary_folder)
    trap 'rm -rf "$scratch"' EXIT
    add_user
    install_tools
    options+=(--network none --volume "$scratch:/tools:ro")
    image_python -m cyclonedx_py environment /opt/venv/bin/python --output-format JSON >"$name.python.cdx.json" ||
        die "$EXIT_BROKE" "cyclonedx-py failed, see above"
    image_python /tools/bin/debsbom generate --sbom-type cdx --root / --out - >"$name.debian.cdx.json" ||
        die "$EXIT_BROKE" "debsbom failed, see above"
    printf '%s\n' "$name.python.cdx.json" "$name.debian.cdx.json"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
