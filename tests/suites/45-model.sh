#!/usr/bin/env bash
# The real model against float32 logits of mlx-lm.
set -uo pipefail
cd "$(dirname "$0")/../.."
log=build/test-logs/smollm2_test.log
mkdir -p build/test-logs
"${MACH_BUILD_DIR:-build/dev}/tests/models/smollm2_test" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
passed=$(grep -c '^\[       OK \]' "$log")
failed=$(grep -c '^\[  FAILED  \] .*ms)$' "$log")
((status == 0 || failed > 0)) || failed=1  # it crashed
echo "$passed passed, $failed failed"
((failed == 0))
