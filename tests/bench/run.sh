#!/bin/sh
# A test in Python: skipped, with the reason, where there is none.
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
exec python3 -B "$@"  # no bytecode into the source tree
