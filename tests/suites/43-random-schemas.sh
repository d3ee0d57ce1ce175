#!/usr/bin/env bash
# `mach grammar` against a validator, on random schemas.
set -uo pipefail
cd "$(dirname "$0")/../.."
exec "${MACH_PYTHON:-python3}" tests/grammar/random_schemas.py "${MACH_BIN:-build/dev/bin/mach}"
