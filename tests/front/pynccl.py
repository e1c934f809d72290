"""The way in which vLLM's pynccl uses NCCL, through ctypes: the symbols that it looks up, the id by value, the warm-up, and
all-reduces captured in a graph. Two ranks as threads, on the stand-in runtime and the fake NCCL."""

import ctypes
import os
import threading

import front

SYMBOLS = ["GetErrorString", "GetVersion", "GetUniqueId", "CommInitRank", "AllReduce", "Reduce", "AllGather",
           "ReduceScatter", "Send", "Recv", "Broadcast", "CommDestroy", "GroupStart", "GroupEnd", "CommWindowRegister",
           "CommWindowDeregister", "MemAlloc", "MemFree"]
FLOAT32, SUM, COUNT, RELAXED = 7, 0, 1000, 2

os.environ["SHMCCL_NCCL_LIB"] = front.fake("fake")
nccl = ctypes.CDLL(front.FRONT)
cuda = ctypes.CDLL("libcudart.so.13")
behind = ctypes.CDLL(front.fake("fake"))
for symbol in SYMBOLS:
    getattr(nccl, "nccl" + symbol)  # as it does: raises if one is missing
nccl.ncclGetErrorString.restype = ctypes.c_char_p
nccl.ncclCommInitRank.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, front.UniqueId, ctypes.c_int]
nccl.ncclAllReduce.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                               ctypes.c_void_p, ctypes.c_void_p]
nccl.ncclCommDestroy.argtypes = [ctypes.c_void_p]


def check(result):
    assert result == 0, nccl.ncclGetErrorString(result)


def ok(error):
    assert error == 0, f"CUDA error {error}"


def rank_main(rank, unique, failures):
    try:
        comm, stream, buffer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        host = (ctypes.c_float * COUNT)(*[rank + i for i in range(COUNT)])
        size = ctypes.c_size_t(ctypes.sizeof(host))
        ok(cuda.cudaSetDevice(rank))
        ok(cuda.cudaStreamCreate(ctypes.byref(stream)))
        ok(cuda.cudaMalloc(ctypes.byref(buffer), size))
        check(nccl.ncclCommInitRank(ctypes.byref(comm), 2, unique, rank))

        def all_reduce():
            check(nccl.ncclAllReduce(buffer, buffer, COUNT, FLOAT32, SUM, comm, stream))

        def expect(values):
            back = (ctypes.c_float * COUNT)()
            ok(cuda.cudaStreamSynchronize(stream))
            ok(cuda.cudaMemcpy(back, buffer, size, 2))
            assert list(back) == values, list(back)[:8]

        ok(cuda.cudaMemcpy(buffer, host, size, 1))
        ok(cuda.cudaDeviceSynchronize())
        all_reduce()  # the warm-up
        expect([2 * i + 1 for i in range(COUNT)])
        ok(cuda.cudaStreamBeginCapture(stream, RELAXED))
        all_reduce()
        all_reduce()
        ok(cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)))
        ok(cuda.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
        for replay in range(3):
            ok(cuda.cudaGraphLaunch(executable, stream))
            ok(cuda.cudaStreamSynchronize(stream))
        expect([(2 * i + 1) * 2.0 ** 6 for i in range(COUNT)])
        types = node_types(graph)
        assert all(kind == 0 for kind in types), types  # kernels; a host node would be 3
        check(nccl.ncclCommDestroy(comm))
        ok(cuda.cudaFree(buffer))
    except BaseException as failure:  # a thread's does not end the program by itself
        failures.append((rank, failure))


def node_types(graph):
    """The types of the graph's nodes."""
    count = ctypes.c_size_t()
    ok(cuda.cudaGraphGetNodes(graph, None, ctypes.byref(count)))
    nodes = (ctypes.c_void_p * count.value)()
    ok(cuda.cudaGraphGetNodes(graph, nodes, ctypes.byref(count)))
    types = []
    for node in nodes:
        kind = ctypes.c_int()
        ok(cuda.cudaGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind)))
        types.append(kind.value)
    assert len(types) == 2, types
    return types


def main():
    unique, failures = front.UniqueId(), []
    check(nccl.ncclGetUniqueId(ctypes.byref(unique)))
    ranks = [threading.Thread(target=rank_main, args=(rank, unique, failures)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert not failures, failures
    assert behind.fake_count(b"AllReduce") == 0, "all-reduces went to NCCL"


main()
