"""Which NCCL the front finds, and what it says if it finds none, a wrong one, an old one, or itself."""

import os
import shutil
import tempfile

import front

VERSION = """
import ctypes, front
library = ctypes.CDLL(front.FRONT)
version = ctypes.c_int(0)
library.ncclGetLastError.restype = library.ncclGetErrorString.restype = ctypes.c_char_p
result = library.ncclGetVersion(ctypes.byref(version))
print('result', result, 'version', version.value, library.ncclGetLastError(None).decode())
assert result == 0 or library.ncclGetErrorString(result)
"""


def expect(words, script=VERSION, **environment):
    out = front.run(script, **environment)
    for word in words:
        assert word in out, f"{environment}: no '{word}' in:\n{out}"


record = front.fake("record")
path = os.environ["LD_LIBRARY_PATH"]
folder = tempfile.mkdtemp()

# Named.
expect(["result 0 version 23007"], SHMCCL_NCCL_LIB=record)
expect(["result 2", "SHMCCL_NCCL_LIB=/nowhere", "is no NCCL that can be loaded"], SHMCCL_NCCL_LIB="/nowhere")
expect(["result 2", "is no NCCL"], SHMCCL_NCCL_LIB="libc.so.6")
expect(["result 2", "is no NCCL"], SHMCCL_NCCL_LIB=__file__)
expect(["result 2", "is this library"], SHMCCL_NCCL_LIB=front.FRONT)
copy = os.path.join(folder, "libnccl.so.2")
shutil.copy(front.FRONT, copy)
expect(["result 2", "is this library"], SHMCCL_NCCL_LIB=copy)
expect(["result 0 version 21805", "is NCCL 2.18: too old"], SHMCCL_NCCL_LIB=record, FAKE_NCCL_VERSION="21805")

# A machine may have one by itself, where python has its packages: then that is found at last, never a front.
none = "finds no NCCL behind it"
if none not in front.run(VERSION, SHMCCL_NCCL_LIB=None):
    none = "result 0 version 2"

# Found: already loaded; the wheel's place, also before one in the system's search order; the system's; none.
expect(["result 0 version 23007"], script=f"import ctypes; ctypes.CDLL('{record}')\n" + VERSION)
wheel = os.path.join(folder, "env/lib/python3.9/site-packages/nvidia/nccl/lib")
os.makedirs(wheel)
shutil.copy(record, wheel)
expect(["result 0 version 23007", wheel], VIRTUAL_ENV=os.path.join(folder, "env"), SHMCCL_DEBUG="info",
       LD_LIBRARY_PATH=f"{path}:{front.FAKES}/old")
expect(["result 0 version 23007"], LD_LIBRARY_PATH=f"{path}:{front.FAKES}/record")
expect([none])
# A copy of the front has NCCL's place in the search order: it is not taken for one.
expect(["result "], LD_LIBRARY_PATH=f"{path}:{folder}")

# Preloaded before a program that has NCCL in its own search order.
expect(["result 0 version 23007"], LD_PRELOAD=f"{front.FRONT}:{record}", SHMCCL_NCCL_LIB=None)

# Twice: a copy has its own state, and finds the same NCCL; each call gets there once.
expect(["1 2 23007 23007"], SHMCCL_NCCL_LIB=record, script=f"""
import ctypes, front
one, two, nccl = ctypes.CDLL(front.FRONT), ctypes.CDLL('{copy}'), ctypes.CDLL('{record}')
version, other = ctypes.c_int(), ctypes.c_int()
one.ncclMemFree(None)
first = nccl.fake_count(b'MemFree')
two.ncclMemFree(None)
one.ncclGetVersion(ctypes.byref(version))
two.ncclGetVersion(ctypes.byref(other))
print(first, nccl.fake_count(b'MemFree'), version.value, other.value)
""")

# Two NCCLs in a process, the front preloaded: what the second calls by name comes back to the second, whose collectives are its
# own. The program's own calls are diverted beside them.
second = os.path.join(folder, "second")
os.makedirs(second)
shutil.copy(front.fake("fake"), os.path.join(second, "libnccl.so.2"))
expect(["made 0 2, ids 1 1"], LD_PRELOAD=front.FRONT, SHMCCL_NCCL_LIB=front.fake("fake"), script=f"""
import ctypes, front
P, size = ctypes.c_void_p, ctypes.c_size_t(4000)
cuda, program = ctypes.CDLL('libcudart.so.13'), ctypes.CDLL(None)
first, second = ctypes.CDLL(front.fake('fake')), ctypes.CDLL('{second}/libnccl.so.2')
def init(nccl):
    comms = (P * 2)()
    assert nccl.ncclCommInitAll(comms, 2, None) == 0
    return comms
def all_reduce(nccl, comms):
    buffers = [P(), P()]
    for r in 0, 1:
        host = (ctypes.c_float * 1000)(*[r + i for i in range(1000)])
        assert not cuda.cudaSetDevice(r) and not cuda.cudaMalloc(ctypes.byref(buffers[r]), size)
        assert not cuda.cudaMemcpy(buffers[r], host, size, 1) and not cuda.cudaDeviceSynchronize()
    assert nccl.ncclGroupStart() == 0
    for r in 0, 1:
        assert nccl.ncclAllReduce(buffers[r], buffers[r], ctypes.c_size_t(1000), 7, 0, P(comms[r]), None) == 0
    assert nccl.ncclGroupEnd() == 0
    for r in 0, 1:
        back = (ctypes.c_float * 1000)()
        assert not cuda.cudaSetDevice(r) and not cuda.cudaDeviceSynchronize() and not cuda.cudaMemcpy(back, buffers[r], size, 2)
        assert list(back) == [2 * i + 1 for i in range(1000)], list(back)[:8]
theirs, own = init(second), init(program)
for round in range(2):
    all_reduce(program, own)
    if not round: all_reduce(second, theirs)
print('made', first.fake_count(b'AllReduce'), str(second.fake_count(b'AllReduce')) + ',',
      'ids', first.fake_count(b'GetUniqueId'), second.fake_count(b'GetUniqueId'))
""")
shutil.rmtree(folder)
