#!/usr/bin/env bash
# Every C++ file is as clang-format writes it.
set -uo pipefail
cd "$(dirname "$0")/../.."
if ./dev format --check; then
  echo "1 passed, 0 failed"
else
  echo "run ./dev format"
  echo "0 passed, 1 failed"
  exit 1
fi
