#!/usr/bin/env bash
# Our chat templates against transformers on real templates and on single language features.
set -uo pipefail
cd "$(dirname "$0")/../.."
# ./dev setup test fetches the archive.
if "${MACH_PYTHON:-python3}" tests/parity/templates_parity.py --archive models/templates \
  --driver "${MACH_BUILD_DIR:-build/dev}/tests/jinja/templates_driver"; then
  echo "1 passed, 0 failed"
else
  echo "0 passed, 1 failed"
  exit 1
fi
