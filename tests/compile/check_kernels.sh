#!/bin/sh
# Compiles kernels with the given nvcc command and prints what they need; fails if one spills registers.
report=$("$@" -Xptxas -v 2>&1) || { echo "$report"; exit 1; }
echo "$report" | sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' | sort -n | uniq -c | sed 's/^ *\([0-9]*\) \(.*\)/\1 kernels use \2 registers/'
if echo "$report" | grep -E '(^| )[1-9][0-9]* bytes (stack frame|spill)'; then
  echo "a kernel keeps registers in memory: see above"
  exit 1
fi
