#!/usr/bin/env bash
# Looks for races: runs unit tests many times while every core is busy, and lists the cases that
# failed, with how often. The output of each test binary that failed is kept.
# usage: tools/repeat_tests.sh BUILD_DIR TIMES [TEST_REGEX]     (regex: of ctest's names)
set -euo pipefail
build=${1:?usage: tools/repeat_tests.sh BUILD_DIR TIMES [TEST_REGEX]}
times=${2:?how many times}
regex=${3:-.}

busy=()
stop() { kill "${busy[@]}" 2>/dev/null || true; }
trap stop EXIT
for _ in $(seq "$(nproc)"); do
  (while :; do :; done) &
  busy+=($!)
done

# Name, folder and program of each test, which is a GoogleTest binary.
tests=$(ctest --test-dir "$build" --show-only=json-v1 -L unit -R "$regex" | python3 -c '
import json, sys
for test in json.load(sys.stdin)["tests"]:
    folder = next(p["value"] for p in test["properties"] if p["name"] == "WORKING_DIRECTORY")
    print(test["name"], folder, test["command"][0], sep="\t")')

failed=0
logs=$(mktemp -d)
while IFS=$'\t' read -r name folder program; do
  log=$logs/$name.log
  start=$SECONDS
  if (cd "$folder" && "$program" "--gtest_repeat=$times" --gtest_brief=1) >"$log" 2>&1 </dev/null; then
    printf '%-20s %s times ok, %s s\n' "$name" "$times" $((SECONDS - start))
    rm "$log"
  else
    failed=1
    printf '%-20s FAILED in %s times, %s s: %s\n' "$name" "$times" $((SECONDS - start)) "$log"
    # A binary that ended early says which case it was in nowhere but there.
    sed -n 's/^\[  FAILED  \] \([^ ,]*\).*ms).*/\1/p' "$log" | sort | uniq -c
  fi
done <<<"$tests"
exit $failed
