#!/usr/bin/env python3
"""shmccl-doctor on recorded trees: every finding, malformed and unreadable files, an empty tree, flags, JSON.

check_trees.py DOCTOR SOURCE_DIR: SOURCE_DIR is the project. A case takes a tree of trees/, changes files of it, and names what must be found there. At the end every finding that
occurs in the doctor's source must have been made by some case.
"""
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

DOCTOR, SOURCE = sys.argv[1], sys.argv[2]
TREES = os.path.join(SOURCE, "tests/doctor/trees")
made = set()  # (id, status) of all cases
failures = 0


class Folder:
    """A folder in a file's place: it can be opened, and not be read."""


class Link:
    def __init__(self, target):
        self.target = target


def change(root, changes):
    for path, content in changes.items():
        full = os.path.join(root, path)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)
        if content is None:
            continue
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if content is Folder:
            os.mkdir(full)
        elif isinstance(content, Link):
            os.symlink(content.target, full)
        else:
            with open(full, "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode())


def run(root, *flags):
    p = subprocess.run([DOCTOR, "--root", root, "--json", *flags], capture_output=True, timeout=60)
    return p.returncode, json.loads(p.stdout), p.stderr.decode()


def complain(name, text):
    global failures
    failures += 1
    print(f"{name}: {text}")


def examine(name, code, report, wanted, worst=None):
    found = [(f["status"], f["id"], f["seen"] + " | " + (f["fix"] or "")) for f in report["findings"]]
    made.update((f["id"], f["status"]) for f in report["findings"])
    for f in report["findings"]:
        if (f["status"] == "ok") != (f["why"] is None) or (f["why"] is None) != (f["fix"] is None):
            complain(name, f"{f['id']}: ok has no why and fix, all others have both")
    for status, identity, *texts in wanted:
        if not any(s == status and i == identity and all(t in x for t in texts) for s, i, x in found):
            complain(name, f"no {status} {identity} with {texts} among:\n  " + "\n  ".join(map(str, found)))
    order = ["ok", "warning", "failure"]
    really = max((f["status"] for f in report["findings"]), key=order.index, default="ok")
    if report["worst"] != really or code != order.index(really):
        complain(name, f"exit code {code}, worst {report['worst']}, should be {really}")
    if worst and really != worst:
        complain(name, f"worst is {really}, should be {worst}: " + str([f for f in found if f[0] != "ok"]))


def case(name, tree, changes, *wanted, worst=None, absent=()):
    with tempfile.TemporaryDirectory(prefix="shmccl-doctor-") as folder:
        root = os.path.join(folder, "tree")
        if tree:
            shutil.copytree(os.path.join(TREES, tree), root, symlinks=True)
        else:
            os.mkdir(root)
        change(root, changes)
        code, report, errors = run(root)
        examine(name, code, report, wanted, worst)
        for identity in absent:
            if any(f["id"] == identity for f in report["findings"]):
                complain(name, f"{identity} was found, and must not be")
        if errors:
            complain(name, f"wrote to standard error: {errors}")


def environ(**variables):
    return "".join(f"{k}={v}\n" for k, v in variables.items())


CONFIG = "mnt/c/Users/me/.wslconfig"
ENVIRON = "proc/self/environ"
PLUGIN = "answers/plugin"
FRONT = "answers/front"
NCCL = "usr/local/lib/python3.12/dist-packages/nvidia/nccl/lib/libnccl.so.2"

# ---- the trees as they are -----------------------------------------------------------------------------------------
case("node", "wsl2", {}, worst="ok")
case("linux", "linux", {}, ("ok", "plugin.loads", "v11"), worst="ok", absent=["system.wsl", "wsl.config"])
case("pod", "pod", {}, ("ok", "plugin.loads", "v10"), ("ok", "nccl.version", "2.27.5"),
     ("ok", "front.loads", "libshmccl-nccl.so, before NCCL 2.27.5 (/usr/local/lib"), worst="ok", absent=["wsl.config", "container.runtime"])
case("docker", "docker", {}, ("failure", "shm.size", "64 MiB", "--shm-size=1g"), ("failure", "gpu.pinned"),
     ("warning", "memory.memlock"), ("warning", "gpu.video", "NVIDIA_DRIVER_CAPABILITIES"), ("warning", "plugin.loads"))

# ---- .wslconfig ----------------------------------------------------------------------------------------------------
case("the users' page", "wsl2", {CONFIG: "[ws12]\nnetworkingMode-bridged\nvmSwitch=WSLBridge\ndhcp=false\nswap=0 ##K8S\n"},
     ("failure", "wsl.config", "line 1: [ws12]", "write [wsl2] (with the letter l"),
     ("failure", "wsl.config", "line 2: 'networkingMode-bridged'", "write networkingMode=bridged"),
     ("warning", "wsl.network", "not set: NAT"), ("warning", "wsl.config", "swap is not set"))
case("no file", "wsl2", {CONFIG: None}, ("warning", "wsl.config", "no .wslconfig"))
case("drives elsewhere", "wsl2",
     {CONFIG: None, "etc/wsl.conf": "[automount]\nroot = /windows/\n", "windows/c/Users/me/.wslconfig": "[wsl2]\nswpa=0\n"},
     ("failure", "wsl.config", "/windows/c/Users/me", "write swap"))
case("unreadable", "wsl2", {CONFIG: Folder}, ("warning", "wsl.config", "cannot be read"))
case("misspelt keys", "wsl2", {CONFIG: "[wsl2]\nnetworkMode=bridged\nvmSwich=A\nfrobnicate=1\nswap=lots\nswap=0\nsparseVhd=true\n"},
     ("failure", "wsl.config", "write networkingMode"), ("failure", "wsl.config", "write vmSwitch"),
     ("warning", "wsl.config", "frobnicate"), ("failure", "wsl.config", "swap=lots"),
     ("warning", "wsl.config", "swap was set before"), ("failure", "wsl.config", "move it below [experimental]"))
case("no section", "wsl2", {CONFIG: "swap=0\n"}, ("failure", "wsl.config", "write [wsl2] above it"))
case("no switch", "wsl2", {CONFIG: "[wsl2]\nnetworkingMode=bridged\nswap=0\n"}, ("failure", "wsl.config", "without vmSwitch"))
case("mirrored", "wsl2", {CONFIG: "[wsl2]\nnetworkingMode=mirrored\nswap=0\n"}, ("warning", "wsl.network", "mirrored"))
case("GPU off", "wsl2", {CONFIG: "[wsl2]\ngpuSupport=false\nswap=0\n"}, ("failure", "wsl.config", "gpuSupport"))
case("UTF-16", "wsl2", {CONFIG: "[ws12]\r\nswap=0\r\n".encode("utf-16")}, ("failure", "wsl.config", "[ws12]"))
case("mark and capitals", "wsl2",
     {CONFIG: b"\xef\xbb\xbf[WSL2]\r\nNetworkingMode = Bridged # all of us\r\nvmswitch=\"My Switch\"\r\nSWAP=0MB\r\n"},
     ("ok", "wsl.network", "My Switch", "by DHCP"), worst="ok")

# ---- kind of machine -----------------------------------------------------------------------------------------------
case("WSL 1", "wsl2", {"proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft\n"}, ("failure", "system.kind", "--set-version"))
case("old kernel", "wsl2", {"proc/sys/kernel/osrelease": "5.4.72-microsoft-standard-WSL2\n"}, ("failure", "system.wsl", "wsl --update"))
case("old WSL", "wsl2", {"answers/wsl-version": "WSL-Version: 1.2.5.0\n"}, ("warning", "system.wsl", "1.2.5"))
case("no interop", "wsl2", {"answers/wsl-version": None}, ("ok", "system.wsl", "cannot be asked"))
case("empty", None, {}, ("ok", "system.kind", "unknown"), ("failure", "shm.type", "no /dev/shm"))
case("no GPU in docker", "docker", {"dev": None, "answers/gpus": None}, ("warning", "gpu.device", "--gpus all"), absent=["gpu.libcuda"])
case("no GPU in a pod", "pod", {"dev/dxg": None}, ("failure", "gpu.device", "resources.limits"))
case("the third GPU alone", "docker", {"dev/nvidia0": None, "dev/nvidia1": None, "dev/nvidia2": ""}, ("ok", "gpu.device", "1 GPUs"))
case("no GPU", "linux", {"dev": None, "answers/gpus": None}, ("warning", "gpu.device"), absent=["gpu.count"])

# ---- memory --------------------------------------------------------------------------------------------------------
SWAPS = "Filename Type Size Used Priority\n/dev/sdb partition 4194304 0 -2\n"
case("swap on a node", "wsl2", {"proc/swaps": SWAPS}, ("failure", "memory.swap", "4 GiB", "swap=0"))
case("swap on a Linux node", "linux", {"proc/swaps": SWAPS, "var/lib/kubelet/x": ""}, ("failure", "memory.swap", "swapoff -a"))
case("swap unreadable", "linux", {"proc/swaps": Folder}, ("warning", "memory.swap", "cannot be read"))
case("small shm", "pod", {"proc/mounts": "tmpfs /dev/shm tmpfs rw,size=524288k 0 0\n"}, ("warning", "shm.size", "sizeLimit: 1Gi"))
case("eight ranks", "pod", {"answers/gpus": "".join(f"gpu {i} unknown 1 RTX 5090\n" for i in range(8))},
     ("warning", "shm.size", "8 ranks", "sizeLimit: 2Gi"))
case("full shm", "wsl2", {"answers/df": "Filesystem 1B-blocks Used Available\nnone 67108864000 67000000000 108864000\n"},
     ("warning", "shm.size", "ls -l /dev/shm"))
case("shm on a disk", "linux", {"proc/mounts": "/dev/sda1 / ext4 rw 0 0\n"}, ("warning", "shm.type", "ext4"))
case("mounts unreadable", "linux", {"proc/mounts": Folder}, ("warning", "shm.type", "cannot be read"))
case("shm files", "linux", {"dev/shm/nccl-AbC": "", "dev/shm/other": ""}, ("ok", "shm.shared", "2 files now, 1 of them"))
case("limits unreadable", "linux", {"proc/self/limits": Folder}, ("warning", "memory.memlock", "cannot be read"))
case("memlock", "linux", {"answers/gpus": "driver 1\ngpu 0 unknown 1 X\n"}, ("warning", "memory.memlock", "limits.conf"))

# ---- libraries and GPUs --------------------------------------------------------------------------------------------
case("no Windows driver", "wsl2", {"usr/lib/wsl/lib": None, "answers/ldconfig": "", "answers/gpus": "missing libcuda.so.1\n"},
     ("failure", "wsl.libraries", "libcuda.so.1 libdxcore.so libnvidia-ml.so.1"), ("failure", "gpu.libcuda"),
     ("failure", "gpu.driver", "not found: libcuda.so.1"), ("warning", "gpu.video"))
case("loader does not look", "wsl2", {"answers/ldconfig": ""}, ("failure", "gpu.libcuda", "LD_LIBRARY_PATH=/usr/lib/wsl/lib"))
LINUX_CUDA = {"usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05": "",
              "usr/lib/x86_64-linux-gnu/libcuda.so.1": Link("libcuda.so.580.95.05"),
              "answers/ldconfig": "\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1\n"}
case("a Linux driver wins", "wsl2", LINUX_CUDA, ("failure", "gpu.libcuda", "belongs to a Linux driver", "apt-get purge"))
case("compatibility wins", "pod", {"usr/local/cuda/compat/libcuda.so.1": Link("libcuda.so.580.65.06"),
                                   "usr/local/cuda/compat/libcuda.so.580.65.06": "",
                                   ENVIRON: environ(LD_LIBRARY_PATH="/usr/local/cuda/compat", KUBERNETES_SERVICE_HOST="x")},
     ("failure", "gpu.libcuda", "compat folder"))
case("libcuda by LD_LIBRARY_PATH", "wsl2", {**LINUX_CUDA, ENVIRON: environ(LD_LIBRARY_PATH="/none:/usr/lib/wsl/lib")},
     ("ok", "gpu.libcuda", "/usr/lib/wsl/lib/libcuda.so.1"))
case("no libcuda in a container", "docker", {"answers/ldconfig": "", "usr/lib/x86_64-linux-gnu/libcuda.so.1": None},
     ("warning", "gpu.libcuda", "NVIDIA runtime"))
case("a link out of the tree", "linux", {"usr/lib/x86_64-linux-gnu/libnvcuvid.so.1": Link("/../../../../bin/sh")},
     ("warning", "gpu.video", "libnvcuvid.so.1"))
case("pod without video", "pod", {"usr/lib/wsl/lib": None, "answers/ldconfig": ""}, ("warning", "gpu.video", "deploy/k8s/ffmpeg"))
case("driver fails", "linux", {"answers/gpus": "error libcuda.so.1 cuInit: 100 (no CUDA-capable device is detected)\n"},
     ("failure", "gpu.driver", "cuInit: 100"))
case("NVML fails", "linux", {"answers/gpus": "error libnvidia-ml.so.1 nvmlInit: 9\ncuda-driver 13000\ngpu 0 unknown 1 X\n"},
     ("warning", "gpu.driver", "nvmlInit"), ("ok", "gpu.count", "1: X"))
case("driver sees none", "linux", {"answers/gpus": "driver 1\ncuda-driver 13000\n"}, ("failure", "gpu.driver", "sees no GPU"))
case("TCC", "wsl2", {"answers/gpus": "gpu 0 tcc 1 L20\n"}, ("failure", "gpu.model", "-dm 0"))
case("WDDM", "wsl2", {"answers/gpus": "gpu 0 wddm 1 L20\n"}, ("ok", "gpu.model", "WDDM"))
case("peers", "linux", {"answers/gpus": "gpu 0 unknown 1 A\npeer 0 1 1\npeer 1 0 1\n"}, ("ok", "gpu.peers", "2 of 2 pairs"))
case("little can be pinned", "wsl2", {"answers/gpus": "gpu 0 wddm 1 A\npinned 134217728\npinned-error 268435456 2\n"},
     ("warning", "gpu.pinned", "128 MiB", "256 MiB were refused", "memory="))
case("nonsense answers", "linux", {"answers/gpus": "gpu\ngpu x y z\npeer\npinned x\n\xff\n" + "gpu 1 wddm 5 N\n" * 40 + "\0",
                                   PLUGIN: "table\nplugin\n\0"}, ("ok", "gpu.count", "16"))

# ---- container runtime, Kubernetes ---------------------------------------------------------------------------------
case("no toolkit", "wsl2", {"answers/nvidia-ctk": None}, ("failure", "container.toolkit", "1.18.1"))
case("old toolkit", "wsl2", {"answers/nvidia-ctk": "NVIDIA Container Toolkit CLI version 1.14.6\n"}, ("warning", "container.toolkit"))
case("toolkit 1.19.1", "wsl2", {"answers/nvidia-ctk": "NVIDIA Container Toolkit CLI version 1.19.1\n"},
     ("warning", "container.toolkit", "1.19.1", "deploy/k8s/ffmpeg"))
case("runtime unknown", "wsl2", {"etc/containerd/conf.d": None}, ("failure", "container.runtime", "nvidia-ctk runtime configure"))
case("not imported", "wsl2", {"etc/containerd/config.toml": "version = 3\n"}, ("failure", "container.runtime", "imports ="))
case("in the main file", "wsl2", {"etc/containerd/conf.d": None, "etc/containerd/config.toml":
                                  'default_runtime_name = "nvidia"\nBinaryName = "/usr/bin/nvidia-container-runtime"\n'},
     ("ok", "container.runtime", "as its default"))
case("containerd unreadable", "wsl2", {"etc/containerd/config.toml": Folder}, ("warning", "container.runtime", "cannot be read"))
case("docker", "linux", {"etc/docker/daemon.json": "{}", "answers/nvidia-ctk": "version 1.18.1\n"},
     ("warning", "container.docker", "--runtime=docker"))
case("docker set up", "linux", {"etc/docker/daemon.json": '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}',
                                "answers/nvidia-ctk": "version 1.18.1\n"}, ("ok", "container.docker"))
case("no device plugin", "wsl2", {"answers/kubectl-nodes": "a \nb \n"}, ("failure", "kubernetes.gpus", "none of 2 nodes", "deploy/k8s/cluster"))
case("cluster away", "wsl2", {"answers/kubectl-nodes": None}, ("warning", "kubernetes.gpus", "KUBECONFIG"))
case("no class", "wsl2", {"answers/kubectl-runtimeclass": None}, ("warning", "kubernetes.runtimeclass"))

# ---- versions ------------------------------------------------------------------------------------------------------
case("old NCCL", "docker", {NCCL: "NCCL version 2.18.3+cuda12.2"}, ("failure", "nccl.version", "2.18.3"))
case("new NCCL", "docker", {NCCL: "NCCL version 2.31.1+cuda12.2"}, ("warning", "nccl.version", "2.31.1"))
case("no version", "docker", {NCCL: "NCCL version "}, ("warning", "nccl.version", "names no version"))
case("no NCCL", "docker", {NCCL: None}, ("warning", "nccl.version", "VLLM_NCCL_SO_PATH"))
case("NCCL by name", "docker", {"opt/n.so": "NCCL version 2.29.2+cuda12.9", ENVIRON: environ(VLLM_NCCL_SO_PATH="/opt/n.so")},
     ("ok", "nccl.version", "2.29.2", "/opt/n.so"))
case("NCCL of a venv", "docker", {"venv/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2": "NCCL version 2.26.2+cuda12.2",
                                  ENVIRON: environ(VIRTUAL_ENV="/venv")}, ("ok", "nccl.version", "2.26.2"))
case("NCCL for a newer CUDA", "docker", {NCCL: "NCCL version 2.28.9+cuda13.0"}, ("failure", "cuda.fit", "580 or newer"))
case("runtime newer", "docker", {"usr/local/cuda/version.json": '{"cuda" : {"version" : "12.9.1"}}'}, ("warning", "cuda.fit", "12.9"))
case("runtime by library", "pod", {"answers/ldconfig": "\tlibcudart.so.14 (libc6,x86-64) => /x\n"}, ("failure", "cuda.fit", "CUDA 14"))

# ---- environment ---------------------------------------------------------------------------------------------------
def variables(name, *wanted, tree="pod", worst=None, more=None, **values):
    case("environment: " + name, tree, {ENVIRON: environ(KUBERNETES_SERVICE_HOST="x", NCCL_CUMEM_ENABLE="0", **values), **(more or {})},
         *wanted, worst=worst)

variables("slips", ("warning", "environment", "NCCL_NET_PLUGN", "write NCCL_NET_PLUGIN"), ("warning", "environment", "write NCCL_P2P_DISABLE"),
          ("warning", "environment", "write VLLM_NCCL_SO_PATH"), ("warning", "environment", "write SHMCCL_TIMEOUT_MS"),
          ("warning", "environment", "SHMCCL_QQQQQQQQQQQQ", "unset it"),
          NCCL_NET_PLUGN="shmccl", NCCL_P2P_DISABEL="1", VLLM_NCCL_SO_PAHT="x", SHMCCL_TIMOUT_MS="1", SHMCCL_QQQQQQQQQQQQ="1")
variables("unknown to us", NCCL_SOMETHING_NEW="1", VLLM_FANCY="1", worst="ok")
variables("bad value", ("failure", "environment", "SHMCCL_TIMEOUT_MS", "soon"), SHMCCL_TIMEOUT_MS="soon")
variables("another network", ("failure", "environment", "NCCL_NET=Socket"), NCCL_NET_PLUGIN="shmccl", NCCL_NET="Socket")
variables("network alone", ("failure", "environment", "set NCCL_NET_PLUGIN=shmccl"), NCCL_NET="shmccl")
variables("not let in", ("warning", "environment", "unset both"), NCCL_NET_PLUGIN="shmccl", NCCL_P2P_DISABLE="0")
variables("kept out", ("warning", "environment", "unset SHMCCL_NCCL_ENV"), NCCL_NET_PLUGIN="shmccl", SHMCCL_NCCL_ENV="0")
variables("plugin's value", ("failure", "environment", "SHMCCL_NET_BYTES", "much"), NCCL_NET_PLUGIN="shmccl", SHMCCL_NET_BYTES="much")
variables("host id", ("warning", "environment", "NCCL_HOSTID=r1"), NCCL_HOSTID="r1")
variables("bare algorithm", ("failure", "environment", "allreduce:collnetchain"), NCCL_ALGO="CollNetChain")
variables("no copy mode", ("warning", "environment", "2.30.7"), NCCL_SHM_USE_CUDA_MEMCPY="1", more={NCCL: "NCCL version 2.30.7+cuda12.9"})
variables("forgetful NCCL", ("warning", "environment", "NCCL_NET_PLUGIN_REF_COUNT=1"), NCCL_NET_PLUGIN="shmccl",
          more={NCCL: "NCCL version 2.28.9+cuda12.9"})
variables("cured", NCCL_NET_PLUGIN="shmccl", NCCL_NET_PLUGIN_REF_COUNT="1", worst="ok", more={NCCL: "NCCL version 2.28.9+cuda12.9"})
variables("no such library", ("failure", "environment", "no such file"), VLLM_NCCL_SO_PATH="/none.so")
variables("void", ("warning", "environment", "NVIDIA_VISIBLE_DEVICES=void"), NVIDIA_VISIBLE_DEVICES="void")
case("environment: sockets", "linux", {ENVIRON: environ(NCCL_SHM_DISABLE="1", NCCL_P2P_DISABLE="1")}, ("failure", "environment", "without NCCL_NET_PLUGIN=shmccl"))
case("environment: shared handles", "pod", {ENVIRON: environ(KUBERNETES_SERVICE_HOST="x")}, ("warning", "environment", "set NCCL_CUMEM_ENABLE=0"))
case("environment: ended by zeros", "linux", {ENVIRON: b"A=1\0NCCL_HOSTID=x\0broken\0=\0"}, ("warning", "environment", "NCCL_HOSTID"))
case("environment: NCCL's file", "linux", {"etc/nccl.conf": "# x\nNCCL_HOSTID=fromfile\nPATH=no\n"}, ("warning", "environment", "fromfile"))
case("environment: file unreadable", "linux", {"etc/nccl.conf": Folder}, ("warning", "environment", "cannot be read"))

# ---- plugin --------------------------------------------------------------------------------------------------------
case("NCCL does not load", "pod", {PLUGIN: "glibc 2.35\nnccl-error libcudart.so.12: cannot open\n"}, ("failure", "nccl.loads", "libcudart"),
     ("failure", "plugin.loads", "not found"))
case("plugin beside", "pod", {PLUGIN: "glibc 2.35\nplugin-error no\nbeside /opt/lib/libnccl-net-shmccl.so\n"},
     ("failure", "plugin.loads", "NCCL_NET_PLUGIN=/opt/lib/libnccl-net-shmccl.so"))
case("plugin too new", "pod", {PLUGIN: "glibc 2.35\nplugin-error version `GLIBC_2.38' not found\nneeds 2.38\n"},
     ("failure", "plugin.loads", "needs glibc 2.38, here is 2.35"))
case("no table", "pod", {PLUGIN: "glibc 2.35\nplugin /x.so\ntable ncclNetPlugin_v3\n"}, ("failure", "plugin.loads", "v6 to v10"))
case("plugin without NCCL", "pod", {NCCL: None}, ("ok", "plugin.loads", "no NCCL here"))

# ---- front ---------------------------------------------------------------------------------------------------------
case("front without NCCL", "pod", {FRONT: "front /opt/shmccl/lib/libshmccl-nccl.so\nfront-error libshmccl-nccl.so finds no NCCL behind it\n"},
     ("failure", "front.loads", "finds no NCCL", "SHMCCL_NCCL_LIB=/path"))
case("front does not load", "pod", {FRONT: "front-error version `GLIBC_2.38' not found\n"}, ("failure", "front.loads", "GLIBC_2.38", "or unset it"))
case("front that crashes", "pod", {FRONT: "front /opt/shmccl/lib/libshmccl-nccl.so\n"}, ("failure", "front.loads", "no answer"))
case("front missing", "pod", {FRONT: "front-error no such file\n", "opt": None}, ("failure", "front.loads", "no such file"),
     ("failure", "environment", "VLLM_NCCL_SO_PATH"))
case("front by LD_PRELOAD", "linux", {ENVIRON: environ(LD_PRELOAD="/lib/other.so:/x/libshmccl-nccl.so"), FRONT: "front-error no\n"},
     ("failure", "front.loads", "no"))
case("front that nobody asked for", "linux", {FRONT: "front /usr/lib/libshmccl-nccl.so\nversion 22809\n"}, ("ok", "front.loads", "of unknown place"), worst="ok")
case("... and that finds nothing", "linux", {FRONT: "front /usr/lib/libshmccl-nccl.so\nfront-error x\n"}, ("warning", "front.loads"))
case("no front, none asked for", "linux", {}, worst="ok", absent=["front.loads"])
case("its own NCCL", "pod", {ENVIRON: environ(VLLM_NCCL_SO_PATH="/opt/shmccl/lib/libshmccl-nccl.so", SHMCCL_NCCL_LIB="/opt/libnccl.so.2", NCCL_CUMEM_ENABLE="0"),
                             "opt/libnccl.so.2": "NCCL version 2.29.7+cuda13.0"}, ("ok", "nccl.version", "2.29.7", "/opt/libnccl.so.2"))
case("everything unreadable", None, {p: Folder for p in (
    "proc/sys/kernel/osrelease", "etc/os-release", "proc/mounts", "proc/swaps", "proc/meminfo", "proc/self/limits", ENVIRON,
    "answers/df", "answers/gpus", PLUGIN, FRONT, "answers/ldconfig", "dev/shm")}, ("warning", "memory.swap"), ("failure", "shm.type"))

# ---- damage --------------------------------------------------------------------------------------------------------
seed = int(os.environ.get("SHMCCL_TEST_SEED") or random.SystemRandom().randrange(2**32))
print(f"# seed {seed}")
chance = random.Random(seed)
for i in range(25):
    tree = chance.choice(["wsl2", "linux", "docker", "pod"])
    changes = {}
    for folder, _, files in os.walk(os.path.join(TREES, tree)):
        for f in files:
            path = os.path.join(folder, f)
            if os.path.islink(path) or chance.random() > 0.3:
                continue
            content = bytearray(open(path, "rb").read())
            for _ in range(chance.randrange(8)):
                if content:
                    content[chance.randrange(len(content))] = chance.randrange(256)
            changes[os.path.relpath(path, os.path.join(TREES, tree))] = bytes(content[:chance.randrange(len(content) + 1)])
    case(f"damaged {i} (SHMCCL_TEST_SEED={seed})", tree, changes)

# ---- nobody's ------------------------------------------------------------------------------------------------------
if os.geteuid() == 0 and shutil.which("setpriv"):
    with tempfile.TemporaryDirectory(prefix="shmccl-doctor-") as folder:
        os.chmod(folder, 0o755)
        root = os.path.join(folder, "tree")
        shutil.copytree(os.path.join(TREES, "wsl2"), root, symlinks=True)
        for path in (CONFIG, "proc/swaps", "etc/containerd/config.toml", "etc/containerd/conf.d/99-nvidia.toml"):
            os.chmod(os.path.join(root, path), 0)
        program = os.path.join(folder, "doctor")
        shutil.copy(DOCTOR, program)
        p = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "--root", root, "--json"],
                           capture_output=True, timeout=60, env={})
        examine("no permission", p.returncode, json.loads(p.stdout),
                [("warning", "wsl.config", "Permission denied"), ("warning", "memory.swap", "Permission denied"),
                 ("warning", "container.runtime", "Permission denied")])

# ---- flags and forms -----------------------------------------------------------------------------------------------
def flags(name, arguments, code, out=None, err=None):
    p = subprocess.run([DOCTOR, *arguments], capture_output=True, text=True, timeout=60)
    if p.returncode != code or (out is not None and out not in p.stdout) or (err is not None and err not in p.stderr):
        complain(name, f"code {p.returncode}, out {p.stdout!r}, err {p.stderr!r}")
    return p.stdout

WSL2 = os.path.join(TREES, "wsl2")
flags("help", ["--help"], 0, out="Exit code")
flags("version", ["--version"], 0, out="shmccl-doctor ")
flags("unknown flag", ["--frob"], 64, err="no such flag")
flags("no folder", ["--root", "/nonexistent"], 64, err="no such folder")
flags("folder left out", ["--root"], 64, err="no such folder")
flags("probe of a tree", ["--root", WSL2, "--probe"], 64, err="cannot be probed")
text = flags("text", ["--root=" + WSL2], 0, out=" 0 warnings, 0 failures")
if "\033" in text:
    complain("text", "colours in a pipe")
flags("text of a failure", ["--root", os.path.join(TREES, "docker")], 2, out="         fix: docker run --shm-size=1g")
with open("/dev/full", "w") as full:
    if subprocess.run([DOCTOR, "--root", WSL2], stdout=full, stderr=subprocess.DEVNULL, timeout=60).returncode != 74:
        complain("full disk", "exit code is not 74")

# ---- this machine --------------------------------------------------------------------------------------------------
for attempt in range(3):  # the probe has a limit of its own, which a busy machine may exceed
    p = subprocess.run([DOCTOR, "--json", "--probe"], capture_output=True, timeout=60)
    report = json.loads(p.stdout)
    if any(f["id"] == "probe" and f["status"] == "ok" for f in report["findings"]):
        break
examine("this machine", p.returncode, report, [("ok", "probe", "every element right")])
made.add(("probe", "failure"))  # in no recorded tree: tests/doctor/check_fakes.py makes it

# ---- completeness --------------------------------------------------------------------------------------------------
texts = {}
for folder in ("src/tools/doctor",):
    for f in sorted(os.listdir(os.path.join(SOURCE, folder))):
        if f.startswith("check_") and f.endswith(".c"):
            texts[f] = open(os.path.join(SOURCE, folder, f)).read()
declared = set()
for f, text in texts.items():
    names = dict(re.findall(r'static const char (id)\[\] = "([^"]+)"', text))
    declared.update((i, "ok") for i in re.findall(r'DOCTOR_SAY_OK\(d,\s*"([^"]+)"', text))
    declared.update((i, s.lower()) for s, i in re.findall(r'DOCTOR_(WARNING|FAILURE),\s*"([^"]+)"', text))
    declared.update((names["id"], s.lower()) for s in re.findall(r"add\([^;]*?DOCTOR_(WARNING|FAILURE),", text) if names)
for identity, status in sorted((i, s) for i, s in declared - made if re.fullmatch("[a-z.]+", i)):
    complain("completeness", f"no case makes {status} {identity}")

listed = [line.split(None, 1) for line in open(os.path.join(TREES, "SOURCES")) if line.strip() and not line.startswith("#")]
for folder, _, files in os.walk(TREES):
    for f in files:
        path = os.path.relpath(os.path.join(folder, f), TREES)
        if path != "SOURCES" and not any(path == l[0] or path.startswith(l[0] + "/") for l in listed):
            complain("SOURCES", f"{path} has no source")
for name, *rest in listed:
    if not rest or not os.path.lexists(os.path.join(TREES, name)):
        complain("SOURCES", f"{name}: not there, or without a source")

print(f"{failures} failures; findings made: {len(made)}")
sys.exit(1 if failures else 0)
