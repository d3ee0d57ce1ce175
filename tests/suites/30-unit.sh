#!/usr/bin/env bash
# All GoogleTest binaries of a build, through ctest; counts single test cases.
# usage: 30-unit.sh [PRESET] [ctest argument ...]
set -uo pipefail
cd "$(dirname "$0")/../.."
preset=${1:-dev}
(($# == 0)) || shift
results=$PWD/build/$preset/test-results
rm -rf "$results"
mkdir -p "$results"
GTEST_OUTPUT=xml:$results/ ctest --preset "$preset" -j "$(nproc)" --no-tests=error \
  --output-junit "$results/ctest.junit" "$@"
"${MACH_PYTHON:-python3}" tools/count_tests.py "$results"
