"""Podman and conmon of the distribution, as root, without systemd."""
import os, tempfile

import client, images
from harness import cgroup, command, has, same, until

CONTAINERS_CONF = """[engine]
runtime = "{runtime}"
runtime_supports_json = ["corten", "crun", "runc"]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{run}/libpod"
infra_image = "localhost/infra"
[engine.runtimes]
{runtimes}
[network]
network_backend = "netavark"
"""


class Podman(client.Client):
    name = "podman"
    image = "localhost/busybox"

    def __init__(self, options, binaries):
        self.work, self.run, self.binaries, self.options = f"{options.work}/podman", "/run/corten-engines/podman", binaries, options

    def start(self):
        for directory in self.work, self.run:
            os.makedirs(directory, exist_ok=True)
        self.use(next(iter(self.binaries)))
        self("import", "-c", "ENV PATH=/bin:/sbin", images.busybox(self.options.work), self.image)
        self("import", "-c", 'CMD ["/bin/sleep", "100000"]', images.busybox(self.options.work), "localhost/infra")

    def use(self, runtime):
        self.runtime = runtime
        runtimes = "".join(f'{name} = ["{path}"]\n' for name, path in self.binaries.items())
        with open(f"{self.work}/containers.conf", "w") as file:
            file.write(CONTAINERS_CONF.format(runtime=runtime, runtimes=runtimes, run=self.run))

    def argv(self, *arguments):
        return ["env", f"CONTAINERS_CONF={self.work}/containers.conf", "podman", "--root", f"{self.work}/storage", "--runroot",
                f"{self.run}/storage", *arguments]

    def clean(self):
        self("pod", "rm", "-af", "-t", "0", code=None)
        self("rm", "-af", "-t", "0", code=None)
        self("volume", "prune", "-f", code=None)

    def stop(self):
        pass


def engine(options, binaries):
    return Podman(options, binaries)


SCENARIOS = list(client.SCENARIOS)


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def pod(e):
    """Containers of a pod share what its infra container holds; all stop and start with it."""
    image = "localhost/busybox"
    e("pod", "create", "--name", "p", "-p", "18082:80",
      "--share", "net,ipc,uts,pid")
    served = e("run", "-d", "--pod", "p", image, "httpd", "-f", "-h", "/var/www").out
    other = e("run", "-d", "--pod", "p", image, "sleep", "1000").out
    same(e("exec", other, "wget", "-qO-", "http://127.0.0.1/").out, "served")
    has(e("exec", other, "ps").out, "httpd")
    for kind in "net", "ipc", "uts", "pid":
        same(client.ns(e.pid(other), kind), client.ns(e.pid(served), kind))
    e("pod", "stop", "-t", "1", "p")
    same(e("ps", "-q").out, "")
    e("pod", "start", "p")
    same(len(e("ps", "-q").out.split()), 3)
    e("pod", "rm", "-f", "-t", "0", "p")


@scenario
def pod_pause(e):
    e("pod", "create", "--name", "p")
    c = e.up("--pod", "p")
    e("pod", "pause", "p")
    same(e.inspect(c, ".State.Status"), "paused")
    e("pod", "unpause", "p")
    same(e.inspect(c, ".State.Status"), "running")
    e("pod", "rm", "-f", "-t", "0", "p")


@scenario
def play_kube(e):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("apiVersion: v1\nkind: Pod\nmetadata: {name: k}\nspec:\n  containers:\n  - name: one\n"
                   "    image: localhost/busybox\n    imagePullPolicy: Never\n    command: [sleep, '1000']\n"
                   "    resources: {limits: {memory: 64Mi}}\n    securityContext: {readOnlyRootFilesystem: true}\n")
        file.flush()
        e("play", "kube", file.name)
    has(e("exec", "k-one", "sh", "-c", "touch /x 2>&1", code=1).out, "Read-only")
    same(cgroup(e.pid("k-one"), "memory", "memory.limit_in_bytes"), str(64 << 20))


@scenario
def user_namespaces(e):
    c = e.up("--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536")
    same(os.stat(f"/proc/{e.pid(c)}").st_uid, 300000)
    e("exec", c, "sh", "-c", "touch /mine && chown 1000:1000 /mine")
    same(e("exec", "-u", "1000", c, "id", "-u").out, "1000")


@scenario
def volume_owned(e):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        e.sh("touch /v/mine", "--user", "1000:1000", "-v", f"{there}:/v:U")
        same(os.stat(f"{there}/mine").st_uid, 1000)


@scenario
def volume_id_mapped(e):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        e.sh("touch /v/mine", "--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536", "-v", f"{there}:/v:idmap")
        same(os.stat(f"{there}/mine").st_uid, 0)


@scenario
def volume_overlay(e):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        e.sh("touch /v/mine && ls /v/mine", "-v", f"{there}:/v:O")
        same(os.listdir(there), [])


@scenario
def rootfs(e):
    same(e("run", "--rm", "--rootfs", f"{e.options.work}/busybox:O", "echo", "bare").out, "bare")


@scenario
def systemd(e):
    if e("image", "exists", "debian", code=None).code:
        e("import", images.debian(e.options.work), "debian", timeout=300)
    c = e("run", "-d", "--systemd", "always", "--stop-signal", "RTMIN+3", "debian", "/sbin/init").out
    state = lambda: e("exec", c, "systemctl", "is-system-running", code=None).out
    until(lambda: state() in ("running", "degraded"), 60, "systemd")
    has(e("exec", c, "systemctl", "status", "--no-pager").out, "systemd-journald.service")
    same(open(f"/proc/{e.pid(c)}/comm").read().strip(), "systemd")
    e("stop", "-t", "20", c)
    same(e.inspect(c, ".State.Status"), "exited")


@scenario
def notify(e):
    """What the container says to NOTIFY_SOCKET arrives at the caller's."""
    import socket
    with tempfile.TemporaryDirectory() as there, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{there}/notify")
        server.settimeout(10)
        e("run", "-d", "--sdnotify", "conmon", e.image, "sleep", "100", env={"NOTIFY_SOCKET": f"{there}/notify"})
        has(server.recv(4096).decode(), "READY=1")


@scenario
def descriptors(e):
    """--preserve-fds hands a descriptor of the caller to the program."""
    with tempfile.NamedTemporaryFile("r") as file:
        podman = e.argv("run", "--rm", "--preserve-fds", "1", e.image, "sh", "-c", "echo through >&3")
        command(["sh", "-c", 'exec 3>$0; exec "$@"', file.name, *podman])
        same(file.read(), "through\n")


@scenario
def build(e):
    with tempfile.TemporaryDirectory() as there:
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM localhost/busybox\nENV A=b\nRUN echo $A >/built && id -u\nUSER user\nRUN id -u >/tmp/user\n")
        e("build", "--isolation", "oci", "-t", "built", there)
        same(e("run", "--rm", "built", "cat", "/built", "/tmp/user").out, "b\n1000")
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM localhost/busybox\nRUN exit 9\n")
        has(e("build", "--isolation", "oci", there, code=None).err, "exit status 9")
    e("rmi", "-f", "built")


@scenario
def conmon_killed(e):
    c = e.up()
    os.kill(int(e.inspect(c, ".State.ConmonPid")), 9)
    e("exec", c, "true", code=None)
    e("rm", "-f", "-t", "0", c)
    same(e("ps", "-aq").out, "")
