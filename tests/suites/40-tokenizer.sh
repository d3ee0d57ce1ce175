#!/usr/bin/env bash
# Our tokeniser against Hugging Face `tokenizers` on real tokenizer.json files.
set -uo pipefail
cd "$(dirname "$0")/../.."
if "${MACH_PYTHON:-python3}" tests/parity/tokenizer_parity.py \
  --driver "${MACH_BUILD_DIR:-build/dev}/tests/text/tokenizer_driver"; then
  echo "1 passed, 0 failed"
else
  echo "0 passed, 1 failed"
  exit 1
fi
