#!/usr/bin/env bash
# shmccl-soak as its user runs it: a few seconds, counts as JSON, an interrupted run, nonsense. soak.sh PROGRAM
set -u
soak=$1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; cat "$folder/out"; exit 1; }

"$soak" --seconds 4 --ranks 3 --json "$folder/soak.json" >"$folder/out" 2>&1 || fail "a run of four seconds"
grep -q '^seed [0-9]' "$folder/out" && grep -q ': passed$' "$folder/out" || fail "its report"
grep -q '"passed": true' "$folder/soak.json" && ! grep -q '"rounds": 0' "$folder/soak.json" || fail "its JSON"

"$soak" --seconds 300 --ranks 2 >"$folder/out" 2>&1 &
running=$!
for ((i = 0; i < 100; i++)); do
  grep -q '^seed' "$folder/out" && break
  sleep 0.1
done
sleep 1
kill -INT $running
wait $running || fail "exit status after an interruption"
grep -q ': passed$' "$folder/out" || fail "the report of an interrupted run"

for nonsense in "--seconds 0" "--ranks 1" "--ranks many" "--seed -1" "--frobnicate" "stray"; do
  "$soak" $nonsense >"$folder/out" 2>&1
  [ $? -eq 2 ] || fail "not refused: $nonsense"
done
"$soak" --help >"$folder/out" && grep -q -- --seconds "$folder/out" || fail "--help"
