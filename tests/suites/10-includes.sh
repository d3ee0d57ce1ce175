#!/usr/bin/env bash
# Modules include only what they may; no source is too long; every test asserts something.
set -uo pipefail
cd "$(dirname "$0")/../.."
passed=0 failed=0
for check in check_includes check_assertions; do
  if "${MACH_PYTHON:-python3}" "tools/$check.py"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
((failed == 0))
