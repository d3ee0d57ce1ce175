#!/usr/bin/env bash
# `mach grammar` against the JSON Schema Test Suite.
set -uo pipefail
cd "$(dirname "$0")/../.."
exec "${MACH_PYTHON:-python3}" tests/grammar/json_schema_suite.py "${MACH_BIN:-build/dev/bin/mach}" \
  models/json-schema
