"""Every function gets to the NCCL behind the front with its arguments, and its result comes back; one that NCCL lacks fails."""

import ctypes
import os

import front

os.environ["SHMCCL_FRONT"] = "never"


def pattern(kind, number):
    """A value of that type, no two alike."""
    if kind is front.UniqueId:
        return front.UniqueId((ctypes.c_byte * 128)(*[(7 * number + i) % 127 for i in range(128)]))
    if kind is front.Team:
        return front.Team(number, number + 1, number + 2)
    if kind is front.Multimem:
        return front.Multimem(0x5000000 + number)
    if kind is ctypes.c_void_p:
        return kind(0x700000000000 + 0x1000 * number)
    if kind is ctypes.c_size_t:
        return kind(0x123400000000 + number)
    return kind(1000 + number)


def last(library, name):
    buffer = ctypes.create_string_buffer(512)
    length = library.fake_last(name.encode(), buffer, 512)
    return buffer.raw[:length]


def check_call(library, nccl, symbol, number, prefix="nccl"):
    name, result, types, _ = symbol
    function = getattr(library, prefix + name)
    function.restype, function.argtypes = result, types
    arguments = [pattern(kind, 10 * number + i) for i, kind in enumerate(types)]
    before = nccl.fake_count(name.encode())
    answer = number % 7 + 8  # no success, and not "in progress", after which the front does more
    nccl.fake_answer(answer)
    got = function(*arguments)
    assert nccl.fake_count(name.encode()) == before + 1, f"{name} was called {nccl.fake_count(name.encode())} times"
    assert last(nccl, name) == b"".join(bytes(a) for a in arguments), f"{name}: other arguments"
    if result is front.Team:
        assert (got.nranks, got.rank, got.stride) == (answer, 2, 3), name
    elif result is ctypes.c_int and name != "GetVersion":
        assert got == answer, f"{name} returns {got}, not {answer}"


def check_all():
    os.environ["SHMCCL_NCCL_LIB"] = front.fake("record")
    library = ctypes.CDLL(front.FRONT)
    nccl = ctypes.CDLL(front.fake("record"))
    nccl.fake_last.restype = ctypes.c_size_t
    version = ctypes.c_int()
    assert library.ncclGetVersion(ctypes.byref(version)) == 0 and version.value == 23007
    for number, symbol in enumerate(front.symbols()):
        if symbol[0] == "GetVersion":
            continue
        for prefix in "nccl", "pnccl":
            check_call(library, nccl, symbol, number, prefix)


def check_lacking():
    """An old NCCL: what is there works, what is not fails with a text that names it."""
    out = front.run(
        "import ctypes, front\n"
        "library = ctypes.CDLL(front.FRONT)\n"
        "old = ctypes.CDLL(front.fake('old'))\n"
        "library.ncclGetLastError.restype = ctypes.c_char_p\n"
        "lacking = 0\n"
        "for name, result, types, _ in front.symbols():\n"
        "    if hasattr(old, 'nccl' + name): continue\n"
        "    lacking += 1\n"
        "    function = getattr(library, 'nccl' + name)\n"
        "    function.restype, function.argtypes = result, types\n"
        "    got = function(*[kind() if kind is not ctypes.c_void_p else None for kind in types])\n"
        "    if result is ctypes.c_int and not name.startswith(('TeamRank', 'LLA2ACalc')): assert got == 5, (name, got)\n"
        "    text = library.ncclGetLastError(None).decode()\n"
        "    assert 'nccl' + name in text and '2.20.5' in text, (name, text)\n"
        "assert library.ncclMemFree(None) == 0\n"
        "print('lacking', lacking)\n",
        SHMCCL_NCCL_LIB=front.fake("old"), FAKE_NCCL_VERSION="22005")
    assert "lacking 51" in out, out


check_all()
check_lacking()
