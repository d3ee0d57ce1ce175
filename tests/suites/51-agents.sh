#!/usr/bin/env bash
# Clients and agents with tools, unmodified, against the server with a scripted model.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
export MACH_BUILD_DIR=${MACH_BUILD_DIR:-$PWD/build/release}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
mkdir -p build/test-logs
log=build/test-logs/agents-part.log

passed=0 failed=0
# count PASSED FAILED STATUS NAME: a part that ends badly has failed at least once.
count() {
  local bad=${2:-0}
  if (($3 != 0 && bad == 0)); then bad=1; fi
  passed=$((passed + ${1:-0})) failed=$((failed + bad))
  ((bad == 0)) || echo "failed: $4"
}
number() { grep -aoE "$1" "$log" | tail -n 1 | grep -oE '[0-9]+'; }

"$python" -m pytest -q -rs -p no:cacheprovider tests/agents >"$log" 2>&1
status=$?
cat "$log"
count "$(number '[0-9]+ passed')" "$(number '[0-9]+ (failed|error)')" $status "tests/agents (Python)"

(cd tests/agents && npm test) >"$log" 2>&1
status=$?
((status == 0)) || cat "$log"
count "$(number '^# pass [0-9]+')" "$(number '^# fail [0-9]+')" $status "tests/agents (Node)"

# AddressSanitizer keeps what was freed, 256 MB of it.
growth=16
[[ ${MACH_BUILD_DIR##*/} != asan ]] || growth=400
"$python" bench/serving_streams.py --minutes 0.2 --clients 32 --token-ms 30 --growth-mib $growth
status=$?
count $((status == 0)) 0 $status "bench/serving_streams.py"

echo "$passed passed, $failed failed"
((failed == 0))
