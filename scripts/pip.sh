#!/usr/bin/env bash
# The host's settings of pip, for a container. Sourced, never executed.
# Settings read: PIP_INDEX_URL and its like, and pip's own configuration. Exit codes: none of its own.

# What may matter in a container; constraints and caches of the host may not.
readonly PIP_NAMES="index-url extra-index-url trusted-host proxy timeout retries"

# pip_setting NAME: from the environment, else from pip's configuration.
pip_setting() {
    local variable=PIP_${1^^}
    variable=${variable//-/_}
    printf '%s' "${!variable:-$(python3 -m pip config get "global.$1" 2>/dev/null || true)}"
}

# pip_remote NAME: the same without words that name a place on the host's disk.
pip_remote() {
    local word
    local -a words=()
    for word in $(pip_setting "$1"); do
        [[ $word == file:* || $word == /* ]] || words+=("$word")
    done
    printf '%s' "${words[*]}"
}

# pip_configuration: as a configuration file.
pip_configuration() {
    local name value
    printf '[global]\n'
    for name in $PIP_NAMES; do
        value=$(pip_remote "$name")
        [[ -z $value ]] || printf '%s = %s\n' "$name" "$value"
    done
}
