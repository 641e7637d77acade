#!/usr/bin/env bash
# Gathers what a machine without a network needs into one folder: wheels, model, articles, calibration
# articles, MLCommons' checker, this checkout, and a checksum of each file. Started again it goes on.
#
# Usage: scripts/bundle.sh FOLDER
# Reads: MLPERF_TARGET (whose wheels), MODEL, DATASET_SOURCE, CALIBRATION, CATEGORY, INFERENCE_DIR and the
#   tokens, as a run reads them; pip's settings
# Exit codes: scripts/lib.sh; stdout: the folder
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

# fetch FOLDER REQUIREMENT...: files that are there and whole are not fetched again. rouge-score has no wheel.
fetch() {
    local folder=$1
    shift
    run_child "$python" -m pip download --disable-pip-version-check --no-input --quiet --no-deps \
        --no-build-isolation --only-binary :all: --no-binary rouge-score --dest "$folder" "$@" ||
        die "$EXIT_MISSING" "a package could not be had, see above; the same command goes on where this one ended"
}

# fetch_wheels FOLDER: of every lock file that the environment, the tests and the stand-in are made from.
fetch_wheels() {
    local folder=$1 version lock scratch
    if [[ $build == cpu ]]; then fetch_torch_cpu "$folder"; fi
    for lock in tools "$build" dev vendored; do
        log "wheels: locks/$lock.lock"
        fetch "$folder" --require-hashes -r "$root/locks/$lock.lock"
    done
    scratch=$(temporary_folder)
    lock=$scratch/loadgen.lock
    while read -r version; do
        log "wheels: LoadGen $version"
        pinned "mlcommons-loadgen==$version" "$root/locks/loadgen.lock" >"$lock"
        fetch "$folder" --require-hashes -r "$lock" </dev/null
    done < <(sed -n 's/^mlcommons-loadgen==\([^ ]*\).*/\1/p' "$root/locks/loadgen.lock")
    rm -rf "$scratch"
}

# fetch_torch_cpu FOLDER: from wherever pip looks, else from PyTorch's own index.
fetch_torch_cpu() {
    log "wheels: locks/torch-cpu.lock"
    "$python" -m pip download --disable-pip-version-check --no-input --quiet --no-deps --dest "$1" --require-hashes \
        -r "$root/locks/torch-cpu.lock" 2>/dev/null ||
        fetch "$1" --index-url "$TORCH_CPU_INDEX" --require-hashes -r "$root/locks/torch-cpu.lock"
}

# write_checkout FOLDER: this checkout as it is committed, and the checksums of its lock files.
write_checkout() {
    if git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
        git -C "$root" archive --format tar.gz --prefix mlperf-llama/ --output "$1/source.tar.gz" HEAD
        [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] ||
            warn "source.tar.gz is the last commit: changes since then are not in it"
    fi
    (cd "$root" && sha256sum locks/*.lock scripts/environment.sh) >"$1/locks.sha256"
}

# seal FOLDER: the checksum of every file, last: a bundle that has it is finished. Hashes that this machine
# remembers of its files (cache/sha256.json) mean nothing on another, and load.sh writes the caches' records anew.
seal() {
    rm -f "$1/SHA256SUMS" "$1/cache/sha256.json"
    log "checksums of $(du -sh "$1" | cut -f 1)"
    (
        cd "$1"
        find . -type f ! -name 'SHA256SUMS*' ! -name '*.lock' ! -name place ! -name .complete.json \
            ! -path './cache/dataset/*.json' -print0 | sort -z | xargs -0 sha256sum
    ) >"$1/SHA256SUMS.part"
    mv "$1/SHA256SUMS.part" "$1/SHA256SUMS"
}

main() {
    local folder
    (($# == 1)) && [[ -n $1 ]] || die "$EXIT_USAGE" "usage: scripts/bundle.sh FOLDER"
    folder=$(realpath -m "$1")
    cd "$root"
    run_child scripts/native.sh --dev >&2 || exit
    python=$(realpath -s "$(setting VENV "$root/.venv")")/bin/python
    build=$("$python" -c 'import torch; print("cuda" if torch.version.cuda else "cpu")')
    mkdir -p "$folder/wheels" || die "$EXIT_USAGE" "BUNDLE: expected a folder that can be made, found $folder"
    "$root/entrypoint.sh" gather --target "$folder" --build "$build" --sizes >&2
    trap_signals
    fetch_wheels "$folder/wheels" >&2
    run_child "$root/entrypoint.sh" gather --target "$folder" --build "$build" >&2 || exit
    write_checkout "$folder"
    seal "$folder"
    log "on the other machine: tar xf $folder/source.tar.gz, and there: make load BUNDLE=FOLDER"
    printf '%s\n' "$folder"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
