"""dockerd and containerd of the distribution, with every runtime in daemon.json."""
import json, os, signal, tempfile

import client, images
from harness import Daemon, cgroup, command, has, same, until


class Docker(client.Client):
    name = "docker"
    program = "/usr/bin/docker"

    def __init__(self, options, binaries):
        self.options, self.binaries = options, binaries
        self.work, self.run = f"{options.work}/docker", "/run/corten-engines/docker"
        self.host = f"unix://{self.run}/docker.sock"
        self.daemon = None

    def start_containerd(self):
        self.containerd = Daemon(["containerd", "--config", f"{self.work}/containerd.toml"], f"{self.work}/containerd.log")
        self.containerd.ready(["ctr", "-a", f"{self.run}/containerd.sock", "version"])

    def start_daemon(self, *arguments):
        self.daemon = Daemon(["dockerd", "--config-file", f"{self.work}/daemon.json", *arguments], f"{self.work}/dockerd.log")
        self.daemon.ready([self.program, "-H", self.host, "version"])

    def start(self):
        os.makedirs(self.work, exist_ok=True)
        os.makedirs(self.run, exist_ok=True)
        with open(f"{self.work}/containerd.toml", "w") as file:
            file.write(f'version = 2\nroot = "{self.work}/containerd"\nstate = "{self.run}/containerd"\n'
                       f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                       f'[grpc]\n  address = "{self.run}/containerd.sock"\n')
        self.start_containerd()
        self.use(next(iter(self.binaries)))
        self.start_daemon()
        self("import", "-c", "ENV PATH=/bin:/sbin", images.busybox(self.options.work), "busybox")

    def use(self, runtime):
        """Makes the runtime the default of every container that follows, of services and builds too."""
        self.runtime = runtime
        runtimes = {name: {"path": path} for name, path in self.binaries.items() if name != "runc"}
        with open(f"{self.work}/daemon.json", "w") as file:
            json.dump({"data-root": f"{self.work}/data", "exec-root": f"{self.run}/exec", "hosts": [self.host],
                       "pidfile": f"{self.run}/docker.pid", "containerd": f"{self.run}/containerd.sock",
                       "runtimes": runtimes, "default-runtime": runtime}, file)
        if self.daemon:
            self.daemon.process.send_signal(signal.SIGHUP)
            until(lambda: self("info", "-f", "{{.DefaultRuntime}}").out == runtime, 10, "the default runtime")

    def argv(self, *arguments):
        after = {"run": 1, "create": 1}.get(arguments[0], 0)
        runtime = ["--runtime", self.runtime] if after else []
        return [self.program, "-H", self.host, *arguments[:after], *runtime, *arguments[after:]]

    def clean(self):
        if ids := self("ps", "-aq", code=None).out.split():
            self("rm", "-f", *ids, code=None)
        self("volume", "prune", "-f", code=None)

    def stop(self):
        self.daemon.stop()
        self.containerd.stop()


def engine(options, binaries):
    return Docker(options, binaries)


SCENARIOS = list(client.SCENARIOS)


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def update_pids(e):
    c = e.up()
    e("update", "--pids-limit", "33", c)
    same(cgroup(e.pid(c), "pids", "pids.max"), "33")


@scenario
def directory_made(e):
    same(e.sh("pwd", "-w", "/made/here"), "/made/here")


@scenario
def build(e):
    with tempfile.TemporaryDirectory() as there:
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM busybox\nENV A=b\nRUN echo $A >/built && id -u\nUSER user\nRUN id -u >/tmp/user\nRUN exit 0\n")
        e("build", "-t", "built", there, env={"DOCKER_BUILDKIT": "0"})
        same(e("run", "--rm", "built", "cat", "/built", "/tmp/user").out, "b\n1000")
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM busybox\nRUN exit 9\n")
        has(e("build", there, code=9, env={"DOCKER_BUILDKIT": "0"}).err, "code: 9")
    e("rmi", "-f", "built")


@scenario
def userns_remap(e):
    e.daemon.stop()
    try:
        e.start_daemon("--userns-remap=engines")
        e("import", "-c", "ENV PATH=/bin:/sbin", images.busybox(e.options.work), "busybox")
        c = e.up("-m", "64m", "-p", "18081:80")
        same(os.stat(f"/proc/{e.pid(c)}").st_uid, 300000)
        same(e("exec", c, "id", "-u").out, "0")
        has(e("exec", c, "cat", "/proc/self/uid_map").out, "300000")
        e("exec", c, "sh", "-c", "touch /mine && chown 1000 /mine")
        e("exec", c, "sh", "-c", "cat /dev/null; echo >/dev/null; ls /sys /proc/sys >/dev/null")
        same(e.sh("cat /proc/self/uid_map", "--userns", "host").split()[1], "0")
        e.clean()
    finally:
        e.daemon.stop()
        e.start_daemon()


@scenario
def swarm(e):
    e("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        running = lambda: e("service", "ps", "-f", "desired-state=running", "--format", "{{.CurrentState}}", "three").out.count("Running")
        e("service", "create", "-d", "--name", "three", "--replicas", "3", "--restart-delay", "1s", "--stop-grace-period", "1s",
          "--update-delay", "0s", "--no-resolve-image", e.image, "sh", "-c", "while :; do sleep 0.1; done")
        for replicas in 3, 5, 2:
            e("service", "scale", "-d", f"three={replicas}")
            until(lambda: running() == replicas, 60, f"{replicas} replicas")
        e("service", "update", "-d", "--no-resolve-image", "--env-add", "NEW=1", "three")
        until(lambda: e("service", "inspect", "-f", "{{.UpdateStatus.State}}", "three").out == "completed", 60, "the update")
        until(lambda: running() == 2, 60)
        c = e("ps", "-q").out.split()[0]
        has(e.inspect(c, ".HostConfig.Runtime"), e.runtime)
        same(e("exec", c, "sh", "-c", "echo $NEW").out, "1")
        e("service", "rm", "three")
        until(lambda: not e("ps", "-q").out, 60)
    finally:
        e("swarm", "leave", "--force")


@scenario
def docker_in_docker(e):
    if not e("images", "-q", "debian").out:
        e("import", images.debian(e.options.work), "debian", timeout=300)
    name = {"runc": "inner"}.get(e.runtime, e.runtime)
    script = f"exec dockerd --add-runtime {name}=/runtime --default-runtime {name} >/tmp/log 2>&1"
    c = e("run", "-d", "--privileged", "-v", "/usr:/usr:ro", "-v", "/etc/alternatives:/etc/alternatives:ro",
          "-v", f"{e.binaries[e.runtime]}:/runtime:ro", "-v", f"{images.busybox(e.options.work)}:/busybox.tar:ro",
          "-v", "/var/lib/docker", "--tmpfs", "/run", "debian", "sh", "-c", script).out
    inner = lambda *arguments, **how: e("exec", c, "docker", *arguments, **how)
    until(lambda: inner("version", code=None).code == 0, 40, "the inner dockerd")
    inner("import", "/busybox.tar", "busybox")
    same(inner("run", "--rm", "busybox", "echo", "inside").out, "inside")


@scenario
def dockerd_killed(e):
    ids = [e.up() for _ in range(3)]
    e.daemon.process.kill()
    e.daemon.process.wait()
    e.start_daemon()
    e("start", ids[0])
    e("exec", ids[0], "true")
    e("rm", "-f", *ids)
    same(e("ps", "-aq").out, "")


@scenario
def containerd_killed(e):
    ids = [e.up() for _ in range(3)]
    e.containerd.process.kill()
    e.containerd.process.wait()
    e.start_containerd()
    until(lambda: e("exec", ids[0], "true", code=None).code == 0, 30, "exec after containerd's restart")
    e("stop", "-t", "5", *ids)
    e("rm", "-f", *ids)
    same(e("ps", "-aq").out, "")
