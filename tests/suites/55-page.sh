#!/usr/bin/env bash
# The page at / in a headless Chromium, before the real server and before a scripted one.
set -uo pipefail
cd "$(dirname "$0")/../.."
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
exec "${MACH_PYTHON:-python3}" tests/page/page_test.py "${MACH_BIN:-build/dev/bin/mach}" \
  "${MACH_MODEL:-models/SmolLM2-135M-Instruct}"
