#!/usr/bin/env bash
# Runs a program with the NCCL that SHMCCL_TEST_NCCL names, on the stand-in CUDA runtime. Exits with 77 where that cannot be.
#   SHMCCL_TEST_NCCL=.../libnccl.so.2 [SHMCCL_TEST_PLUGIN=.../libnccl-net-NAME.so] with_nccl.sh folder program [arguments...]
#     folder  where the build has the stand-in: libcudart.so.13, libnvidia-ml.so.1, libstandin_nccl_<28|30>.so
# With a plugin NCCL gets NCCL_NET_PLUGIN=NAME, as a user would set it, and finds the file.
# NCCL is found by the program as libnccl.so.2. Settings that are given in the environment stay as they are.
set -eu
skip() { echo "skipped: $*"; exit 77; }

folder=$1; shift
nccl=${SHMCCL_TEST_NCCL:-}
plugin=${SHMCCL_TEST_PLUGIN:-}
[ -n "$nccl" ] || skip "SHMCCL_TEST_NCCL names no libnccl.so.2"
[ -f "$nccl" ] || { echo "SHMCCL_TEST_NCCL=$nccl: there is no such file"; exit 1; }
readelf -d "$nccl" | grep -q 'NEEDED.*libcudart\.so\.13' || skip "$nccl does not link the CUDA 13 runtime dynamically"

LD_LIBRARY_PATH=$folder:$(dirname "$(realpath "$nccl")")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if [ -n "$plugin" ]; then
  name=${plugin##*/libnccl-net-}
  export NCCL_NET_PLUGIN=${name%.so}
  LD_LIBRARY_PATH=$(dirname "$plugin"):$LD_LIBRARY_PATH
fi
export LD_LIBRARY_PATH SHMCCL_TEST_NCCL
# Each offers itself for its own version.
export STANDIN_KERNELS=$folder/libstandin_nccl_28.so:$folder/libstandin_nccl_30.so
# Not emulated: PAT. LL128 is, but its place is NVLink.
export NCCL_PAT_ENABLE=${NCCL_PAT_ENABLE-0} NCCL_PROTO=${NCCL_PROTO-^LL128}
# Quiet and local.
export NCCL_RAS_ENABLE=${NCCL_RAS_ENABLE-0} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME-lo}
export NCCL_IGNORE_CPU_AFFINITY=${NCCL_IGNORE_CPU_AFFINITY-1}
exec "$@"
