#!/usr/bin/env bash
# Checks a running mach-serve with nothing but bash and curl: models, capabilities, chat with and
# without streaming, completions, statistics, errors. Exit 1 and one line for the first thing wrong.
#
#   examples/curl_smoke.sh http://127.0.0.1:8080 [API_KEY]
set -euo pipefail

url="${1:?usage: curl_smoke.sh URL [API_KEY]}"
url="${url%/}"
url="${url%/v1}"
key="${2:-local}"
passed=0

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# request METHOD PATH [BODY]: sets $status and $body.
request() {
  local method="$1" path="$2" reply
  local args=(-sS --max-time 120 -X "$method" -H "Authorization: Bearer $key" -w '\n%{http_code}')
  if [[ $# -gt 2 ]]; then
    args+=(-H 'Content-Type: application/json' --data-binary "$3")
  fi
  reply="$(curl "${args[@]}" "$url$path")" || fail "$method $path: no answer from $url"
  status="${reply##*$'\n'}"
  body="${reply%$'\n'*}"
}

# expect NAME STATUS TEXT...: the last reply has this status and holds each text.
expect() {
  local name="$1" want="$2" text
  shift 2
  [[ "$status" == "$want" ]] || fail "$name: status $status instead of $want: ${body:0:300}"
  for text in "$@"; do
    [[ "$body" == *"$text"* ]] || fail "$name: no '$text' in: ${body:0:300}"
  done
  passed=$((passed + 1))
  echo "ok  $name"
}

request GET /v1/models
expect 'models' 200 '"object":"list"' '"max_model_len"'
model="${body#*\"id\":\"}"
model="${model%%\"*}"
[[ -n "$model" ]] || fail "no model id in: $body"
echo "    model: $model"

request GET "/v1/models/$model"
expect 'one model' 200 "\"id\":\"$model\""
request GET /v1/capabilities
expect 'capabilities' 200 "\"model\":\"$model\"" '"serving"' '"effective_decode_path"' '"grammar"'

messages='"messages":[{"role":"user","content":"Say hello in five words."}],"max_tokens":24'
request POST /v1/chat/completions "{\"model\":\"$model\",$messages,\"temperature\":0}"
expect 'chat' 200 '"object":"chat.completion"' '"role":"assistant"' '"finish_reason":"' '"usage"'
whole="$body"

request POST /v1/chat/completions \
  "{\"model\":\"$model\",$messages,\"temperature\":0,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
expect 'chat stream' 200 'data: {' '"chat.completion.chunk"' '"delta":{"role":"assistant"' \
  '"choices":[],"usage"'
[[ "$body" == *'data: [DONE]'* ]] || fail 'chat stream: it does not end with [DONE]'

request POST /v1/chat/completions "{\"model\":\"$model\",$messages,\"temperature\":0}"
expect 'chat again' 200
strip() { sed -e 's/"id":"[^"]*"//' -e 's/"created":[0-9]*//' <<<"$1"; }
[[ "$(strip "$body")" == "$(strip "$whole")" ]] || fail 'chat again: the same request got another answer'

request POST /v1/completions "{\"model\":\"$model\",\"prompt\":\"Once upon a time\",\"max_tokens\":8}"
expect 'completion' 200 '"object":"text_completion"' '"text":"'

request GET /v1/stats
expect 'stats' 200 '"requests"' '"decode"' '"adaptive_block_policy"'
request GET /v1/cache/stats
expect 'cache stats' 200 '"prefix_cache"' '"streaming_summary"'
request GET /health
expect 'health' 200 '"status":"ok"'
request GET /metrics
expect 'metrics' 200 'mach_http_responses_total'

request POST /v1/chat/completions '{"messages":'
expect 'broken JSON' 400 '"type":"invalid_request_error"'
request POST /v1/chat/completions "{\"model\":\"$model\",\"messages\":[]}"
expect 'no messages' 400 '"param":"messages"'
request POST /v1/chat/completions "{\"model\":\"$model\",$messages,\"temperature\":-1}"
expect 'bad temperature' 400 '"param":"temperature"'
request POST /v1/chat/completions "{\"model\":\"no-such-model\",$messages}"
expect 'unknown model' 404 '"code":"model_not_found"'
request POST /v1/completions "{\"model\":\"$model\",\"prompt\":\"x\",\"max_tokens\":100000000}"
expect 'too long' 400 '"code":"context_length_exceeded"' "This model's maximum context length is"
request GET /v1/no-such-route
expect 'unknown route' 404 '"type":"invalid_request_error"'
request DELETE /v1/models
expect 'wrong method' 405 '"type":"invalid_request_error"'

echo "all $passed checks passed"
