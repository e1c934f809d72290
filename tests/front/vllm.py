"""Tensor-parallel start-up as vLLM does it, without vLLM, on the stand-in runtime: four worker processes with one environment
create the same communicators through the same calls, warm up, capture graphs, decode and prefill.

  vllm.py LAYOUT WAY
    LAYOUT   tp4: one group of four; tp2pp2: two groups of two, and two stages of a pipeline
    WAY      path: the front is VLLM_NCCL_SO_PATH, so pynccl's communicators are diverted; preload: LD_PRELOAD too, so PyTorch's are

NCCL is the fake, or the real one that SHMCCL_TEST_NCCL names (started by with_nccl.sh). pynccl's calls are ctypes' (CommInitRank
with the id by value); PyTorch's are those of its own library: one communicator of all ranks from an id, the others split from it.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
import tempfile
import time

import front

RANKS, LAYERS, SECONDS = 4, 4, 200
NO_COLOR, IN_PROGRESS, INT32, FLOAT32, BFLOAT16, SUM, RELAXED, KERNEL_NODE = -1, 7, 2, 7, 9, 0, 2, 0
LAYOUTS = {"tp4": {"tp": [[0, 1, 2, 3]], "pp": [[0], [1], [2], [3]]},
           "tp2pp2": {"tp": [[0, 1], [2, 3]], "pp": [[0, 2], [1, 3]]}}
PYNCCL_SYMBOLS = ["GetErrorString", "GetVersion", "GetUniqueId", "CommInitRank", "AllReduce", "Reduce", "AllGather",
                  "ReduceScatter", "Send", "Recv", "Broadcast", "CommDestroy", "GroupStart", "GroupEnd", "CommWindowRegister",
                  "CommWindowDeregister"]
IS_FAKE = "STANDIN_KERNELS" not in os.environ  # which with_nccl.sh sets
NCCL = front.fake("fake") if IS_FAKE else os.environ["SHMCCL_TEST_NCCL"]
P = ctypes.c_void_p
HANDLE = ctypes.POINTER(P)


def groups_of(layout):
    """Of all ranks, of pynccl and PyTorch: every rank is in one group of each kind."""
    singles = [[r] for r in range(RANKS)]
    return {"world": [list(range(RANKS))], **LAYOUTS[layout], "dp": singles, "ep": LAYOUTS[layout]["tp"]}


# ---- what a worker has ---------------------------------------------------------------------------------------------------


class Store:
    """Where workers leave things for each other, as in PyTorch's store."""

    def __init__(self, folder):
        self.folder = folder

    def put(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path + ".part", "wb") as f:
            f.write(content)
        os.rename(path + ".part", path)

    def get(self, name):
        path = os.path.join(self.folder, name)
        while not os.path.exists(path):
            time.sleep(0.001)
        with open(path, "rb") as f:
            return f.read()


class Library:
    """NCCL's functions; a call that fails raises."""

    TYPES = {"CommInitRank": [HANDLE, ctypes.c_int, front.UniqueId, ctypes.c_int],
             "CommInitRankConfig": [HANDLE, ctypes.c_int, front.UniqueId, ctypes.c_int, P],
             "CommSplit": [P, ctypes.c_int, ctypes.c_int, HANDLE, P],
             "AllReduce": [P, P, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, P, P],
             "AllGather": [P, P, ctypes.c_size_t, ctypes.c_int, P, P],
             "ReduceScatter": [P, P, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, P, P],
             "Broadcast": [P, P, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, P, P],
             "Send": [P, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, P, P],
             "Recv": [P, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, P, P],
             "CommGetAsyncError": [P, ctypes.POINTER(ctypes.c_int)], "CommDestroy": [P], "CommFinalize": [P]}

    def __init__(self, handle):
        self.handle = handle
        handle.ncclGetErrorString.restype = handle.ncclGetLastError.restype = ctypes.c_char_p

    def call(self, name, *arguments, allowed=(0,)):
        function = getattr(self.handle, "nccl" + name)
        function.argtypes = self.TYPES.get(name)
        result = function(*arguments)
        assert result in allowed, f"nccl{name}: {self.handle.ncclGetErrorString(result)}, {self.handle.ncclGetLastError(None)}"

    def settle(self, comm):
        """Non-blocking: until all ranks are done."""
        state = ctypes.c_int(IN_PROGRESS)
        while state.value == IN_PROGRESS:
            self.call("CommGetAsyncError", comm, ctypes.byref(state))
            time.sleep(0.001)
        assert state.value == 0, state.value


cuda = ctypes.CDLL("libcudart.so.13")


def ok(error):
    assert error == 0, f"CUDA error {error}"


def new_stream():
    stream = P()
    ok(cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1))
    return stream


def pattern(value, count):
    """bf16: element i is value * (1 + i % 3). Small whole numbers times powers of two, so sums are exact."""
    three = b"".join(struct.pack("<f", value * k)[2:] for k in (1, 2, 3))
    return (three * (count // 3 + 1))[:2 * count]


class Tensor:
    def __init__(self, count):
        self.count, self.at = count, P()
        ok(cuda.cudaMalloc(ctypes.byref(self.at), ctypes.c_size_t(2 * count)))

    def fill(self, value):
        ok(cuda.cudaMemcpy(self.at, pattern(value, self.count), ctypes.c_size_t(2 * self.count), 1))
        ok(cuda.cudaDeviceSynchronize())

    def content(self):
        raw = ctypes.create_string_buffer(2 * self.count)
        ok(cuda.cudaMemcpy(raw, self.at, ctypes.c_size_t(2 * self.count), 2))
        return raw.raw

    def expect(self, value, what):
        assert self.content() == pattern(value, self.count), f"{what} is wrong"


class PyNccl:
    """vLLM's PyNcclCommunicator: none for one rank; id from the group's first rank; a warm-up of one element."""

    def __init__(self, name, ranks, rank, store):
        self.ranks, self.rank, self.size, self.comm = ranks, ranks.index(rank), len(ranks), None
        if self.size == 1:
            return
        self.nccl = Library(ctypes.CDLL(os.environ["VLLM_NCCL_SO_PATH"]))
        for symbol in PYNCCL_SYMBOLS:
            getattr(self.nccl.handle, "nccl" + symbol)  # as it does: raises if one is missing
        unique, key = front.UniqueId(), f"pynccl-{name}-{ranks[0]}"
        if self.rank == 0:
            self.nccl.call("GetUniqueId", ctypes.byref(unique))
            store.put(key, bytes(unique))
        unique, self.comm = front.UniqueId.from_buffer_copy(store.get(key)), P()
        self.nccl.call("CommInitRank", ctypes.byref(self.comm), self.size, unique, self.rank)
        stream, one = new_stream(), Tensor(1)
        one.fill(self.rank + 1)
        self.all_reduce(one, stream)
        ok(cuda.cudaStreamSynchronize(stream))
        one.expect(self.total, "the warm-up")

    @property
    def total(self):
        return self.size * (self.size + 1) // 2

    def all_reduce(self, tensor, stream):
        self.nccl.call("AllReduce", tensor.at, tensor.at, tensor.count, BFLOAT16, SUM, self.comm, stream)

    def destroy(self):
        if self.comm:
            self.nccl.call("CommDestroy", self.comm)


class Config(ctypes.Structure):
    """ncclConfig_t as of NCCL 2.17; newer ones fill in the rest."""

    UNDEFINED = -2**31
    _fields_ = [("size", ctypes.c_size_t), ("magic", ctypes.c_uint), ("version", ctypes.c_uint), ("blocking", ctypes.c_int),
                ("cluster", ctypes.c_int), ("least", ctypes.c_int), ("most", ctypes.c_int), ("net", ctypes.c_char_p)]

    def __init__(self, blocking):
        super().__init__(ctypes.sizeof(Config), 0xcafebeef, 21700, blocking, *[self.UNDEFINED] * 3, None)


class Torch:
    """PyTorch's process groups: the first by id, non-blocking; all others split from it by all ranks."""

    def __init__(self, groups, rank, store, preloaded):
        self.nccl, self.comms = Library(ctypes.CDLL(None if preloaded else NCCL)), {}
        unique, world, config = front.UniqueId(), P(), Config(0)
        if rank == 0:
            self.nccl.call("GetUniqueId", ctypes.byref(unique))
            store.put("torch", bytes(unique))
        unique = front.UniqueId.from_buffer_copy(store.get("torch"))
        self.nccl.call("CommInitRankConfig", ctypes.byref(world), RANKS, unique, rank, ctypes.byref(config), allowed=(0, IN_PROGRESS))
        self.nccl.settle(world)
        self.comms["world"] = world
        blocking = Config(1)
        for color, (name, ranks) in enumerate((n, r) for n, parts in groups.items() if n != "world" for r in parts):
            part = P()
            self.nccl.call("CommSplit", world, color if rank in ranks else NO_COLOR, rank, ctypes.byref(part),
                           ctypes.byref(blocking), allowed=(0, IN_PROGRESS))
            self.nccl.settle(world)
            assert bool(part) == (rank in ranks)
            if part:
                self.nccl.settle(part)
                self.comms[name] = part

    def barrier(self, stream):
        """As PyTorch's: an all-reduce."""
        one = Tensor(1)
        one.fill(1)
        self.nccl.call("AllReduce", one.at, one.at, 1, BFLOAT16, SUM, self.comms["world"], stream, allowed=(0, IN_PROGRESS))
        self.nccl.settle(self.comms["world"])
        ok(cuda.cudaStreamSynchronize(stream))
        one.expect(RANKS, "the barrier")

    def copy_alone(self, stream):
        """An all-reduce of one rank: NCCL's, a copy."""
        source, target = Tensor(100), Tensor(100)
        source.fill(5)
        self.nccl.call("AllReduce", source.at, target.at, source.count, BFLOAT16, SUM, self.comms["dp"], stream)
        ok(cuda.cudaStreamSynchronize(stream))
        target.expect(5, "an all-reduce of one rank")

    def destroy(self):
        for comm in reversed(list(self.comms.values())):
            self.nccl.call("CommDestroy", comm)


# ---- what a worker does --------------------------------------------------------------------------------------------------


def node_types(graph):
    count = ctypes.c_size_t()
    ok(cuda.cudaGraphGetNodes(graph, None, ctypes.byref(count)))
    nodes = (P * count.value)()
    ok(cuda.cudaGraphGetNodes(graph, nodes, ctypes.byref(count)))
    types = []
    for node in nodes:
        kind = ctypes.c_int()
        ok(cuda.cudaGraphNodeGetType(P(node), ctypes.byref(kind)))
        types.append(kind.value)
    return types


def capture(tp, tensor):
    """Two all-reduces a layer, as tensor-parallel transformers make; on a stream of its own. Kernels only, none of the host's."""
    stream, graph, executable = new_stream(), P(), P()
    ok(cuda.cudaStreamBeginCapture(stream, RELAXED))
    for _ in range(2 * LAYERS):
        tp.all_reduce(tensor, stream)
    ok(cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)))
    types = node_types(graph)
    assert types == [KERNEL_NODE] * (2 * LAYERS), types
    ok(cuda.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
    ok(cuda.cudaGraphDestroy(graph))
    return executable


def decode(tp, executable, tensor, stream):
    """The first all-reduce gives the sum, each further one multiplies it by the number of ranks."""
    tensor.fill(tp.rank + 1)
    ok(cuda.cudaGraphLaunch(executable, stream))
    ok(cuda.cudaStreamSynchronize(stream))
    tensor.expect(tp.total * float(tp.size) ** (2 * LAYERS - 1), "a decode step")


def prefill(tp, ep, tensor, stream):
    for comm in tp, ep:
        tensor.fill(comm.rank + 1)
        comm.all_reduce(tensor, stream)
        ok(cuda.cudaStreamSynchronize(stream))
        tensor.expect(comm.total, "prefill")


def gather_logits(torch, tp, stream):
    part, whole = Tensor(999), Tensor(999 * tp.size)
    part.fill(tp.rank + 1)
    torch.nccl.call("AllGather", part.at, whole.at, part.count, BFLOAT16, torch.comms["tp"], stream)
    ok(cuda.cudaStreamSynchronize(stream))
    assert whole.content() == b"".join(pattern(r + 1, part.count) for r in range(tp.size)), "the logits are wrong"


def sequence_parallel(tp, stream):
    """Reduce-scatter and all-gather instead of an all-reduce."""
    whole, part = Tensor(600 * tp.size), Tensor(600)
    whole.fill(tp.rank + 1)
    tp.nccl.call("ReduceScatter", whole.at, part.at, part.count, BFLOAT16, SUM, tp.comm, stream)
    tp.nccl.call("AllGather", part.at, whole.at, part.count, BFLOAT16, tp.comm, stream)
    ok(cuda.cudaStreamSynchronize(stream))
    whole.expect(tp.total, "reduce-scatter and all-gather")


def pass_on(pp, stream):
    """From stage to stage; NCCL's own. In a group with a collective of the same communicator, which comes before it."""
    tensor, sums = Tensor(3000), Tensor(3000)
    tensor.fill(pp.rank + 1)
    sums.fill(pp.rank + 1)
    pp.nccl.call("GroupStart")
    if pp.rank == 0:
        pp.nccl.call("Send", tensor.at, tensor.count, BFLOAT16, 1, pp.comm, stream)
    else:
        pp.nccl.call("Recv", tensor.at, tensor.count, BFLOAT16, 0, pp.comm, stream)
    pp.all_reduce(sums, stream)
    pp.nccl.call("GroupEnd")
    ok(cuda.cudaStreamSynchronize(stream))
    sums.expect(pp.total, "an all-reduce in a group with messages")
    if not IS_FAKE:  # which only counts messages
        tensor.expect(1, "what the stage before sent")


def work(rank, layout, way, folder):
    groups, store = groups_of(layout), Store(folder)
    ok(cuda.cudaSetDevice(rank))
    ctypes.CDLL(NCCL)  # which PyTorch has loaded before vLLM starts
    own = {name: next(r for r in parts if rank in r) for name, parts in groups.items()}
    torch = Torch(groups, rank, store, way == "preload")
    pynccl = {name: PyNccl(name, own[name], rank, store) for name in ("tp", "pp", "dp", "ep")}
    tp, stream = pynccl["tp"], new_stream()
    torch.barrier(stream)
    torch.copy_alone(stream)
    prefill(tp, pynccl["ep"], Tensor(400000), stream)  # the profiling run
    graphs = [(capture(tp, t), t) for t in (Tensor(10 * 1024 // 2 * batch) for batch in (4, 1))]
    for step in range(3):
        prefill(tp, pynccl["ep"], Tensor(30000), stream)
        for executable, tensor in graphs:
            decode(tp, executable, tensor, stream)
        gather_logits(torch, tp, stream)
        sequence_parallel(tp, stream)
        if pynccl["pp"].comm:
            pass_on(pynccl["pp"], stream)
    torch.barrier(stream)
    for executable, _ in graphs:
        ok(cuda.cudaGraphExecDestroy(executable))
    parts = [*pynccl.values(), torch] if way == "path" else [torch, *reversed(pynccl.values())]
    for part in parts:
        part.destroy()


# ---- the parent ----------------------------------------------------------------------------------------------------------


def count_expected(layout, way):
    """Communicators that are diverted: those of several ranks that are created through the front."""
    parts = [(name, ranks) for name, all_of in groups_of(layout).items() for ranks in all_of if len(ranks) > 1]
    return len([p for p in parts if p[0] != "world"]) + (len(parts) if way == "preload" else 0)


def start(rank, layout, way, folder):
    environment = dict(os.environ, VLLM_NCCL_SO_PATH=front.FRONT, SHMCCL_DEBUG="info", STANDIN_DEVICES=str(RANKS))
    environment.pop("SHMCCL_NCCL_LIB", None)
    if way == "preload":
        environment["LD_PRELOAD"] = front.FRONT
    return subprocess.Popen([sys.executable, "-B", __file__, layout, way, str(rank), folder], env=environment, text=True,
                            stderr=open(os.path.join(folder, f"stderr-{rank}"), "w", encoding="utf-8"))


def main(layout, way):
    with tempfile.TemporaryDirectory(prefix="shmccl-vllm-") as folder:
        workers = [start(rank, layout, way, folder) for rank in range(RANKS)]
        deadline = time.time() + SECONDS
        while any(w.poll() is None for w in workers) and not any(w.returncode for w in workers) and time.time() < deadline:
            time.sleep(0.01)
        for worker in workers:  # those that wait for one that has failed
            worker.kill()
        said = "".join(open(os.path.join(folder, f"stderr-{rank}"), encoding="utf-8").read() for rank in range(RANKS))
    codes = [w.wait() for w in workers]
    assert codes == [0] * RANKS, f"{said}\nexit codes {codes}"
    diverted = re.findall(r"front: communicator \w+ of \d ranks: its collectives are diverted", said)
    assert len(diverted) == count_expected(layout, way), f"{said}\n{len(diverted)} communicators are diverted"
    ends = re.findall(r"front: rank \d of \d: (\d+) calls of \d+ bytes in all diverted; (\d+) of", said)
    assert ends and all(int(left) == 0 for calls, left in ends if int(calls)), f"{said}\ncalls were left to NCCL"
    assert sum(int(calls) for calls, _ in ends) >= RANKS * 20, f"{said}\nfew calls were diverted"


if len(sys.argv) == 3:
    main(*sys.argv[1:])
else:
    work(int(sys.argv[3]), sys.argv[1], sys.argv[2], sys.argv[4])
