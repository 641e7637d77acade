#!/usr/bin/env bash
# Lint, format and types of everything we wrote; changes nothing.
#
# Usage: scripts/lint.sh [shell|python]     default: both; needs the tools of native.sh --dev on PATH
# Exit codes: 0 clean, 1 findings (shown), 3 a tool is missing
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

lint_shell() {
    local script
    local -a scripts=(*.sh scripts/*.sh scripts/chaos docker/*.sh benchmarks/gpu/*.sh .ci/run)
    require shellcheck "scripts/native.sh --dev installs it"
    require shfmt "scripts/native.sh --dev installs it"
    for script in "${scripts[@]}"; do bash -n "$script"; done
    shellcheck --external-sources "${scripts[@]}"
    shfmt --indent 4 --case-indent --diff "${scripts[@]}"
    log "shell: ${#scripts[@]} scripts clean"
}

lint_python() {
    require ruff "scripts/native.sh --dev installs it"
    require mypy "scripts/native.sh --dev installs it"
    ruff check python benchmarks >&2
    ruff format --check python benchmarks >&2
    mypy >&2
    log "Python: lint, format and types clean"
}

main() {
    cd "$root"
    case ${1:-all} in
        shell) lint_shell ;;
        python) lint_python ;;
        all)
            lint_shell
            lint_python
            ;;
        *) die "$EXIT_USAGE" "usage: scripts/lint.sh [shell|python]" ;;
    esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
