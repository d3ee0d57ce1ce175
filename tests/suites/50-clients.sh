#!/usr/bin/env bash
# The official Python and Node clients, unmodified, against a running server.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
mkdir -p build/test-logs
output=build/test-logs/clients-server.log
: >"$output"  # now, not when the server starts
"${MACH_BIN:-build/dev/bin/mach}" serve "${MACH_MODEL:-models/SmolLM2-135M-Instruct}" \
  --backend openai --port 0 >"$output" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server 2>/dev/null' EXIT

passed=0 failed=0
count() {
  if (($1 == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); echo "failed: $2"; fi
}
url=""
deadline=$((SECONDS + 300))
while [[ -z $url ]] && kill -0 $server 2>/dev/null && ((SECONDS < deadline)); do
  sleep 0.1
  url=$(sed -n 's/^serving on //p' "$output")
done
[[ -n $url ]]
count $? "the server did not become ready"
if [[ -n $url ]]; then
  "$python" -m pytest -q -p no:cacheprovider tests/clients --base-url "$url"
  count $? "tests/clients (Python)"
  (cd tests/clients && MACH_BASE_URL=$url npm test)
  count $? "tests/clients (Node)"
  examples/curl_smoke.sh "$url"
  count $? "examples/curl_smoke.sh"
  kill -TERM $server
  wait $server
  count $? "exit status after SIGTERM"
fi
echo "$passed passed, $failed failed"
((failed == 0))
