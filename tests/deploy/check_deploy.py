#!/usr/bin/env python3
"""deploy/ and docs/wsl2.md, without a cluster or a container engine: what they name exists, and fits.

check_deploy.py SOURCE_DIR BUILD_DIR CMAKE DOCTOR VERSION. Skipped (77) without PyYAML; schemas are checked where Debian's
python3-kubernetes is installed, kustomize where kubectl is. The same checks are then run on broken copies, and must
complain of each.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:
    print("python3-yaml is not installed: deploy/ is not checked")
    sys.exit(77)
try:
    from kubernetes import client as schemas
except ImportError:
    schemas = None
    print("# python3-kubernetes is not installed: fields are not checked against Kubernetes' schemas")

SOURCE, BUILD, CMAKE, DOCTOR, VERSION = sys.argv[1:6]
KINDS = {("apps/v1", "Deployment"): "V1Deployment", ("apps/v1", "DaemonSet"): "V1DaemonSet", ("batch/v1", "Job"): "V1Job",
         ("v1", "Service"): "V1Service", ("node.k8s.io/v1", "RuntimeClass"): "V1RuntimeClass"}
SIZES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


class Strict(yaml.SafeLoader):
    """A key that stands twice in a mapping is an error."""


def mapping(loader, node):
    keys = [k.value for k, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"{key} stands twice: {node.start_mark}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)

# What may be named: variables, files of an installation.
variables = set(re.findall(r"^VARIABLE\((\w+),", read(SOURCE, "src/base/variables.def"), re.M))
variables |= {"NCCL_" + n for n in re.findall(r"NAME\((\w+)\)", read(SOURCE, "src/tools/doctor/nccl_names.def"))}
variables |= set(re.findall(r'"(VLLM_\w+)"', read(SOURCE, "src/tools/doctor/check_environment.c")))
finding_ids = set()
for name in os.listdir(os.path.join(SOURCE, "src/tools/doctor")):
    if name.startswith("check_"):
        finding_ids |= set(re.findall(r'"([a-z]+\.[a-z]+|environment|probe)"', read(SOURCE, "src/tools/doctor", name)))


class Checker:
    def __init__(self, deploy, prefix):
        self.deploy, self.prefix, self.complaints = deploy, prefix, []

    def complain(self, where, text):
        self.complaints.append(f"{where}: {text}")

    # ---- texts: variables, paths --------------------------------------------------------------------------------
    def check_text(self, where, text):
        for name in set(re.findall(r"\b(?:SHMCCL|NCCL|VLLM)_[A-Z0-9_]+\b", text)):
            if name not in variables:
                self.complain(where, f"{name} is no variable that there is")
        for path in set(re.findall(r"/opt/shmccl/([\w./-]*\w)", text)):
            if not os.path.exists(os.path.join(self.prefix, path)):
                self.complain(where, f"/opt/shmccl/{path} is not installed")

    # ---- one object ---------------------------------------------------------------------------------------------
    def check_fields(self, where, model, value):
        """Every field exists in Kubernetes' schema, and has its type."""
        if model.startswith("list["):
            if not isinstance(value, list):
                return self.complain(where, "should be a list")
            for i, v in enumerate(value):
                self.check_fields(f"{where}[{i}]", model[5:-1], v)
        elif model.startswith("dict("):
            if not isinstance(value, dict) or any(not isinstance(v, (str, bytes)) for v in value.values()):
                self.complain(where, "should be a mapping of texts")
        elif model in ("str", "int", "bool", "float"):
            if type(value).__name__ != model:
                self.complain(where, f"should be {model}, is {value!r}")
        elif hasattr(schemas, model):
            cls = getattr(schemas, model)
            if not isinstance(value, dict):
                return self.complain(where, "should be a mapping")
            known = {key: attribute for attribute, key in cls.attribute_map.items()}
            for key, v in value.items():
                if key in known:
                    self.check_fields(f"{where}.{key}", cls.openapi_types[known[key]], v)
                else:
                    self.complain(where, f"no field {key} in {model}")
            try:
                cls(**{known[k]: v for k, v in value.items() if k in known})
            except ValueError as error:
                self.complain(where, str(error))

    def check_image(self, where, image):
        name, _, tag = image.rpartition(":")
        if not name or tag == "latest" or not re.search(r"\d", tag):
            self.complain(where, f"{image} is not pinned")
        if "." in name.split("/")[0]:
            self.complain(where, f"{image} names a registry's host")
        if name == "shmccl" and tag != VERSION:
            self.complain(where, f"{image}: this is {VERSION}")

    def check_container(self, where, c, volumes):
        self.check_image(where, c["image"])
        for mount in c.get("volumeMounts", []):
            if mount["name"] not in volumes:
                self.complain(where, f"no volume {mount['name']}")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = c.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in [p["name"] for p in c.get("ports", [])]:
                self.complain(where, f"{probe}: no port {port}")
        resources = c.get("resources", {})
        if "memory" not in resources.get("limits", {}):
            self.complain(where, "no limit of memory: /dev/shm would count against the node's")
        gpus = [resources.get(k, {}).get("nvidia.com/gpu") for k in ("requests", "limits")]
        if gpus[0] != gpus[1]:
            self.complain(where, f"GPUs asked for and limit differ: {gpus}")
        parallel = re.search(r"--tensor-parallel-size=(\d+)", " ".join(c.get("command", [])))
        if parallel and parallel.group(1) != gpus[1]:
            self.complain(where, f"tensor-parallel-size {parallel.group(1)} on {gpus[1]} GPUs")
        for e in c.get("env", []):
            if "value" in e and not isinstance(e["value"], str):
                self.complain(where, f"{e['name']}: a value must be in quotes")
        named = {e["name"] for e in c.get("env", [])}
        if parallel and not {"VLLM_NCCL_SO_PATH", "NCCL_NET_PLUGIN"} <= named:
            self.complain(where, "front or plugin is not switched on")
        if gpus[1] and int(gpus[1]) > 1:
            self.check_shm(where, c, volumes, int(gpus[1]))

    def check_shm(self, where, c, volumes, gpus):
        """Large enough by the doctor's own judgement, in a pod as this one would be."""
        names = [m["name"] for m in c["volumeMounts"] if m["mountPath"] == "/dev/shm"]
        volume = volumes[names[0]].get("emptyDir", {}) if names and names[0] in volumes else {}
        limit = re.fullmatch(r"(\d+)([KMG]i)", volume.get("sizeLimit", ""))
        if volume.get("medium") != "Memory" or not limit:
            return self.complain(where, "/dev/shm is no emptyDir of medium Memory with a sizeLimit")
        size = int(limit.group(1)) * SIZES[limit.group(2)]
        with tempfile.TemporaryDirectory() as tree:
            for path, text in (("proc/mounts", f"tmpfs /dev/shm tmpfs rw,size={size >> 10}k 0 0\n"),
                               ("answers/gpus", "".join(f"gpu {i} unknown 1 GPU\n" for i in range(gpus))),
                               ("proc/self/environ", "KUBERNETES_SERVICE_HOST=x\n")):
                os.makedirs(os.path.dirname(os.path.join(tree, path)), exist_ok=True)
                with open(os.path.join(tree, path), "w", encoding="utf-8") as f:
                    f.write(text)
            out = subprocess.run([DOCTOR, "--root", tree], capture_output=True, text=True, timeout=60).stdout
        if not re.search(r"^ok +shm\.size", out, re.M):
            self.complain(where, "the doctor finds /dev/shm too small: " + out)
        memory = re.fullmatch(r"(\d+)([KMG]i)", c["resources"]["limits"]["memory"])
        if int(memory.group(1)) * SIZES[memory.group(2)] <= size:
            self.complain(where, "the limit of memory has no room for /dev/shm")

    def check_pod(self, where, spec):
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        containers = spec.get("initContainers", []) + spec["containers"]
        for c in containers:
            self.check_container(f"{where} {c['name']}", c, volumes)
        mounted = {m["name"] for c in containers for m in c.get("volumeMounts", [])}
        for name in sorted(set(volumes) - mounted):
            self.complain(where, f"volume {name} is not mounted")
        if spec.get("runtimeClassName") != "nvidia" or "nodeSelector" not in spec:
            self.complain(where, "no runtimeClassName: nvidia, or no nodeSelector")

    def check_object(self, where, o):
        model = KINDS.get((o.get("apiVersion"), o.get("kind")))
        if not model:
            return self.complain(where, f"unknown kind {o.get('apiVersion')} {o.get('kind')}")
        complete = os.path.basename(where) != "device-plugin-runtime.yaml"  # a patch
        if schemas and complete:
            self.check_fields(where, model, o)
        if not complete or o["kind"] not in ("Deployment", "Job"):
            return
        template = o["spec"]["template"]
        labels = template["metadata"]["labels"]
        for key, value in o["spec"].get("selector", {}).get("matchLabels", {}).items():
            if labels.get(key) != value:
                self.complain(where, f"the selector's {key}: {value} is not the template's")
        self.check_pod(where, template["spec"])

    # ---- folders ------------------------------------------------------------------------------------------------
    def check_kustomization(self, folder):
        where = os.path.join(folder, "kustomization.yaml")
        k = yaml.load(read(self.deploy, "k8s", where), Strict)
        generated = k.get("configMapGenerator", [])
        named = k.get("resources", []) + [p["path"] for p in k.get("patches", [])] + [f for g in generated for f in g["files"]]
        for name in named:
            if name.startswith("https://"):
                if not re.search(r"/v\d+\.\d+\.\d+/", name):
                    self.complain(where, f"{name} is not pinned to a release")
            elif not os.path.isfile(os.path.join(self.deploy, "k8s", folder, name)):
                self.complain(where, f"{name} is not there")
        for name in os.listdir(os.path.join(self.deploy, "k8s", folder)):
            if name != "kustomization.yaml" and name not in named:
                self.complain(where, f"{name} is not used")
        remote = any(n.startswith("https://") for n in named)
        if shutil.which("kubectl") and not remote:  # from the network it would not be a test of this tree
            p = subprocess.run(["kubectl", "kustomize", os.path.join(self.deploy, "k8s", folder)], capture_output=True, text=True,
                               timeout=60, env={**os.environ, "HOME": self.prefix})
            if p.returncode:
                self.complain(where, p.stderr)
        return {g["name"] for g in generated}

    def check_folder(self, folder):
        maps = self.check_kustomization(folder)
        for name in sorted(os.listdir(os.path.join(self.deploy, "k8s", folder))):
            where = os.path.join(folder, name)
            text = read(self.deploy, "k8s", where)
            self.check_text(where, text)
            if not name.endswith(".yaml") or name == "kustomization.yaml":
                continue
            for o in yaml.load_all(text, Strict):
                self.check_object(where, o)
                for used in re.findall(r"'configMap': \{'name': '([^']+)'", str(o)):
                    if used not in maps:
                        self.complain(where, f"no ConfigMap {used}")

    def check_scripts(self):
        for folder, _, files in os.walk(self.deploy):
            for name in files:
                path = os.path.join(folder, name)
                tool = [sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"] if name.endswith(".py") else \
                    ["sh", "-n"] if name.endswith(".sh") else None
                if tool and subprocess.run([*tool, path], capture_output=True, timeout=60).returncode:
                    self.complain(name, "does not parse")

    def check_dockerfile(self):
        text = read(self.deploy, "Dockerfile")
        self.check_text("Dockerfile", text)
        stages = []
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["FROM"]:
                self.check_image("Dockerfile", words[1])
                stages.append(words[3])
            for source in re.findall(r"--from=(\S+)", line):
                if source not in stages:
                    self.complain("Dockerfile", f"no stage {source} above")
        if stages != ["build", "vllm", "shmccl"]:
            self.complain("Dockerfile", f"stages are {stages}")
        for image in re.findall(r"-t shmccl:(\S+)", text):
            if image != VERSION:
                self.complain("Dockerfile", f"shmccl:{image}: this is {VERSION}")
        used = set(re.findall(r"image: (vllm/\S+)", "".join(read(self.deploy, "k8s", f, "deployment.yaml") for f in ("vllm",))))
        if not all(re.search(rf"^FROM {re.escape(i)} AS vllm$", text, re.M) for i in used):
            self.complain("Dockerfile", f"vLLM's image is not {used}")

    def run(self):
        for folder in sorted(os.listdir(os.path.join(self.deploy, "k8s"))):
            try:
                self.check_folder(folder)
            except (yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
                self.complain(folder, repr(error))
        self.check_scripts()
        self.check_dockerfile()
        return self.complaints


def check_pages(prefix):
    """The pages name variables, files and findings that there are; the two READMEs have the same."""
    c = Checker(os.path.join(SOURCE, "deploy"), prefix)
    for page in ("docs/wsl2.md", "docs/wsl2.zh.md"):
        text = read(SOURCE, page)
        c.check_text(page, text)
        for path in re.findall(r"\b((?:deploy|docs|tests)/[\w./-]*\w)", text):
            if not os.path.exists(os.path.join(SOURCE, path)):
                c.complain(page, f"{path} is not there")
        lines = re.findall(r"^ *ok +(\S+)", text, re.M)
        if len(lines) < 8:
            c.complain(page, "the doctor's lines are missing")
        for identity in lines + re.findall(r"`([a-z]+\.[a-z]+)`", text):
            if identity not in finding_ids and not identity.endswith((".zh", ".md", ".so", ".py", ".exe", ".msc", ".toml")):
                c.complain(page, f"the doctor has no finding {identity}")
    pair = [read(SOURCE, page) for page in ("README.md", "README.zh.md")]
    for what, pattern in (("variables", r"^\| `(SHMCCL_\w+)`"), ("code", r"(?ms)^```c\n.*?^```"), ("headings", r"^##( )"),
                          ("tables", r"^    (?:# | {3,}\d).*"), ("commands", r"^    (?:cmake|cpack|bench/|tests/|export)\S* ?\S*")):
        english, chinese = (re.findall(pattern, text, re.M) for text in pair)
        if english != chinese:
            c.complain("README.zh.md", f"{what} are not README.md's: {set(english) ^ set(chinese)}")
    return c.complaints


BREAKS = {  # (file, text, instead)
    "misspelt variable": ("k8s/vllm/deployment.yaml", "NCCL_NET_PLUGIN #", "NCCL_NET_PLUGN #"),
    "other path": ("k8s/vllm/deployment.yaml", "lib/libnccl-net-shmccl.so", "lib64/libnccl-net-shmccl.so"),
    "other front": ("k8s/vllm/deployment.yaml", "lib/libshmccl-nccl.so", "lib/libshmccl-front.so"),
    "no front": ("k8s/vllm/deployment.yaml", "name: VLLM_NCCL_SO_PATH", "name: VLLM_LOGGING_LEVEL"),
    "no volume": ("k8s/vllm/deployment.yaml", "- name: dshm # ", "- name: shm # "),
    "small shm": ("k8s/vllm/deployment.yaml", "sizeLimit: 4Gi", "sizeLimit: 512Mi"),
    "shm on disk": ("k8s/doctor/job.yaml", "medium: Memory", 'medium: ""'),
    "no room": ("k8s/doctor/job.yaml", "memory: 8Gi", "memory: 4Gi"),
    "GPUs": ("k8s/vllm/deployment.yaml", "--tensor-parallel-size=4", "--tensor-parallel-size=8"),
    "key twice": ("k8s/vllm/service.yaml", "spec:", "spec: {}\nspec:"),
    "selector": ("k8s/ffmpeg/deployment.yaml", "matchLabels:\n      app: ffmpeg", "matchLabels:\n      app: other"),
    "not pinned": ("k8s/ffmpeg/deployment.yaml", "nvidia/cuda:13.0.0-base-ubuntu24.04", "nvidia/cuda:latest"),
    "port": ("k8s/vllm/deployment.yaml", "name: http\n", "name: web\n"),
    "map": ("k8s/benchmark/job.yaml", "name: shmccl-benchmark\n", "name: other\n"),
    "file": ("k8s/ffmpeg/kustomization.yaml", "- smoke-test.sh", "- smoke.sh"),
    "release": ("k8s/cluster/kustomization.yaml", "v0.17.1", "main"),
    "stage": ("Dockerfile", "COPY --from=build", "COPY --from=builder"),
    "script": ("k8s/benchmark/run.sh", "run() {", "run( {"),
    "program": ("k8s/benchmark/allreduce.py", "def main():", "def main(:"),
    "number": ("k8s/vllm/deployment.yaml", 'value: "1"', "value: 1"),
}
if schemas:
    BREAKS["field"] = ("k8s/vllm/deployment.yaml", "mountPath: /dev/shm", "mountpath: /dev/shm")
    BREAKS["type"] = ("k8s/vllm/deployment.yaml", "replicas: 1", 'replicas: "1"')
    BREAKS["required"] = ("k8s/cluster/runtimeclass.yaml", "handler: nvidia", "")

failed = False
with tempfile.TemporaryDirectory(prefix="shmccl-deploy-") as work:
    prefix = os.path.join(work, "prefix")
    subprocess.run([CMAKE, "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    for complaint in Checker(os.path.join(SOURCE, "deploy"), prefix).run() + check_pages(prefix):
        failed = True
        print(complaint)
    for name, (path, text, instead) in BREAKS.items():
        copy = os.path.join(work, "deploy")
        shutil.copytree(os.path.join(SOURCE, "deploy"), copy)
        whole = read(copy, path)
        assert text in whole, (name, text)
        with open(os.path.join(copy, path), "w", encoding="utf-8") as f:
            f.write(whole.replace(text, instead))
        if not Checker(copy, prefix).run():
            failed = True
            print(f"broken on purpose ({name}), and not seen")
        shutil.rmtree(copy)
sys.exit(failed)
