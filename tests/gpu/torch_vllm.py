"""
Tensor parallelism as vLLM does it, with PyTorch and without vLLM; started by nccl-front. On GPUs not yet run.

  torch_vllm.py one|several|cpu RANKS     one: all on the first GPU, each process as a host of its own; cpu: with Gloo

The groups, ids and calls of vLLM's start-up: PyTorch's process groups, and a communicator of pynccl's (ctypes, from the file that
VLLM_NCCL_SO_PATH names, else PyTorch's NCCL) with its warm-up. Then a transformer of two layers whose heads and hidden units are
divided over the ranks: its output must be that of one rank that has them all, eager and from CUDA graphs, for prompts and for
single tokens. On the CPU all-reduces are Gloo's and nothing is captured: that checks the model. Exit code 77: no PyTorch, no CUDA.
"""
import ctypes
import math
import os
import sys

from torch_ranks import dist, main, torch

HIDDEN, HEADS, INNER, LAYERS = 512, 8, 2048, 2
PROMPT, BATCHES, REPLAYS = 96, (4, 1), 3
SUM, NCCL_TYPES = 0, {torch.float32: 7, torch.bfloat16: 9}


def fail(text):
    sys.exit(f'rank {dist.get_rank()}: {text}')


# ---- communicators -------------------------------------------------------------------------------------------------


class UniqueId(ctypes.Structure):
    _fields_ = [('internal', ctypes.c_byte * 128)]


class PyNccl:
    """vLLM's PyNcclCommunicator: id by a group of the CPU's, by value; an all-reduce of one element to warm up."""

    def __init__(self, cpu_group):
        rank, ranks = dist.get_rank(cpu_group), dist.get_world_size(cpu_group)
        self.nccl = ctypes.CDLL(os.environ.get('VLLM_NCCL_SO_PATH') or 'libnccl.so.2')
        self.nccl.ncclGetErrorString.restype = ctypes.c_char_p
        self.nccl.ncclCommInitRank.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, UniqueId, ctypes.c_int]
        self.nccl.ncclAllReduce.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                            ctypes.c_void_p, ctypes.c_void_p]
        self.nccl.ncclCommDestroy.argtypes = [ctypes.c_void_p]
        unique, self.comm = UniqueId(), ctypes.c_void_p()
        if rank == 0:
            self.check(self.nccl.ncclGetUniqueId(ctypes.byref(unique)))
        wire = torch.frombuffer(bytearray(bytes(unique)), dtype=torch.uint8)
        dist.broadcast(wire, src=0, group=cpu_group)
        unique = UniqueId.from_buffer_copy(bytes(wire.tolist()))
        self.check(self.nccl.ncclCommInitRank(ctypes.byref(self.comm), ranks, unique, rank))
        one = torch.ones(1, device='cuda')
        self.all_reduce(one)
        torch.cuda.synchronize()
        if one.item() != ranks:
            fail('the warm-up is wrong')

    def check(self, result):
        if result:
            fail(self.nccl.ncclGetErrorString(result).decode())

    def all_reduce(self, tensor):
        self.check(self.nccl.ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), NCCL_TYPES[tensor.dtype], SUM,
                                           self.comm, torch.cuda.current_stream().cuda_stream))

    def destroy(self):
        self.check(self.nccl.ncclCommDestroy(self.comm))


class Gloo:
    def all_reduce(self, tensor):
        dist.all_reduce(tensor)

    def destroy(self):
        pass


def tensor_parallel_group(rank, ranks, device):
    """World, tensor, pipeline and data parallel groups, each twice: for tensors, and Gloo's for what hosts tell each other. Those
    of one rank are made and not used, as there."""
    tensor, cpu = (dist.new_group(list(range(ranks)), backend=b) for b in (None, 'gloo'))
    for _ in ('pipeline', 'data'):
        for r in range(ranks):
            dist.new_group([r])
            dist.new_group([r], backend='gloo')
    total = torch.ones(1, device=device)
    dist.all_reduce(total, group=tensor)
    if total.item() != ranks:
        fail("PyTorch's all_reduce is wrong")
    return PyNccl(cpu) if device == 'cuda' else Gloo()


# ---- the model -----------------------------------------------------------------------------------------------------


def part(weight, dimension, rank, ranks):
    return weight.chunk(ranks, dimension)[rank].contiguous()


class Layer:
    """The part of one rank. Columns of what comes first and rows of what comes last are divided, so each half of a layer ends with
    one sum over the ranks."""

    def __init__(self, generator, rank, ranks, device, dtype):
        def weights(inputs, outputs):
            return (torch.randn(inputs, outputs, generator=generator) / math.sqrt(inputs)).to(device, dtype)

        self.heads = HEADS // ranks
        self.query, self.key, self.value, up = (part(weights(HIDDEN, n), 1, rank, ranks) for n in (HIDDEN,) * 3 + (INNER,))
        self.output, self.up, self.down = part(weights(HIDDEN, HIDDEN), 0, rank, ranks), up, part(weights(INNER, HIDDEN), 0, rank, ranks)

    def attend(self, x):
        batch, length, _ = x.shape
        q, k, v = ((x @ w).view(batch, length, self.heads, -1).transpose(1, 2) for w in (self.query, self.key, self.value))
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(HIDDEN // HEADS)
        hidden = torch.ones(length, length, device=x.device).triu(1).bool()
        mixed = scores.masked_fill(hidden, -math.inf).softmax(-1).to(x.dtype) @ v
        return mixed.transpose(1, 2).reshape(batch, length, -1) @ self.output

    def __call__(self, x, reduce):
        x = x + reduce(self.attend(normal(x)))
        return x + reduce(torch.nn.functional.gelu(normal(x) @ self.up) @ self.down)


def normal(x):
    return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def model(rank, ranks, device, dtype):
    """The same weights whatever is divided."""
    generator = torch.Generator().manual_seed(7)
    return [Layer(generator, rank, ranks, device, dtype) for _ in range(LAYERS)]


def run(layers, x, reduce):
    for layer in layers:
        x = layer(x, reduce)
    return x


# ---- checks --------------------------------------------------------------------------------------------------------


def capture(layers, x, reduce):
    """A replay function, and where its output is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run(layers, x, reduce)  # cuBLAS allocates
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # PyTorch's watchdog asks CUDA meanwhile
        output = run(layers, x, reduce)
    return graph.replay, output


def compare(got, expected, what):
    """Sums over ranks are rounded otherwise than a product over all columns."""
    worst = (got - expected).abs().max().item() / expected.abs().max().item()
    if not worst < (2e-2 if got.dtype == torch.bfloat16 else 1e-5):
        fail(f'{what}: differs by {worst} of the largest element')


def checks(rank, ranks):
    device = 'cuda' if dist.get_backend() == 'nccl' else 'cpu'
    dtype = torch.bfloat16 if device == 'cuda' else torch.float32
    comm = tensor_parallel_group(rank, ranks, device)

    def reduce(tensor):
        comm.all_reduce(tensor)
        return tensor

    divided, whole = model(rank, ranks, device, dtype), model(0, 1, device, dtype)
    generator = torch.Generator().manual_seed(11)
    for batch, length in [(1, PROMPT), *((b, 1) for b in BATCHES)]:
        x = torch.randn(batch, length, HIDDEN, generator=generator).to(device, dtype)
        eager, expected = run(divided, x, reduce), run(whole, x, lambda tensor: tensor)
        compare(eager, expected, f'eager, {batch} x {length}')
        if device == 'cpu':
            continue
        replay, output = capture(divided, x, reduce)
        for _ in range(REPLAYS):
            output.zero_()
            replay()
            compare(output, expected, f'captured, {batch} x {length}')
            if os.environ.get('VLLM_NCCL_SO_PATH') and not torch.equal(output, eager):
                fail('eager and captured differ, and the front promises the same bits')
    comm.destroy()
    if rank == 0:
        print(f'model {LAYERS} layers, {ranks} ranks on {device}: as one rank', flush=True)


if __name__ == '__main__':
    main(checks)
