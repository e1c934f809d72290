#!/bin/sh
# What shmccl-nccl-env prints: a shell reads it back, the plugin is where it says, odd calls are refused.
#   check_nccl_env.sh PROGRAM
set -eu
program=$1
unset NCCL_NET NCCL_NET_PLUGIN NCCL_COLLNET_ENABLE NCCL_ALGO LD_LIBRARY_PATH || true
fail() { echo "$1"; exit 1; }

text=$("$program") || fail "it fails"
(
  LD_LIBRARY_PATH=/before
  eval "$text"
  [ "$NCCL_NET_PLUGIN $NCCL_COLLNET_ENABLE $NCCL_NET_PLUGIN_REF_COUNT" = "shmccl 1 1" ] || fail "variables: $text"
  [ "${LD_LIBRARY_PATH#*:}" = /before ] || fail "the path that was set is lost: $LD_LIBRARY_PATH"
  [ -r "${LD_LIBRARY_PATH%%:*}/libnccl-net-shmccl.so" ] || fail "no plugin in $LD_LIBRARY_PATH"
  "$program" | grep -q LD_LIBRARY_PATH && fail "the linker finds it already: no need to say so"
  exit 0
)
[ -z "$("$program" 2>&1 >/dev/null)" ] || fail "it warns about nothing"
for setting in NCCL_NET=Socket NCCL_COLLNET_ENABLE=0 NCCL_ALGO=Ring; do
  env $setting "$program" 2>&1 >/dev/null | grep -q "${setting%=*}" || fail "no warning about $setting"
done
"$program" --help | grep -q usage || fail "--help"
if "$program" nonsense >/dev/null 2>&1; then fail "it takes any argument"; fi
if "$program" >/dev/full 2>/dev/null; then fail "it does not notice that it cannot write"; fi

# Alone, it says what is missing; its folder's name may be odd.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$program" "$folder/program"
if "$folder/program" >/dev/null 2>"$folder/said"; then fail "it invents a plugin"; fi
grep -q "install it" "$folder/said" || fail "no remedy"
odd="$folder/it's \$here/plugin"
mkdir -p "$odd" "$folder/it's \$here/tools/own"
cp "${program%/tools/*}/plugin/libnccl-net-shmccl.so" "$odd"
cp "$program" "$folder/it's \$here/tools/own/program"
eval "$("$folder/it's \$here/tools/own/program")"
[ "$LD_LIBRARY_PATH" = "$odd" ] || fail "quoting: $LD_LIBRARY_PATH"
