#!/bin/sh
# The explorer finds nothing, and what docs/reliability.md says of how much it went through is what it prints.
#   check_explored.sh EXPLORE DOCUMENT
"$1" || exit 1
said=$("$1" | sed -n 's/^all  *\([0-9]*\) states  *\([0-9]*\) executions$/\1 states, \2 executions/p')
grep -q "$said" "$2" && exit 0
echo "$2 must say: $said"
exit 1
