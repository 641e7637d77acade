#!/usr/bin/env bash
# Everything of a plan in one call on a GPU host without a network: unpack, run, record.
#
# Usage: benchmarks/gpu/run.sh PLAN OUT [BUNDLE] [BUDGET_S]
#   PLAN    a file of benchmarks/gpu/plans
#   OUT     folder for results.jsonl, table.txt, log.txt, LoadGen's logs
#   BUNDLE  folder with bundle/unpack.py (vLLM for this host, if it is not installed) and
#           LoadGen's wheel; default .gpu
# Exit codes: 0, whatever a plan's entries did (the table names what failed); 2 no such plan
set -Eeuo pipefail

main() {
  local plan="${1:?a plan}" out="${2:?a folder}" bundle="${3:-.gpu}" budget="${4:-560}"
  local here site=/tmp/site loadgen=/tmp/loadgen wheel
  here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  [[ -f "$plan" ]] || exit 2
  mkdir -p "$out"
  nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader | tee "$out/card.txt"
  if ! python3 -c 'import vllm' 2>/dev/null && [[ -f "$bundle/bundle/unpack.py" ]]; then
    python3 "$bundle/bundle/unpack.py" --target "$site" >"$out/packages.txt"
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
  fi
  for wheel in "$bundle"/mlcommons_loadgen-*.whl; do
    [[ -f "$wheel" ]] || continue
    python3 -m zipfile -e "$wheel" "$loadgen/$(basename "$wheel" | cut -d- -f2)"
  done
  # Functions of the benchmark are called inside the engine's process.
  export VLLM_ALLOW_INSECURE_SERIALIZATION=1
  python3 "$here/main.py" "$plan" "$out" --budget-s "$budget" --loadgen-root "$loadgen"
}

main "$@"
