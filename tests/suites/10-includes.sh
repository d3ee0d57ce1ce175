#!/usr/bin/env bash
# Modules include only what they may; no source is too long.
set -uo pipefail
cd "$(dirname "$0")/../.."
if "${MACH_PYTHON:-python3}" tools/check_includes.py; then
  echo "1 passed, 0 failed"
else
  echo "0 passed, 1 failed"
  exit 1
fi
