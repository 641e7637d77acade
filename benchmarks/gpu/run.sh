#!/usr/bin/env bash
# Everything of a plan in one call on a GPU host without a network: unpack, run, record.
#
# Usage: benchmarks/gpu/run.sh PLAN OUT [BUDGET_S]
#   PLAN  a file of benchmarks/gpu/plans
#   OUT   folder for results.jsonl, table.txt, log.txt, LoadGen's logs
# Reads: what host.sh reads
# Exit codes: 0, whatever a plan's entries did (the table names what failed); 2 no such plan
set -Eeuo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
plan="${1:?a plan}" out="${2:?a folder}" budget="${3:-560}"
[[ -f $plan ]] || exit 2
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader | tee "$out/card.txt"
# Functions of the benchmark are called inside the engine's process.
export VLLM_ALLOW_INSECURE_SERIALIZATION=1
exec "$here/host.sh" python3 "$here/main.py" "$plan" "$out" --budget-s "$budget"
