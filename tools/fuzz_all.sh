#!/usr/bin/env bash
# Runs every fuzz target of build/fuzz for some seconds each, as many at once as there are cores.
#
# Inputs: fuzz/corpus/TARGET/ (small files in the repository), what tools/make_fuzz_seeds.py makes
# from the golden checkpoints, and what earlier runs found (build/fuzz-corpus/TARGET/). An optional
# fuzz/dict/TARGET.dict is used. Crashing inputs land in build/fuzz-artifacts/, and so do those that
# take more than 10 seconds of the processor.
#
# usage: tools/fuzz_all.sh [SECONDS] [TARGET ...]       (60 seconds each is the scheduled run)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
(($# == 0)) || shift
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz_all.sh: '$seconds' is no number of seconds" >&2; exit 2; }

run_one() {
  local binary=$1 seconds=$2 target log status=0 options=()
  target=$(basename "$binary")
  log=build/fuzz-logs/$target.log
  local inputs=("build/fuzz-corpus/$target") dir
  mkdir -p "${inputs[0]}" build/fuzz-artifacts
  for dir in "fuzz/corpus/$target" "build/fuzz-seeds/$target"; do
    [[ ! -d $dir ]] || inputs+=("$dir")
  done
  [[ ! -f fuzz/dict/$target.dict ]] || options+=("-dict=fuzz/dict/$target.dict")
  # Whether a change lands should not be a matter of luck; runs by hand look elsewhere each time.
  [[ ${CI:-} != true ]] || options+=(-seed=1)
  local artifacts=build/fuzz-artifacts/$target-
  rm -f "$artifacts"slow-unit-*
  # By the clock an input may be slow because the machine is busy.
  "$binary" "${inputs[@]}" "${options[@]}" -max_total_time="$seconds" -timeout=120 \
    -report_slow_units=10 -rss_limit_mb=3072 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$artifacts" >"$log" 2>&1 </dev/null || status=$?
  local input
  for input in "$artifacts"slow-unit-*; do
    [[ -f $input ]] || continue
    if (ulimit -t 10 && "$binary" -timeout=1200 -artifact_prefix="$artifacts" "$input") \
      >>"$log" 2>&1 </dev/null; then
      rm "$input"
    else
      echo "$input takes more than 10 s of the processor" >>"$log"
      status=1
    fi
  done
  local runs
  runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
  if ((status != 0)) || [[ -z $runs || $runs == 0 ]]; then
    tail -n 40 "$log"
    echo "FAILED $target (exit status $status, $log)"
    return 1
  fi
  echo "ok     $target: $runs inputs in $seconds s"
}
export -f run_one

mapfile -t binaries < <(find build/fuzz -type f -name '*_fuzz' -perm -u+x | sort)
if (($#)); then
  wanted=" $* "
  selected=()
  for binary in "${binaries[@]}"; do
    [[ $wanted != *" $(basename "$binary") "* ]] || selected+=("$binary")
  done
  binaries=("${selected[@]}")
fi
((${#binaries[@]})) || { echo "fuzz_all.sh: no such target in build/fuzz; run ./dev build fuzz" >&2; exit 2; }

mkdir -p build/fuzz-logs
rm -rf build/fuzz-seeds
"${MACH_PYTHON:-python3}" tools/make_fuzz_seeds.py build/fuzz-seeds "${binaries[@]##*/}"
failed=0
printf '%s\0' "${binaries[@]}" |
  xargs -0 -P "$(nproc)" -I '{}' bash -c 'run_one "$1" "$2"' run_one '{}' "$seconds" || failed=1
((failed == 0)) || { echo "fuzz_all.sh: some target failed"; exit 1; }
echo "${#binaries[@]} targets, $seconds s each, no findings"
