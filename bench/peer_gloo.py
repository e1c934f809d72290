#!/bin/sh
""":"
# Debian's PyTorch belongs to /usr/bin/python3, which need not be the first python3 in PATH.
for python in python3 /usr/bin/python3; do
  if "$python" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))' 2>/dev/null; then
    exec "$python" "$0" "$@"
  fi
done
echo 'no python3 here has PyTorch: apt install python3-torch, or pip install torch' >&2
exit 1
"""
"""
shmccl-peer-gloo: the ranks of a torch.distributed job over Gloo, which shmccl-perf starts beside its own ranks. Each
connects to the driver's socket once the process group is up, and is from then on a worker like the C ones (worker.c):
the same commands, the same loop, timed by the same clock. What a call costs here includes Python, as it does for
whoever uses torch.distributed.

    shmccl-peer-gloo SOCKET BYTES NRANKS COMMAND,REPLY,HELLO CORE,CORE,...|none

BYTES: the largest buffer. COMMAND,REPLY,HELLO: the bytes of the driver's structs, against which those below are held.
"""
import ctypes
import os
import signal
import socket
import struct
import sys
import time

# bench/coll.h, bench/worker.h
COLLS = ['all_reduce', 'all_gather', 'reduce_scatter', 'broadcast', 'reduce', 'alltoall', 'gather', 'scatter',
         'sendrecv']
TYPES = ['int8', 'uint8', 'int32', None, 'int64', None, 'float16', 'float32', 'float64', None, None, None]
OPS = ['SUM', 'PRODUCT', 'MAX', 'MIN', None]
CHECK, TIME, COPY, QUIT = range(4)
DONE, UNSUPPORTED, FAILED = range(3)
COMMAND = struct.Struct('@i4x7i4x6Q4i')  # kind; point: coll type op root in_place messages offset, count; iters ...
REPLY = struct.Struct('@i4xdQ256s')
HELLO = struct.Struct('@ii64s')
MODULUS = 5  # inputs are 0 .. 4: sums and products of them are exact in every type


class Backend:
    """One rank of the process group, with its two buffers."""

    def __init__(self, rank, nranks, nbytes, rendezvous):
        import torch
        import torch.distributed as dist
        self.torch, self.dist, self.rank, self.nranks = torch, dist, rank, nranks
        dist.init_process_group('gloo', init_method='file://' + rendezvous, rank=rank, world_size=nranks)
        self.buffers = [torch.zeros(nbytes, dtype=torch.uint8) for _ in range(2)]

    def supports(self, point):
        return (COLLS[point.coll] not in ('reduce_scatter', 'alltoall') and TYPES[point.type] and not point.in_place
                and not point.offset and (point.op < 0 or OPS[point.op]))

    def view(self, which, point, count):
        dtype = getattr(self.torch, TYPES[point.type])
        size = self.torch.empty((), dtype=dtype).element_size()
        return self.buffers[which][:count * size].view(dtype)

    def call(self, point):
        """The point as a function without arguments, with all that can be prepared prepared; send and recv tensors."""
        dist, n, name = self.dist, self.nranks, COLLS[point.coll]
        count = point.count * point.messages
        send = self.view(0, point, count * (n if name == 'scatter' else 1))
        recv = self.view(1, point, count * (n if name in ('all_gather', 'gather') else 1))
        root = self.rank == point.root
        op = getattr(dist.ReduceOp, OPS[point.op]) if point.op >= 0 else None
        blocks = list(recv.chunk(n)) if count and name in ('all_gather', 'gather') else None

        def in_place_of_recv(collective):  # Gloo reduces and broadcasts in place: the copy is part of the call
            def run():
                recv.copy_(send)
                collective()
            return run

        def exchange():
            works = [dist.irecv(part, (self.rank - 1) % n) for part in recv.chunk(point.messages)]
            works += [dist.isend(part, (self.rank + 1) % n) for part in send.chunk(point.messages)]
            for work in works:
                work.wait()

        def broadcast():
            if root:
                recv.copy_(send)
            dist.broadcast(recv, point.root)

        calls = {
            'all_reduce': in_place_of_recv(lambda: dist.all_reduce(recv, op)),
            'all_gather': lambda: dist.all_gather(blocks, send),
            'broadcast': broadcast,
            'reduce': in_place_of_recv(lambda: dist.reduce(recv, point.root, op)),
            'gather': lambda: dist.gather(send, blocks if root else None, point.root),
            'scatter': lambda: dist.scatter(recv, list(send.chunk(n)) if root else None, point.root),
            'sendrecv': exchange,
        }
        return calls[name], send, recv


class Point:
    def __init__(self, coll, dtype, op, root, in_place, messages, offset, count):
        self.coll, self.type, self.op, self.root = coll, dtype, op, root
        self.in_place, self.messages, self.offset, self.count = in_place, messages, offset, count


def pattern(backend, like, rank, shift=0):
    torch = backend.torch
    index = torch.arange(shift, shift + like.numel(), dtype=torch.int64)
    return ((index * 7 + index // 251 + 3 * rank) % MODULUS).to(like.dtype)


def expected(backend, point, recv):
    torch, n, rank, name = backend.torch, backend.nranks, backend.rank, COLLS[point.coll]
    if name in ('all_gather', 'gather'):
        return torch.cat([pattern(backend, block, r) for r, block in enumerate(recv.chunk(n))])
    if name == 'scatter':
        return pattern(backend, recv, point.root, rank * recv.numel())
    if point.op < 0:
        return pattern(backend, recv, point.root if name == 'broadcast' else (rank - 1) % n)
    parts = torch.stack([pattern(backend, recv, r).to(torch.float64) for r in range(n)])
    reduced = [parts.sum, parts.prod, parts.amax, parts.amin][point.op](dim=0)
    return reduced.to(recv.dtype)


def check(backend, point):
    if not point.count:
        return DONE, 0.0, 0, ''
    run, send, recv = backend.call(point)
    send.copy_(pattern(backend, send, backend.rank))
    recv.fill_(99)
    run()
    if COLLS[point.coll] in ('reduce', 'gather') and backend.rank != point.root:
        return DONE, 0.0, 0, ''
    wrong = recv != expected(backend, point, recv)
    count = int(wrong.sum())
    text = f'rank {backend.rank}, element {int(wrong.nonzero()[0])}' if count else ''
    return DONE, 0.0, count, text


def measure(backend, point, iters, warmup, each):
    if not point.count:
        return DONE, 0.0, 0, ''
    run, _, _ = backend.call(point)
    for _ in range(warmup):
        run()
    backend.dist.barrier()
    start = before = time.monotonic()
    for i in range(iters):
        run()
        if each is not None:
            now = time.monotonic()
            each[i] = (now - before) / point.messages
            before = now
    return DONE, (time.monotonic() - start) / iters / point.messages, 0, ''


def serve(backend, channel):
    version = f'PyTorch {backend.torch.__version__}'.encode()
    channel.send(HELLO.pack(backend.rank, os.getpid(), version[:63]))
    while True:
        data = channel.recv(COMMAND.size)
        if len(data) != COMMAND.size:
            os._exit(1)  # the driver is gone
        kind, *fields = COMMAND.unpack(data)
        point, iters, warmup, wants_each = Point(*fields[:8]), *fields[8:10], fields[-1]
        if kind == QUIT:
            return
        each = (ctypes.c_float * iters)() if kind == TIME and wants_each else None
        try:
            if kind == COPY or not backend.supports(point):
                reply = UNSUPPORTED, 0.0, 0, ''
            elif kind == CHECK:
                reply = check(backend, point)
            else:
                reply = measure(backend, point, iters, warmup, each)
        except RuntimeError as error:
            reply = FAILED, 0.0, 0, str(error).splitlines()[0]
        channel.send(REPLY.pack(*reply[:3], reply[3].encode()[:255]))
        if each is not None and reply[0] == DONE:
            channel.send(bytes(each))


def run_rank(rank, nranks, path, nbytes, cores):
    if cores:
        os.sched_setaffinity(0, {cores[rank]})
    os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    backend = Backend(rank, nranks, nbytes, path + '.group')
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(path)
    serve(backend, channel)
    backend.dist.destroy_process_group()


def main():
    path, nbytes, nranks, sizes, cores = sys.argv[1:]
    nbytes, nranks = int(nbytes), int(nranks)
    if sizes != f'{COMMAND.size},{REPLY.size},{HELLO.size}':
        sys.exit(f'built for other commands: {sizes} bytes, not {COMMAND.size},{REPLY.size},{HELLO.size}')
    cores = None if cores == 'none' else [int(core) for core in cores.split(',')]
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # the driver gave us a group of our own
    children = []
    for rank in range(nranks):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                run_rank(rank, nranks, path, nbytes, cores)
            except Exception as error:  # one line for the driver's log
                print(f'rank {rank}: {error}', file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(pid)
    failed = False
    for _ in children:
        _, status = os.wait()
        if status and not failed:  # the others would wait for it
            failed = True
            for pid in children:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
    sys.exit(failed)


if __name__ == '__main__':
    if len(sys.argv) != 6:
        sys.exit('shmccl-peer-gloo is started by shmccl-perf --peer gloo')
    main()
