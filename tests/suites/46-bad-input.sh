#!/usr/bin/env bash
# Damaged checkpoints and wrong usage against the real binary.
set -uo pipefail
cd "$(dirname "$0")/../.."
exec "${MACH_PYTHON:-python3}" tests/cli/bad_input.py "${MACH_BIN:-build/dev/bin/mach}"
