#!/usr/bin/env bash
# The official Python and Node clients, unmodified, against a running server.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${MACH_PYTHON:-python3}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port/v1
"${MACH_BIN:-build/dev/bin/mach}" serve "${MACH_MODEL:-models/SmolLM2-135M-Instruct}" \
  --backend openai --port "$port" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server 2>/dev/null' EXIT

passed=0 failed=0
count() {
  if (($1 == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); echo "failed: $2"; fi
}
ready=1
for _ in $(seq 300); do
  curl -sf --noproxy '*' "$url/models" >/dev/null && ready=0 && break
  kill -0 $server 2>/dev/null || break
  sleep 0.1
done
count $ready "the server did not become ready"
if ((ready == 0)); then
  "$python" -m pytest -q -p no:cacheprovider tests/clients --base-url "$url"
  count $? "tests/clients (Python)"
  (cd tests/clients && MACH_BASE_URL=$url npm test)
  count $? "tests/clients (Node)"
  examples/curl_smoke.sh "http://127.0.0.1:$port"
  count $? "examples/curl_smoke.sh"
  kill -TERM $server
  wait $server
  count $? "exit status after SIGTERM"
fi
echo "$passed passed, $failed failed"
((failed == 0))
