#!/bin/sh
# The names that symbols.def ($1) lists, one a line.
set -eu
tr -d '\n' <"$1" | grep -oE '(OWN_OTHER|OTHER)\( *[a-zA-Z_ *]+, *[A-Za-z0-9]+|(SYMBOL|OWN)\( *[A-Za-z0-9]+' |
  sed -E 's/.*[(,] *//' | grep -vE '^(name|result)$'
