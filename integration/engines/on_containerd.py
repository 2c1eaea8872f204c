"""containerd of the distribution with its own client, ctr."""
import os, signal, time

import images
from harness import Daemon, Missing, Terminal, cgroup, command, has, same, status, until

IMAGE = "docker.io/library/busybox:latest"

# The same for version 2 of the file (containerd 1.x) and version 3 (2.x) but for the plugins' names.
CONFIG = """version = 2
root = "{work}/data"
state = "{run}/state"
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:latest"
  restrict_oom_score_adj = {restrict}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{work}/cni"
"""
RUNTIME = """  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      BinaryName = "{path}"
"""
CNI = """{"cniVersion": "1.0.0", "name": "engines", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local",
   "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
"""


def restrict_oom_score_adj():
    """Whether this machine forbids even root to lower /proc/PID/oom_score_adj, as pods' sandboxes do."""
    with open("/proc/self/status") as file:
        return "false" if int(status(file.read(), "CapEff"), 16) >> 24 & 1 else "true"


class Containerd:
    name = "containerd"
    namespace = "default"

    def __init__(self, options, binaries):
        self.options, self.binaries = options, binaries
        self.work, self.run = f"{options.work}/containerd", "/run/corten-engines/containerd"

    def start(self):
        os.makedirs(f"{self.work}/cni", exist_ok=True)
        os.makedirs(self.run, exist_ok=True)
        with open(f"{self.work}/config.toml", "w") as file:
            file.write(CONFIG.format(work=self.work, run=self.run, restrict=restrict_oom_score_adj()))
            for name, path in self.binaries.items():
                file.write(RUNTIME.format(name=name, path=path))
        with open(f"{self.work}/cni/engines.conflist", "w") as file:
            file.write(CNI)
        self.start_daemon()
        self("images", "import", images.archive(self.options.work, "busybox"), timeout=180)

    def start_daemon(self):
        self.daemon = Daemon(["containerd", "--config", f"{self.work}/config.toml"], f"{self.work}/containerd.log")
        self.daemon.ready(self.argv("version"))

    def use(self, runtime):
        self.runtime = runtime

    def argv(self, *arguments):
        after = {"run": 1}.get(arguments[0], 0)
        binary = ["--runc-binary", self.binaries[self.runtime]] if after else []
        return ["ctr", "-a", f"{self.run}/containerd.sock", "-n", self.namespace, *arguments[:after], *binary, *arguments[after:]]

    def __call__(self, *arguments, **how):
        return command(self.argv(*arguments), **how)

    def sh(self, script, *options, **how):
        return self("run", "--rm", *options, IMAGE, "c", "sh", "-c", script, **how)

    def up(self, *options, script="trap 'exit 0' TERM; while :; do sleep 0.1; done", name="c"):
        self("run", "-d", "--null-io", *options, IMAGE, name, "sh", "-c", script)
        return next(line.split()[1] for line in self("tasks", "ls").out.splitlines() if line.split()[0] == name)

    def state(self, name="c"):
        return next((line.split()[2] for line in self("tasks", "ls").out.splitlines() if line.split()[0] == name), "")

    def clean(self):
        for line in self("tasks", "ls").out.splitlines()[1:]:
            self("tasks", "rm", "-f", line.split()[0], code=None)
        for name in self("containers", "ls", "-q").out.split():
            self("containers", "rm", name, code=None)

    def stop(self):
        self.daemon.stop()


def engine(options, binaries):
    return Containerd(options, binaries)


SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def run_attached(e):
    done = e.sh("echo out; echo err >&2; exit 5", code=5)
    same((done.out, done.err), ("out", "err"))
    same(e.sh("read line; echo $line", input="piped\n").out, "piped")


@scenario
def run_detached(e):
    same(open(f"/proc/{e.up()}/comm").read().strip(), "sh")
    same(e.state(), "RUNNING")


@scenario
def run_it(e):
    t = Terminal(e.argv("run", "--rm", "-t", IMAGE, "c", "sh"), 30, 100)
    t.expect("# ")
    t.type("sleep 1; tty; stty size; exit 7\n")
    t.expect("/dev/pts/0")
    t.expect("30 100")
    t.end(7)


@scenario
def errors(e):
    has(e("run", "--rm", IMAGE, "c", "/nonexistent", code=None).err, "no such file or directory")
    e.clean()
    has(e("run", "--rm", IMAGE, "c", "nonexistent", code=None).err.lower(), "executable file", "not found in $path")
    e.clean()
    has(e("run", "--rm", IMAGE, "c", "/etc/passwd", code=None).err.lower(), "permission denied")


@scenario
def exec_attached(e):
    e.up()
    done = e("tasks", "exec", "--exec-id", "x", "c", "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
    same((done.out, done.err), ("out", "err"))
    same(e("tasks", "exec", "--exec-id", "x", "--user", "1000", "--cwd", "/tmp", "c", "sh", "-c", "id -u; pwd").out, "1000\n/tmp")
    same(e("tasks", "exec", "--exec-id", "x", "c", "sh", "-c", "read line; echo $line", input="piped\n").out, "piped")
    has(e("tasks", "exec", "--exec-id", "x", "c", "/nonexistent", code=None).err, "no such file or directory")


@scenario
def exec_it(e):
    e.up()
    t = Terminal(e.argv("tasks", "exec", "-t", "--exec-id", "x", "c", "sh"), 33, 99)
    t.expect("# ")
    t.type("sleep 1; stty size; exit 6\n")
    t.expect("33 99")
    t.end(6)


@scenario
def exec_detached(e):
    pid = e.up()
    e("tasks", "exec", "-d", "--exec-id", "x", "c", "touch", "/tmp/done")
    until(lambda: os.path.exists(f"/proc/{pid}/root/tmp/done"))


@scenario
def signals(e):
    e.up()
    e("tasks", "kill", "-s", "TERM", "c")
    until(lambda: e.state() == "STOPPED")
    e.clean()
    e.up(script="sleep 100 & sleep 100")
    e("tasks", "kill", "-s", "KILL", "-a", "c")
    until(lambda: e.state() == "STOPPED")
    has(e("tasks", "rm", "c", code=None).err, "137")


@scenario
def pause(e):
    pid = e.up(script="i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.05; done")
    count = lambda: open(f"/proc/{pid}/root/tmp/n").read()
    until(lambda: os.path.exists(f"/proc/{pid}/root/tmp/n"))
    e("tasks", "pause", "c")
    same(e.state(), "PAUSED")
    time.sleep(0.3)
    first = count()
    time.sleep(0.5)
    same(count(), first)
    e("tasks", "resume", "c")
    until(lambda: count() not in ("", first))


@scenario
def processes(e):
    pid = e.up()
    has(e("tasks", "ps", "c").out, pid)


@scenario
def metrics(e):
    e.up("--memory-limit", "67108864")
    has(e("tasks", "metrics", "c").out, "67108864")


@scenario
def limits(e):
    pid = e.up("--memory-limit", "67108864", "--cpus", "0.5")
    same(cgroup(pid, "memory", "memory.limit_in_bytes"), "67108864")
    same(cgroup(pid, "cpu", "cpu.cfs_quota_us"), "50000")


@scenario
def security(e):
    same(e.sh("touch /x || echo refused", "--read-only").out, "refused")
    has(e.sh("mount -t tmpfs t /tmp && echo mounted", "--privileged").out, "mounted")
    same(status(e.sh("cat /proc/self/status", "--seccomp").out, "Seccomp"), "2")
    same(int(status(e.sh("cat /proc/self/status", "--cap-add", "CAP_SYS_TIME").out, "CapEff"), 16) >> 25 & 1, 1)


@scenario
def files(e):
    same(e.sh("cat /m/index.html", "--mount", f"type=bind,src={e.options.work}/busybox/var/www,dst=/m,options=rbind:ro").out, "served")
    same(e("run", "--rm", "--rootfs", f"{e.options.work}/busybox", "c", "/bin/echo", "bare").out, "bare")
    pid_file = f"{e.work}/pid"
    pid = e.up("--pid-file", pid_file)
    same(open(pid_file).read().strip(), pid)


@scenario
def namespaces(e):
    pid = e.up()
    other = e.up("--with-ns", f"network:/proc/{pid}/ns/net", name="d")
    same(os.readlink(f"/proc/{other}/ns/net"), os.readlink(f"/proc/{pid}/ns/net"))
    host = e.up("--net-host", name="h")
    same(os.readlink(f"/proc/{host}/ns/net"), os.readlink("/proc/self/ns/net"))


@scenario
def killed_and_restarted(e):
    e.up()
    e.daemon.stop(signal.SIGKILL)
    e.start_daemon()
    same(e.state(), "RUNNING")
    same(e("tasks", "exec", "--exec-id", "x", "c", "echo", "alive").out, "alive")
    e("tasks", "kill", "-s", "TERM", "c")
    until(lambda: e.state() == "STOPPED")


@scenario
def shim_killed(e):
    pid = e.up()
    shim = status(open(f"/proc/{pid}/status").read(), "PPid")
    os.kill(int(shim), signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), 20, "the container's end")
    until(lambda: e.state() in ("", "STOPPED", "UNKNOWN"))


@scenario
def twenty_at_once(e):
    from concurrent.futures import ThreadPoolExecutor
    names = [f"many{n}" for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda name: e.up(name=name), names))
    for name in names:
        same(e.state(name), "RUNNING")
        e("tasks", "kill", "-s", "KILL", name)
    until(lambda: all(e.state(name) == "STOPPED" for name in names))
