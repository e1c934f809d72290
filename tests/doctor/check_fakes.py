#!/usr/bin/env python3
"""shmccl-doctor on this machine with stand-ins of the driver's libraries, NCCL and the plugin (fakes.c), which fail,
hang and crash as told; and the NCCL front, which is the real one. check_fakes.py DOCTOR FOLDER FRONT: the folders cuda,
half, nvml, nccl, plugin with the libraries are below FOLDER; FRONT is libshmccl-nccl.so.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

DOCTOR, FAKES, FRONT = sys.argv[1:4]
ALL = ("cuda", "nvml", "nccl", "plugin")
failures = 0


def environment(folders, variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NCCL_", "SHMCCL_", "VLLM_", "FAKE_"))}
    env["LD_LIBRARY_PATH"] = ":".join(os.path.join(FAKES, f) for f in folders)
    # by name, or an NCCL of this machine's Python would come first
    env["VLLM_NCCL_SO_PATH"] = os.path.join(FAKES, "nccl", "libnccl.so.2") if "nccl" in folders else ""
    env.update(variables)
    return env


def complain(name, text):
    global failures
    failures += 1
    print(f"{name}: {text}")


def judge(name, output, wanted, absent):
    report = json.loads(output)
    found = [(f["status"], f["id"], f["seen"] + " | " + (f["fix"] or "")) for f in report["findings"]]
    for status, identity, *texts in wanted:
        if not any(s == status and i == identity and all(t in x for t in texts) for s, i, x in found):
            complain(name, f"no {status} {identity} {texts} in\n  " + "\n  ".join(map(str, found)))
    for identity in absent:
        if any(i == identity for _, i, _ in found):
            complain(name, f"{identity} was found")


def case(name, folders, *wanted, absent=("doctor.time",), flags=(), **variables):
    p = subprocess.run([DOCTOR, "--json", *flags], env=environment(folders, variables), capture_output=True, timeout=120)
    judge(name, p.stdout, wanted, absent)


case("well", ALL, ("ok", "gpu.count", "2: Fake 0, 1 GiB"), ("ok", "gpu.peers", "no GPU reaches"), ("ok", "gpu.pinned", "512 MiB could"),
     ("ok", "nccl.version", "2.27.5"), ("ok", "plugin.loads", "NCCL 2.27.5 takes its ncclNetPlugin_v10"), ("ok", "cuda.fit", "599.12"),
     absent=("gpu.driver", "doctor.time"))
case("peers", ALL, ("ok", "gpu.peers", "2 of 2"), FAKE_peers="1")
case("limit", ALL, ("warning", "gpu.pinned", "64 MiB could be registered; 128 MiB were refused with CUDA error 2"), FAKE_limit_MiB="100")
case("little", ALL, ("failure", "gpu.pinned", "0 bytes"), FAKE_limit_MiB="1")
case("no driver", ("nccl",), absent=("gpu.count", "gpu.pinned", "doctor.time"))
case("NVML fails", ALL, ("warning", "gpu.driver", "nvmlInit: 9 (as told)"), ("ok", "gpu.count"), FAKE_nvmlInit="9")
case("no NVML", ("cuda",), ("warning", "gpu.driver", "libnvidia-ml.so.1"), ("ok", "gpu.count"))
case("cuInit fails", ALL, ("failure", "gpu.driver", "cuInit: 100 (as told)"), FAKE_cuInit="100")
case("counting fails", ALL, ("failure", "gpu.driver", "cuDeviceGetCount: 3"), FAKE_cuDeviceGetCount="3")
case("no context", ALL, ("warning", "gpu.driver", "cuDevicePrimaryCtxRetain: 2"), FAKE_cuDevicePrimaryCtxRetain="2")
case("half installed", ("half", "nvml"), ("failure", "gpu.driver", "lacks functions"))
case("driver crashes", ALL, ("ok", "plugin.loads"), FAKE_CRASH="cuInit")
case("NCCL fails", ALL, ("failure", "nccl.loads", "has no ncclGetVersion"), FAKE_ncclGetVersion="1")
case("plugin missing", ("cuda", "nvml", "nccl"), ("warning", "plugin.loads"))
case("plugin wanted and missing", ("nccl",), ("failure", "plugin.loads", "libnccl-net-shmccl"), NCCL_NET_PLUGIN="shmccl")
case("plugin by path", ("nccl",), ("ok", "plugin.loads", "v10"),
     NCCL_NET_PLUGIN=os.path.join(FAKES, "plugin", "libnccl-net-shmccl.so"))
case("plugin crashes", ALL, ("warning", "plugin.loads", "not found"), FAKE_CRASH="plugin")
case("driver hangs", ALL, ("failure", "gpu.driver", "did not answer in time"), ("ok", "plugin.loads"), FAKE_HANG="cuInit")
case("plugin hangs", ALL, ("failure", "plugin.loads", "did not end in time"), ("ok", "gpu.count"), FAKE_HANG="plugin")

NCCL = os.path.join(FAKES, "nccl", "libnccl.so.2")
case("front", ALL, ("ok", "front.loads", f"{FRONT}, before NCCL 2.27.5 ({NCCL})"), ("ok", "nccl.version", "2.27.5"), ("ok", "environment"),
     VLLM_NCCL_SO_PATH=FRONT, SHMCCL_NCCL_LIB=NCCL)
case("front without NCCL", (), ("failure", "front.loads", "SHMCCL_NCCL_LIB=/nonexistent is no NCCL that can be loaded"),
     VLLM_NCCL_SO_PATH=FRONT, SHMCCL_NCCL_LIB="/nonexistent")
case("front missing", ALL, ("failure", "front.loads", "cannot open"), ("failure", "environment", "no such file"),
     VLLM_NCCL_SO_PATH="/nonexistent/libshmccl-nccl.so")
case("no front", ALL, absent=("front.loads", "doctor.time"))
with tempfile.TemporaryDirectory() as folder:
    other = os.path.join(folder, "libshmccl-nccl.so")
    os.symlink(NCCL, other)
    case("not a front", ALL, ("failure", "front.loads", "it is no NCCL front"), VLLM_NCCL_SO_PATH=other)
case("front hangs", ALL, ("failure", "front.loads", "did not end in time"), VLLM_NCCL_SO_PATH=FRONT, SHMCCL_NCCL_LIB=NCCL,
     FAKE_HANG="ncclGetVersion")
case("front crashes", ALL, ("failure", "front.loads", "no answer"), VLLM_NCCL_SO_PATH=FRONT, SHMCCL_NCCL_LIB=NCCL,
     FAKE_CRASH="ncclGetVersion")
case("probe without a folder", (), ("failure", "probe", "/nonexistent"), flags=("--probe",), SHMCCL_SHM_DIR="/nonexistent")

# The worker itself stops: the parent ends it. The driver hangs, so that there is time to find the worker.
p = subprocess.Popen([DOCTOR, "--json"], env=environment(ALL, {"FAKE_HANG": "cuInit"}), stdout=subprocess.PIPE)
children = ""
for _ in range(1000):
    with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
        children = f.read()
    if children:
        break
    time.sleep(0.001)
worker = int(children.split()[0])
os.kill(worker, signal.SIGSTOP)
output, _ = p.communicate(timeout=120)
judge("worker stopped", output, [("failure", "doctor.time")], ())
if p.returncode != 2:
    complain("worker stopped", f"exit code {p.returncode}")

print(f"{failures} failures")
sys.exit(1 if failures else 0)
