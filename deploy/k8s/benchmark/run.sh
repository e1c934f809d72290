#!/bin/sh
# In the benchmark's pod: allreduce.py twice, once with NCCL as it is, once with the plugin. $1: how many GPUs.
set -eu
here=$(dirname "$0")
echo "== shmccl on host memory, $1 ranks"
/opt/shmccl/bin/shmccl-perf --ranks "$1" -b 8K -e 64M -f 8 all_reduce all_gather
for plugin in none /opt/shmccl/lib/libnccl-net-shmccl.so; do
  echo "== NCCL_NET_PLUGIN=$plugin"
  NCCL_NET_PLUGIN=$plugin torchrun --standalone --nproc-per-node "$1" "$here/allreduce.py"
done
