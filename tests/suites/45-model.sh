#!/usr/bin/env bash
# The real model against float32 logits of mlx-lm.
set -uo pipefail
cd "$(dirname "$0")/../.."
results=$PWD/build/test-logs/model-results
rm -rf "$results"
mkdir -p "$results"
GTEST_OUTPUT=xml:$results/ "${MACH_BUILD_DIR:-build/dev}/tests/models/smollm2_test"
"${MACH_PYTHON:-python3}" tools/count_tests.py "$results"
