"""containerd's CRI as the kubelet uses it: pods whose RuntimeClass is the runtime."""
import os, signal, time

import cri, images, on_containerd
from harness import Missing, cgroup, command, fetch, has, same, status, until

BUSYBOX = "docker.io/library/busybox:latest"
POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
LOOP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Kubelet(on_containerd.Containerd):
    name = "cri"
    namespace = "k8s.io"
    pods = 0

    def start(self):
        super().start()
        self("images", "import", images.archive(self.options.work, "pause", ["/bin/sleep", "100000"]), timeout=180)
        self.service = cri.Service(f"{self.run}/containerd.sock")
        until(self.is_ready, 30, "CRI's readiness")

    def is_ready(self):
        """Both conditions, of the runtime and of its network."""
        try:
            conditions = cri.decode(self.service("Status")[1][0])[1]
        except Missing:
            return False
        return all(cri.decode(condition).get(2) == [1] for condition in conditions)

    def pod(self, network=POD, pid=CONTAINER, ipc=POD, privileged=False, userns=None, **options):
        """Runs a sandbox; returns its id."""
        Kubelet.pods += 1
        self.config = {1: {1: f"pod{self.pods}", 2: f"uid{self.pods}", 3: "default"}, 2: "podname" if network == POD else "", 3: f"{self.work}/logs",
                       8: {1: "/kubepods/engines", 2: {1: {1: network, 2: pid, 3: ipc, **({5: userns} if userns else {})},
                                                       6: int(privileged)}, 3: options.get("sysctls", [])}}
        return self.service("RunPodSandbox", {1: self.config, 2: self.runtime})[1][0].decode()

    def container(self, pod, command, resources=None, security=None, start=True, **fields):
        """Creates a container in the pod and starts it; returns its id."""
        names = {"mounts": 7, "envs": 6, "working_dir": 5, "tty": 14, "stdin": 12, "devices": 8}
        config = {1: {1: f"c{time.monotonic_ns()}"}, 2: {1: BUSYBOX}, 3: command, 11: f"log{time.monotonic_ns()}",
                  15: {1: resources or {}, 2: {3: {2: CONTAINER}} | (security or {})}}
        config |= {names[name]: value for name, value in fields.items()}
        self.log = f"{self.work}/logs/{config[11]}"
        c = self.service("CreateContainer", {1: pod, 2: config, 3: self.config})[1][0].decode()
        if start:
            self.service("StartContainer", {1: c})
        return c

    def status(self, c):
        """Of a container: its state (2 is exited), exit code and reason."""
        found = cri.decode(self.service("ContainerStatus", {1: c})[1][0])
        return found.get(3, [0])[0], found.get(7, [0])[0], found.get(10, [b""])[0].decode()

    def exec(self, c, *command, timeout=20):
        """ExecSync: (exit code, stdout, stderr)."""
        found = self.service("ExecSync", {1: c, 2: list(command), 3: timeout})
        text = lambda field: found.get(field, [b""])[0].decode().strip()
        return found.get(3, [0])[0], text(1), text(2)

    def ended(self, c):
        until(lambda: self.status(c)[0] == 2, 30, "the container's end")
        return self.status(c)

    def output(self, pod, script, **how):
        """What a container that runs the script logs."""
        self.ended(self.container(pod, ["sh", "-c", script], **how))
        return "\n".join(line.split(" ", 3)[3] for line in open(self.log).read().splitlines())

    def pid(self, c):
        return self.exec(c, "sh", "-c", "true") and next(
            line.split()[1] for line in self("tasks", "ls").out.splitlines() if line.split()[0] == c)

    def clean(self):
        for sandbox in self.service("ListPodSandbox").get(1, []):
            pod = cri.decode(sandbox)[1][0].decode()
            self.service("StopPodSandbox", {1: pod})
            self.service("RemovePodSandbox", {1: pod})


def engine(options, binaries):
    return Kubelet(options, binaries)


SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def pod(e):
    p = e.pod()
    c = e.container(p, ["sh", "-c", LOOP])
    same(e.status(c)[0], 1)
    same(e.exec(c, "hostname")[1], "podname")
    e.service("StopContainer", {1: c, 2: 10})
    same(e.status(c)[:2], (2, 0))
    e.service("RemoveContainer", {1: c})
    e.service("StopPodSandbox", {1: p})
    e.service("RemovePodSandbox", {1: p})
    same(e("tasks", "ls", "-q").out, "")


@scenario
def stop_with_kill(e):
    c = e.container(e.pod(), ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    e.service("StopContainer", {1: c, 2: 1})
    same(e.status(c)[:2], (2, 137))


@scenario
def exec_sync(e):
    c = e.container(e.pod(), ["sh", "-c", LOOP])
    same(e.exec(c, "sh", "-c", "echo out; echo err >&2; exit 3"), (3, "out", "err"))
    try:
        e.exec(c, "sleep", "30", timeout=1)
    except Missing as missing:
        has(str(missing), "timeout")
    else:
        raise Missing("exec did not time out")
    try:
        e.exec(c, "/nonexistent")
    except Missing as missing:
        has(str(missing), "no such file or directory")
    same(e.exec(c, "echo", "fine")[1], "fine")


@scenario
def exits(e):
    p = e.pod()
    for code in 0, 7, 255:
        same(e.ended(e.container(p, ["sh", "-c", f"exit {code}"]))[1], code)
    for program, text in ("/nonexistent", "no such file or directory"), ("/etc/passwd", "permission denied"):
        try:
            e.container(p, [program])
        except Missing as missing:
            has(str(missing).lower(), text)
        else:
            raise Missing(f"{program} was started")


@scenario
def logs(e):
    same(e.output(e.pod(), "echo one; echo two >&2"), "one\ntwo")


@scenario
def shared_namespaces(e):
    p = e.pod(pid=POD)
    one = e.container(p, ["sh", "-c", "httpd -f -h /var/www"], security={3: {2: POD}})
    two = e.container(p, ["sh", "-c", LOOP], security={3: {2: POD}})
    same(e.exec(two, "wget", "-qO-", "http://127.0.0.1/")[1], "served")
    has(e.exec(two, "ps")[1], "httpd")
    for kind in "net", "ipc", "uts", "pid":
        same(os.readlink(f"/proc/{e.pid(one)}/ns/{kind}"), os.readlink(f"/proc/{e.pid(two)}/ns/{kind}"))


@scenario
def host_namespaces(e):
    p = e.pod(network=NODE, pid=NODE, ipc=NODE)
    c = e.container(p, ["sh", "-c", LOOP], security={3: {1: NODE, 2: NODE, 3: NODE}})
    for kind in "net", "ipc", "pid":
        same(os.readlink(f"/proc/{e.pid(c)}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}"))
    e.service("StopContainer", {1: c, 2: 5})


@scenario
def pod_network(e):
    first = e.pod()
    e.container(first, ["httpd", "-f", "-h", "/var/www"])
    address = cri.decode(cri.decode(e.service("PodSandboxStatus", {1: first})[1][0])[5][0])[1][0].decode()
    same(until(lambda: fetch(f"http://{address}/"), 10, "an answer from the pod's address"), "served")


@scenario
def limits(e):
    c = e.container(e.pod(), ["sh", "-c", LOOP], resources={1: 100000, 2: 50000, 3: 512, 4: 64 << 20, 5: 900})
    pid = e.pid(c)
    same(cgroup(pid, "memory", "memory.limit_in_bytes"), str(64 << 20))
    same(cgroup(pid, "cpu", "cpu.cfs_quota_us"), "50000")
    same(cgroup(pid, "cpu", "cpu.shares"), "512")
    same(open(f"/proc/{pid}/oom_score_adj").read().strip(), "900")
    has(open(f"/proc/{pid}/cgroup").read(), "/kubepods/engines/")


@scenario
def update(e):
    c = e.container(e.pod(), ["sh", "-c", LOOP], resources={4: 64 << 20})
    e.service("UpdateContainerResources", {1: c, 2: {1: 100000, 2: 30000, 4: 96 << 20, 10: 96 << 20}})
    pid = e.pid(c)
    same(cgroup(pid, "memory", "memory.limit_in_bytes"), str(96 << 20))
    same(cgroup(pid, "cpu", "cpu.cfs_quota_us"), "30000")


@scenario
def out_of_memory(e):
    c = e.container(e.pod(), ["tail", "/dev/zero"], resources={4: 20 << 20, 10: 20 << 20})
    same(e.ended(c)[1:], (137, "OOMKilled"))


@scenario
def stats(e):
    c = e.container(e.pod(), ["sh", "-c", LOOP])
    until(lambda: 3 in cri.decode(e.service("ContainerStats", {1: c})[1][0]), 15, "memory statistics")


@scenario
def security(e):
    p = e.pod()
    text = e.output(p, "cat /proc/self/status; touch /x 2>&1; id",
                    security={1: {2: ["ALL"]}, 5: {1: 1000}, 12: {1: 1000}, 7: 1, 8: [2000], 11: 1, 15: {1: 0}})
    same(int(status(text, "CapBnd"), 16), 0)
    same((status(text, "Seccomp"), status(text, "NoNewPrivs")), ("2", "1"))
    has(text, "Read-only file system", "uid=1000(user)", "2000(extra)")
    same(status(e.output(p, "cat /proc/self/status", security={15: {1: 1}}), "Seccomp"), "0")
    caps = int(status(e.output(p, "cat /proc/self/status", security={1: {1: ["SYS_TIME"]}}), "CapEff"), 16)
    same(caps >> 25 & 1, 1)
    has(e.output(p, "cat /proc/x 2>&1; echo 1 2>&1 >/proc/sys/kernel/panic; wc -c </proc/kallsyms",
                 security={13: ["/proc/kallsyms"], 14: ["/proc/sys"]}), "Read-only", "0")


@scenario
def privileged(e):
    p = e.pod(privileged=True)
    has(e.output(p, "mount -t tmpfs t /tmp && echo mounted; ls /dev", security={2: 1}), "mounted", "kmsg")


@scenario
def mounts(e):
    there = f"{e.work}/volume"
    os.makedirs(there, exist_ok=True)
    p = e.pod()
    e.output(p, "echo written >/v/file", mounts=[{1: "/v", 2: there}])
    same(open(f"{there}/file").read(), "written\n")
    has(e.output(p, "cat /v/file; touch /v/no 2>&1", mounts=[{1: "/v", 2: there, 3: 1}]), "written", "Read-only")
    c = e.container(p, ["sh", "-c", LOOP], mounts=[{1: "/v", 2: there, 5: 1}])  # HostToContainer
    os.makedirs(f"{there}/sub", exist_ok=True)
    command(["mount", "-t", "tmpfs", "t", f"{there}/sub"])
    try:
        has(e.exec(c, "cat", "/proc/mounts")[1], " /v/sub ")
    finally:
        command(["umount", f"{there}/sub"])


@scenario
def sysctls(e):
    p = e.pod(sysctls=[{1: "net.ipv4.ip_local_port_range", 2: "1024 2048"}])
    has(e.output(p, "cat /proc/sys/net/ipv4/ip_local_port_range"), "1024\t2048")


@scenario
def terminal(e):
    same(e.output(e.pod(), "tty", tty=1).strip(), "/dev/pts/0")


@scenario
def killed_and_restarted(e):
    p = e.pod()
    c = e.container(p, ["sh", "-c", LOOP])
    e.daemon.stop(signal.SIGKILL)
    e.start_daemon()
    until(e.is_ready, 30, "CRI's readiness")
    same(e.status(c)[0], 1)
    same(e.exec(c, "echo", "alive")[1], "alive")
    e.service("StopContainer", {1: c, 2: 5})
    same(e.status(c)[0], 2)


@scenario
def twenty_at_once(e):
    from concurrent.futures import ThreadPoolExecutor
    p = e.pod()
    with ThreadPoolExecutor(20) as pool:
        many = list(pool.map(lambda _: e.container(p, ["sh", "-c", LOOP]), range(20)))
    for c in many:
        same(e.status(c)[0], 1)
