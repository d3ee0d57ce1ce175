#!/usr/bin/env bash
# Some of the published schemas of bench/real_schemas.py, under a random model through the server.
set -uo pipefail
cd "$(dirname "$0")/../.."
export MACH_BIN=${MACH_BIN:-build/dev/bin/mach} no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
exec "${MACH_PYTHON:-python3}" bench/real_schemas.py --real "" --every 6
