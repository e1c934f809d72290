#!/bin/sh
# In the benchmark's pod: shmccl-perf on the GPUs, eager and as CUDA graphs; then allreduce.py with NCCL as it is, with the
# plugin, with the front, and with CollNet. $1: how many GPUs.
set -eu
here=$(dirname "$0") gpus=$1
perf() { /opt/shmccl/bin/shmccl-perf --memory cuda --ranks "$gpus" -d bfloat16 -b 8K -e 64M -f 8 "$@" all_reduce all_gather; }
echo "== shmccl on $gpus GPUs"
perf
echo "== shmccl on $gpus GPUs, graphs"
perf -G 10
run() { torchrun --standalone --nproc-per-node "$gpus" "$here/allreduce.py"; }
echo "== NCCL alone"
NCCL_NET_PLUGIN=none run
echo "== with the plugin"
NCCL_NET_PLUGIN=/opt/shmccl/lib/libnccl-net-shmccl.so run
echo "== with the front"
NCCL_NET_PLUGIN=none LD_PRELOAD=/opt/shmccl/lib/libshmccl-nccl.so run
echo "== with the plugin's CollNet"
variables=$(/opt/shmccl/bin/shmccl-nccl-env)
eval "$variables"
run
