"""All-reduce of bfloat16 tensors on all GPUs of the job, eager and in a CUDA graph: time and bus bandwidth by size.

Run by torchrun. What NCCL does is chosen outside: NCCL_NET_PLUGIN, LD_PRELOAD. Every result is checked. Not yet run on a GPU.
"""
import os
import statistics
import sys

import torch
import torch.distributed as dist

SIZES = [10 << 10, 40 << 10, 100 << 10, 1 << 20, 5 << 20, 20 << 20, 80 << 20]  # decode and prefill, in bytes
ROUNDS, ITERATIONS = 5, 20


def measure(call):
    """Microseconds of one call: the median of ROUNDS means."""
    times = []
    for _ in range(ROUNDS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        dist.barrier()
        start.record()
        for _ in range(ITERATIONS):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / ITERATIONS)
    return statistics.median(times)


def captured(tensor):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # PyTorch's watchdog asks CUDA meanwhile
        dist.all_reduce(tensor)
    return graph.replay


def is_right(rank, ranks, elements):
    """Whole numbers below 256 are exact in bfloat16 while their sum is."""
    tensor = torch.full((elements,), float(rank + 1), dtype=torch.bfloat16, device="cuda")
    dist.all_reduce(tensor)
    return bool((tensor == ranks * (ranks + 1) // 2).all())


def main():
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    wrong = 0
    if rank == 0:
        print(f"# NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}, {ranks} ranks, {torch.cuda.get_device_name()}")
        print(f"# {'bytes':>10} {'eager us':>10} {'busbw GB/s':>10} {'graph us':>10} {'busbw GB/s':>10} wrong")
    for size in SIZES:
        tensor = torch.zeros(size // 2, dtype=torch.bfloat16, device="cuda")
        dist.all_reduce(tensor)
        right = is_right(rank, ranks, size // 2)
        eager = measure(lambda: dist.all_reduce(tensor))
        graph = measure(captured(tensor))
        wrong += not right
        if rank == 0:
            busbw = [2 * (ranks - 1) / ranks * size / us / 1000 for us in (eager, graph)]
            print(f"  {size:>10} {eager:>10.1f} {busbw[0]:>10.2f} {graph:>10.1f} {busbw[1]:>10.2f} {int(not right)}")
    dist.destroy_process_group()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
