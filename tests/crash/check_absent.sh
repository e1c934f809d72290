#!/bin/sh
# Usage: check_absent.sh NM FILE...: none of these files, which are shipped, has the points of src/base/points.h in it.
set -eu
nm=$1
shift
for file; do
  symbols=$("$nm" -a "$file")
  [ -n "$symbols" ] || { echo "$file: no symbols" && exit 1; }
  case $symbols in *shmi_point*) echo "$file calls shmi_point" && exit 1 ;; esac
done
