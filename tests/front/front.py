"""What the tests of the front in Python share: symbols.def as ctypes, and programs run with an environment of their own."""

import ctypes
import os
import re
import subprocess
import sys

FRONT = os.environ["FRONT"]
FAKES = os.environ["FAKES"]


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


class Team(ctypes.Structure):
    _fields_ = [("nranks", ctypes.c_int), ("rank", ctypes.c_int), ("stride", ctypes.c_int)]


class Multimem(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p)]


TYPES = {
    "int": ctypes.c_int, "unsigned": ctypes.c_uint, "size_t": ctypes.c_size_t, "nccl_result_t": ctypes.c_int,
    "nccl_datatype_t": ctypes.c_int, "nccl_redop_t": ctypes.c_int, "nccl_comm_t": ctypes.c_void_p,
    "nccl_unique_id_t": UniqueId, "nccl_team_t": Team, "nccl_multimem_t": Multimem, "void": None,
    "const char *": ctypes.c_char_p,
}


def type_of(parameter):
    if "*" in parameter:
        return ctypes.c_void_p
    return TYPES[parameter.split()[-2]]


def symbols():
    """Of each function: name, result type, parameter types, whether the front looks at it first."""
    text = " ".join(open(os.environ["SYMBOLS"]).read().split("#endif")[-1].split())
    found = []
    for kind, body in re.findall(r"\b(SYMBOL|OTHER|OWN|OWN_OTHER)\(([^#]*?)\)\)?(?= (?:SYMBOL|OTHER|OWN|OWN_OTHER)\(| /\*| #undef)",
                                 text):
        result = "nccl_result_t"
        if kind.endswith("OTHER"):
            result, body = body.split(",", 1)
        name, parameters = re.match(r"\s*(\w+), \(([^)]*)\)", body).groups()
        types = [] if parameters == "void" else [type_of(p.strip()) for p in parameters.split(",")]
        found.append((name, TYPES[result.strip()], types, kind.startswith("OWN")))
    assert len(found) == 83, len(found)
    return found


def run(script, **environment):
    """Runs python code in a process of its own; returns its output. Fails if it does."""
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
    for name, value in environment.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    done = subprocess.run([sys.executable, "-c", script], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nfailed with {done.returncode}: {environment}\n{script}")
    return done.stdout


def fake(kind):
    return f"{FAKES}/{kind}/libnccl.so.2"
