#!/usr/bin/env bash
# All GoogleTest binaries of a build, through ctest; counts single test cases.
# usage: 30-unit.sh [PRESET] [ctest argument ...]     (else the preset of MACH_BUILD_DIR)
set -uo pipefail
cd "$(dirname "$0")/../.."
preset=${1:-$(basename "${MACH_BUILD_DIR:-build/dev}")}
(($# == 0)) || shift

# The kernel variants that this machine has by the operating system's account. Tests of kernels loop
# over those that mach detects; one that it misses must fail, not go untested.
expected_isas() {
  if [ "$preset" = arm64 ]; then
    echo neon-dotprod  # qemu-user has it
    return
  fi
  local flags names=()
  flags=" $(grep -m1 -iE '^(flags|Features)' /proc/cpuinfo | cut -d: -f2) "
  has() {
    local flag
    for flag in "$@"; do
      [[ $flags == *" $flag "* ]] || return 1
    done
  }
  if has avx2 fma f16c; then
    names+=(avx2)
    if has avx512f avx512bw avx512dq avx512vl avx512_vnni; then
      names+=(avx512-vnni)
      ! has amx_tile amx_int8 || names+=(amx-int8)
    fi
  fi
  ! has asimddp || names+=(neon-dotprod)
  local IFS=,
  echo "${names[*]}"
}
export MACH_EXPECT_ISAS=${MACH_EXPECT_ISAS-$(expected_isas)}

[ "$preset" != arm64 ] || [ "$(uname -m)" = aarch64 ] || export MACH_EMULATED=1

results=$PWD/build/$preset/test-results
rm -rf "$results"
mkdir -p "$results"
GTEST_OUTPUT=xml:$results/ ctest --preset "$preset" -j "$(nproc)" --no-tests=error \
  --output-junit "$results/ctest.junit" "$@"
"${MACH_PYTHON:-python3}" tools/count_tests.py "$results"
