#!/usr/bin/env bash
# The memory that `mach check` predicts against what the server takes.
set -uo pipefail
cd "$(dirname "$0")/../.."
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
exec "${MACH_PYTHON:-python3}" tests/cli/memory.py "${MACH_BIN:-build/dev/bin/mach}"
