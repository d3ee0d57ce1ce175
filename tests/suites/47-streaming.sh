#!/usr/bin/env bash
# Streamed experts through the real binary: equal answers, damaged sidecars, kills, and the memory
# that `mach check` predicts against what the server takes.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
mach=${MACH_BIN:-build/dev/bin/mach}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
log=build/test-logs/streaming-parts.log
mkdir -p build/test-logs
{
  "$python" tests/cli/streaming.py "$mach" || echo "streaming.py failed"
  "$python" tests/cli/memory.py "$mach" || echo "memory.py failed"
} 2>&1 | tee "$log"
read -r passed failed < <(awk '/^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3; n++ }
  END { print p + 0, f + (n < 2) }' "$log")
echo "$passed passed, $failed failed"
((failed == 0))
