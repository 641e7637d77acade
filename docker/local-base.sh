#!/usr/bin/env bash
# Makes the base image from Debian's packages, under the name the Dockerfile asks for, for
# machines that no registry answers. Much like Debian's own slim image: no documentation.
#
# Usage: docker/local-base.sh NAME:TAG     (the Dockerfile's BASE without its digest)
# Reads: MLPERF_DOCKER (docker or podman), http_proxy
# Exit codes: 0 the image is there, 2 usage, 3 debootstrap or root is missing, 4 it failed
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

readonly SUITE=bookworm
readonly MIRROR=http://deb.debian.org/debian
readonly SECURITY=http://deb.debian.org/debian-security

# slim DIR: what an image never reads goes, and dpkg leaves it out from now on.
slim() {
    cat >"$1/etc/dpkg/dpkg.cfg.d/slim" <<'LIST'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
LIST
    find "$1/usr/share/doc" ! -type d ! -name copyright -delete
    rm -rf "$1"/usr/share/{info,locale,man}/* "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/etc/{hostname,resolv.conf}
}

sources() {
    printf 'deb %s %s main\n' "$MIRROR" "$SUITE" "$MIRROR" "$SUITE-updates" "$SECURITY" "$SUITE-security"
}

main() {
    [[ $# -eq 1 && $1 == *:* && $1 != *@* ]] || die "$EXIT_USAGE" "usage: docker/local-base.sh NAME:TAG"
    require debootstrap "to make the base image without a registry; Debian, Ubuntu: apt install debootstrap"
    [[ $EUID -eq 0 ]] || die "$EXIT_MISSING" "expected root for debootstrap, found uid $EUID: use sudo, or a registry"
    scratch=$(temporary_folder)
    trap 'rm -rf "$scratch"' EXIT
    log "base image: $1 out of Debian's packages, about half a minute"
    debootstrap --variant=minbase "$SUITE" "$scratch/base" "$MIRROR" >"$scratch/log" 2>&1 || {
        tail -n 15 "$scratch/log" >&2
        die "$EXIT_BROKE" "debootstrap failed, see above: check the network and http_proxy"
    }
    sources >"$scratch/base/etc/apt/sources.list"
    slim "$scratch/base"
    tar --directory "$scratch/base" --numeric-owner --create . |
        "$(setting DOCKER docker)" import --message "debootstrap $SUITE" - "$1" >&2
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
