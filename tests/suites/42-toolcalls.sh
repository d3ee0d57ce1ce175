#!/usr/bin/env bash
# Calls and reasoning as models write them, through `mach parse`; what is detected of templates.
set -uo pipefail
cd "$(dirname "$0")/../.."
# ./dev setup test fetches package and archive.
exec "${MACH_PYTHON:-python3}" tests/cli/toolcalls.py "${MACH_BIN:-build/dev/bin/mach}" models/templates
