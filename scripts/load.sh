#!/usr/bin/env bash
# Sets this checkout up from a bundle (scripts/bundle.sh), without a network: verifies every file, makes the
# environment out of its wheels, and names the rest in .env.
#
# Usage: scripts/load.sh FOLDER
# Reads: MLPERF_ENV_FILE, MLPERF_VENV
# Exit codes: scripts/lib.sh
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"
# shellcheck source=scripts/host.sh
source "$root/scripts/host.sh"

# verify FOLDER: every file is as it was bundled, and for this checkout.
verify() {
    [[ -f $1/SHA256SUMS && -f $1/bundle.env ]] ||
        die "$EXIT_USAGE" "BUNDLE: expected a folder that make bundle has finished, found $1"
    log "verifying $(wc -l <"$1/SHA256SUMS") files, $(du -sLh "$1" | cut -f 1)"
    (cd "$1" && sha256sum --quiet --check SHA256SUMS) >&2 ||
        die "$EXIT_MISSING" "BUNDLE: expected the files as they were bundled, found those above changed or" \
            "missing: copy $1 again, or run make bundle there again"
    sha256sum --quiet --check "$1/locks.sha256" >&2 ||
        die "$EXIT_USAGE" "BUNDLE: expected this checkout's lock files, found those above of another version:" \
            "work in the checkout out of $1/source.tar.gz, or make the bundle again"
}

# value NAME FOLDER: out of bundle.env.
value() {
    sed -n "s/^$1=//p" "$2/bundle.env"
}

# write_settings FOLDER: what stands in the bundle, for every later command. A setting that is there stays.
write_settings() {
    local file=${MLPERF_ENV_FILE:-.env} line name
    while IFS= read -r line; do
        line=${line//@BUNDLE@/$1}
        name=${line%%=*}
        if [[ -f $file ]] && grep -q "^[[:space:]]*${name}[[:space:]]*=" "$file"; then
            grep -qxF "$line" "$file" || warn "$file sets $name already: it stays; the bundle would set $line"
        else
            printf '%s\n' "$line" >>"$file"
        fi
    done < <(sed -n 's/^setting //p' "$1/bundle.env")
    log "$file names what the bundle holds: $(grep -c . "$file") lines"
}

main() {
    local folder python wanted version
    (($# == 1)) && [[ -n $1 ]] || die "$EXIT_USAGE" "usage: scripts/load.sh FOLDER"
    folder=$(realpath "$1" 2>/dev/null) || die "$EXIT_USAGE" "BUNDLE: expected a folder, found $1"
    cd "$root"
    verify "$folder"
    wanted=$(value python "$folder")
    python=$(find_python ensurepip 13 python3.11 python3.12 python3) || exit
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [[ $version == "$wanted" ]] ||
        die "$EXIT_MISSING" "expected Python $wanted, which the bundle's wheels are for, found $version ($python):" \
            "install python$wanted with venv, or make the bundle with Python $version"
    trap_signals
    PIP_NO_INDEX=1 PIP_FIND_LINKS=$folder/wheels PIP_EXTRA_INDEX_URL="" MLPERF_TARGET=$(value build "$folder") \
        run_child "$root/scripts/native.sh" --dev || exit
    "$root/entrypoint.sh" gather --target "$folder" --build "$(value build "$folder")" --settle
    write_settings "$folder"
    log "loaded: make run, make test-quick, make submission and make check need no network now"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
