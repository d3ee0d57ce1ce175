#!/usr/bin/env bash
# Streamed experts through the real binary: equal answers, damaged sidecars, kills.
set -uo pipefail
cd "$(dirname "$0")/../.."
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
exec "${MACH_PYTHON:-python3}" tests/cli/streaming.py "${MACH_BIN:-build/dev/bin/mach}"
