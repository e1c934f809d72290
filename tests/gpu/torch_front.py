"""
What PyTorch users do, with whatever stands before NCCL; started by nccl-front. Not yet run on a GPU.

  torch_front.py one|several RANKS     one: all on the first GPU, each process as a host of its own

A DistributedDataParallel step against the same step on one rank, and all-reduces shaped like those of a tensor-parallel model:
130 of 10, 40 and 100 KiB bf16 in one CUDA graph (decode), 128 of 20 and 80 MB (prefill). Prints
"shape decode|prefill BYTES CALLS MICROSECONDS..." for the whole batch. Exit code 77: no PyTorch, or no CUDA in it.
"""
import sys

from torch_ranks import dist, main, torch

REPEATS = 5
DECODE = (130, (10 << 10, 40 << 10, 100 << 10))
PREFILL = (128, (20 * 10**6, 80 * 10**6))


def fail(rank, text):
    sys.exit(f'rank {rank}: {text}')


def check_ddp(rank, ranks):
    """Whole numbers: the mean of gradients over ranks is exact where there are 2 or 4."""
    torch.manual_seed(1)
    model = torch.nn.Linear(64, 32, bias=False, device='cuda')
    with torch.no_grad():
        model.weight.copy_(torch.randint(-3, 4, (32, 64), device='cuda').float())
    inputs = [torch.full((4, 64), float(r + 1), device='cuda') for r in range(ranks)]
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=[torch.cuda.current_device()])
    parallel(inputs[rank]).sum().backward()
    expected = sum(x.sum(0) for x in inputs).expand(32, 64) / ranks
    if not torch.equal(model.weight.grad, expected):
        fail(rank, 'the gradients of a DDP step are wrong')


def time_batch(call):
    """Microseconds, of the slowest rank."""
    numbers = []
    for _ in range(REPEATS):
        dist.barrier()
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        slowest = torch.tensor([start.elapsed_time(stop) * 1000], device='cuda')
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        numbers.append(slowest.item())
    return numbers


def time_shape(rank, ranks, name, calls, size):
    """Zeros stay zeros however often they are added; one element tells that something was added at all."""
    data = torch.zeros(size // 2, dtype=torch.bfloat16, device='cuda')
    data[-1] = 1
    dist.all_reduce(data)
    if data[-1].item() != ranks:
        fail(rank, f'all_reduce of {size} bytes is wrong')
    data.zero_()

    def batch():
        for _ in range(calls):
            dist.all_reduce(data)

    batch()
    torch.cuda.synchronize()
    call = batch
    if name == 'decode':
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # PyTorch's watchdog asks CUDA meanwhile
            batch()
        call = graph.replay
    numbers = time_batch(call)
    if rank == 0:
        print(f'shape {name} {size} {calls}', *(f'{n:.1f}' for n in numbers), flush=True)


def checks(rank, ranks):
    check_ddp(rank, ranks)
    for name, (calls, sizes) in (('decode', DECODE), ('prefill', PREFILL)):
        for size in sizes:
            time_shape(rank, ranks, name, calls, size)


if __name__ == '__main__':
    main(checks)
