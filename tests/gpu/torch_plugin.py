"""
PyTorch's nccl backend with whatever net the environment gives NCCL; started by nccl-plugin. Not yet run on a GPU.

  torch_plugin.py one|several RANKS     one: all on the first GPU, each process as a host of its own

Checks all_reduce, all_gather_into_tensor, reduce_scatter_tensor, broadcast, two process groups and a CUDA graph of all_reduce;
prints "time all_reduce BYTES eager|graph MICROSECONDS..." as nccl_gpu does. Exit code 77: no PyTorch, or no CUDA in it.
"""
import sys

from torch_ranks import dist, main, torch

SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 24)
CALLS, BATCHES = 10, 5


def check(tensor, expected, what):
    if not torch.equal(tensor, expected.to(tensor.dtype).expand_as(tensor)):
        sys.exit(f'rank {dist.get_rank()}: {what} is wrong')


def pattern(rank, count):
    """Small whole numbers: any order of summation is exact."""
    return ((torch.arange(count, device='cuda') + rank) % 7).float()


def check_collectives(rank, ranks, count):
    parts = [pattern(r, count * ranks) for r in range(ranks)]
    mine, total = parts[rank], sum(parts)
    reduced, scattered, gathered = mine.clone(), torch.empty(count, device='cuda'), torch.empty(count * ranks * ranks, device='cuda')
    dist.all_reduce(reduced)
    check(reduced, total, 'all_reduce')
    dist.all_gather_into_tensor(gathered, mine)
    check(gathered, torch.cat(parts), 'all_gather_into_tensor')
    dist.reduce_scatter_tensor(scattered, mine)
    check(scattered, total[rank * count:(rank + 1) * count], 'reduce_scatter_tensor')
    sent = mine.clone()
    dist.broadcast(sent, src=ranks - 1)
    check(sent, parts[ranks - 1], 'broadcast')


def check_groups(rank, ranks):
    """A second group of all ranks in turn with the first."""
    second = dist.new_group(list(range(ranks)))
    for group in (dist.group.WORLD, second, dist.group.WORLD, second):
        data = pattern(rank, 10000)
        dist.all_reduce(data, group=group)
        check(data, sum(pattern(r, 10000) for r in range(ranks)), 'all_reduce in two groups')


def time_batches(call):
    """Microseconds a call, of the slowest rank."""
    numbers, line = [], torch.zeros(1, device='cuda')
    for _ in range(BATCHES):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        dist.all_reduce(line)
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        slowest = torch.tensor([start.elapsed_time(stop) * 1000 / CALLS], device='cuda')
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        numbers.append(slowest.item())
    return numbers


def time_all_reduce(rank, ranks, size):
    """MAX keeps what repeated calls start from."""
    data, expected = pattern(rank, size // 4), torch.stack([pattern(r, size // 4) for r in range(ranks)]).amax(0)

    def calls():
        for _ in range(CALLS):
            dist.all_reduce(data, op=dist.ReduceOp.MAX)

    calls()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # PyTorch's watchdog asks CUDA meanwhile
        calls()
    for mode, call in (('eager', calls), ('graph', graph.replay)):
        data.copy_(pattern(rank, size // 4))
        numbers = time_batches(call)
        check(data, expected, f'all_reduce, {mode}')
        if rank == 0:
            print(f'time all_reduce {size} {mode}', *(f'{n:.2f}' for n in numbers), flush=True)


def checks(rank, ranks):
    for count in (1, 1000, 300000):
        check_collectives(rank, ranks, count)
    check_groups(rank, ranks)
    for size in SIZES:
        time_all_reduce(rank, ranks, size)


if __name__ == '__main__':
    main(checks)
