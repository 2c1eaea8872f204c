"""What the clients of Docker and Podman have in common, and the scenarios that both are given."""
import json, os, tempfile, time

from harness import Missing, Terminal, cgroup, command, fetch, has, same, status, until


class Client:
    """A command line with run, exec, inspect and so on."""

    image = "busybox"

    def __call__(self, *arguments, **how):
        return command(self.argv(*arguments), **how)

    def sh(self, script, *options, **how):
        """Runs a shell script in a new container; returns what it wrote to stdout."""
        return self("run", "--rm", *options, self.image, "sh", "-c", script, **how).out

    def up(self, *options, script="trap 'exit 0' TERM; while :; do sleep 0.1; done"):
        """Starts a container in the background; returns its id."""
        return self("run", "-d", *options, self.image, "sh", "-c", script).out

    def inspect(self, container, what):
        return self("inspect", "-f", "{{" + what + "}}", container).out

    def pid(self, container):
        return self.inspect(container, ".State.Pid")


SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


# Running and ending


@scenario
def run_attached(e):
    done = e("run", "--rm", e.image, "sh", "-c", "echo out; echo err >&2")
    same((done.out, done.err), ("out", "err"))


@scenario
def run_detached(e):
    c = e.up()
    same(e.inspect(c, ".State.Status"), "running")
    same(open(f"/proc/{e.pid(c)}/comm").read().strip(), "sh")


@scenario
def run_it(e):
    t = Terminal(e.argv("run", "--rm", "-it", e.image, "sh"), 30, 100)
    t.expect("# ")
    t.type("tty; test -t 2 && echo is a tty$((1))\n")
    t.expect("/dev/pts/0")
    t.expect("is a tty1")
    t.resize(41, 113)
    t.type("sleep 1; stty size; echo $TERM; exit 7\n")
    t.expect("41 113")
    t.expect("xterm")
    t.end(7)


@scenario
def interrupt_it(e):
    t = Terminal(e.argv("run", "--rm", "-it", e.image, "sh"))
    t.expect("# ")
    t.type("sleep 100\n")
    time.sleep(0.7)
    t.type("\x03")
    t.expect("# ")
    t.type("exit 5\n")
    t.end(5)


@scenario
def stdin(e):
    data = "a line of text\n" * 100000
    same(e("run", "--rm", "-i", e.image, "wc", "-c", input=data).out, str(len(data)))


@scenario
def exit_codes(e):
    for code in 0, 1, 42, 255:
        e.sh(f"exit {code}", code=code)
    e("run", "--rm", e.image, "/nonexistent", code=127)
    has(e("run", "--rm", e.image, "nonexistent", code=127).err.lower(), "nonexistent")
    has(e("run", "--rm", e.image, "/etc/passwd", code=126).err.lower(), "permission denied")
    e("run", "--rm", e.image, "/etc", code=126)
    e("run", "--rm", "-w", "/etc/passwd/x", e.image, "true", code=None)


@scenario
def exit_by_signal(e):
    for sig, code in ("TERM", 143), ("KILL", 137), ("HUP", 129):
        c = e("run", "-d", "--init", e.image, "sleep", "100").out if sig != "KILL" else e.up()
        time.sleep(0.3)
        e("kill", "-s", sig, c)
        same(e("wait", c).out, str(code))


@scenario
def stop_with_grace(e):
    c = e.up(script="trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: "ready" in e("logs", c).out)
    began = time.monotonic()
    e("stop", c)
    same(e.inspect(c, ".State.ExitCode"), "3")
    if time.monotonic() - began > 8:
        raise Missing("the container did not see SIGTERM")


@scenario
def stop_with_kill(e):
    c = e.up(script="trap '' TERM; while :; do sleep 0.1; done")
    e("stop", "-t", "1", c)
    same(e.inspect(c, ".State.ExitCode"), "137")


@scenario
def wait(e):
    c = e.up(script="sleep 1; exit 9")
    same(e("wait", c).out, "9")


@scenario
def restart(e):
    c = e.up()
    first = e.pid(c)
    e("restart", "-t", "5", c)
    same(e.inspect(c, ".State.Running"), "true")
    if e.pid(c) == first:
        raise Missing("the same process after a restart")


@scenario
def restart_policy(e):
    c = e.up("--restart", "on-failure:2", script="exit 1")
    until(lambda: e.inspect(c, ".RestartCount") == "2", 30, "two restarts")


@scenario
def remove_by_force(e):
    c = e.up()
    pid = e.pid(c)
    e("rm", "-f", c)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    e("inspect", c, code=None)
    same(e("ps", "-aq").out, "")


@scenario
def create_then_start(e):
    c = e("create", e.image, "echo", "late").out
    same(e("start", "-a", c).out, "late")


@scenario
def attach(e):
    c = e.up("-i", script="read line; echo got $line")
    same(e("attach", c, input="through attach\n").out, "got through attach")


# Looking in and on


@scenario
def logs(e):
    c = e.up(script="echo one; echo two >&2; sleep 0.2; echo three")
    e("wait", c)
    done = e("logs", c)
    same((done.out, done.err), ("one\nthree", "two"))


@scenario
def exec_attached(e):
    c = e.up()
    done = e("exec", c, "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
    same((done.out, done.err), ("out", "err"))
    same(e("exec", "-i", c, "cat", input="piped\n").out, "piped")
    same(e("exec", "-e", "A=b", "-w", "/tmp", c, "sh", "-c", "echo $A; pwd").out, "b\n/tmp")


@scenario
def exec_it(e):
    c = e.up()
    t = Terminal(e.argv("exec", "-it", c, "sh"), 33, 99)
    t.expect("# ")
    t.type("sleep 1; stty size; tty\n")
    t.expect("33 99")
    t.expect("/dev/pts/0")
    t.resize(44, 88)
    t.type("sleep 1; stty size; exit 6\n")
    t.expect("44 88")
    t.end(6)


@scenario
def exec_as_user(e):
    c = e.up()
    same(e("exec", "-u", "1000:1000", c, "id", "-u").out, "1000")
    has(e("exec", "-u", "user", c, "id").out, "uid=1000(user)", "2000(extra)")
    same(e("exec", "-u", "user", c, "sh", "-c", "echo $HOME; grep CapEff /proc/self/status").out.split()[-1], "0" * 16)


@scenario
def exec_detached(e):
    c = e.up()
    e("exec", "-d", c, "sh", "-c", "sleep 0.3; echo done >/tmp/done")
    until(lambda: e("exec", c, "cat", "/tmp/done", code=None).out == "done")


@scenario
def exec_privileged(e):
    c = e.up()
    plain = e("exec", c, "grep", "CapEff", "/proc/self/status").out.split()[1]
    full = e("exec", "--privileged", c, "grep", "CapEff", "/proc/self/status").out.split()[1]
    if int(full, 16) & int(plain, 16) != int(plain, 16) or full == plain:
        raise Missing(f"privileged exec has {full}, plain {plain}")


@scenario
def exec_codes(e):
    c = e.up()
    for program in "/nonexistent", "nonexistent":  # 126 up to Docker 20.10
        if e("exec", c, program, code=None).code not in (126, 127):
            raise Missing(f"neither 126 nor 127 for {program}")
    e("exec", c, "/etc/passwd", code=126)
    e("exec", "-w", "/nonexistent", c, "true", code=None)
    e("exec", c, "sh", "-c", "kill -9 $$", code=137)


@scenario
def exec_after_end(e):
    c = e.up(script="exit 0")
    e("wait", c)
    has(e("exec", c, "true", code=None).err.lower(), "not running" if e.name == "docker" else "running")


@scenario
def top(e):
    c = e.up(script="exec sleep 12345")
    has(e("top", c).out, "sleep 12345")


@scenario
def stats(e):
    c = e.up("-m", "64m")
    line = e("stats", "--no-stream", c).out
    has(line, "%")
    has(line.replace("67.11MB", "64MiB"), "64MiB")


@scenario
def events_and_ps(e):
    c = e.up("--name", "seen")
    has(e("ps").out, "seen", "Up")
    e("rm", "-f", c)


@scenario
def pause(e):
    c = e.up(script="i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.05; done")
    pid = e.pid(c)
    count = lambda: open(f"/proc/{pid}/root/tmp/n").read()
    until(lambda: os.path.exists(f"/proc/{pid}/root/tmp/n"))
    e("pause", c)
    same(e.inspect(c, ".State.Status"), "paused")
    time.sleep(0.3)
    first = count()
    time.sleep(0.5)
    same(count(), first)
    e("exec", c, "true", code=None)
    e("unpause", c)
    until(lambda: count() not in ("", first))


@scenario
def remove_paused(e):
    c = e.up()
    e("pause", c)
    e("rm", "-f", c)


@scenario
def copy(e):
    c = e.up()
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("copied")
        file.flush()
        e("cp", file.name, f"{c}:/tmp/copied")
    same(e("exec", c, "cat", "/tmp/copied").out, "copied")


# Limits


@scenario
def update(e):
    c = e.up("-m", "64m")
    e("update", "-m", "128m", "--memory-swap", "128m", "--cpus", "0.5", "--cpuset-cpus", "0", c)
    pid = e.pid(c)
    same(cgroup(pid, "memory", "memory.limit_in_bytes"), str(128 << 20))
    same(cgroup(pid, "cpu", "cpu.cfs_quota_us"), "50000")
    same(cgroup(pid, "cpuset", "cpuset.cpus"), "0")


@scenario
def memory(e):
    c = e.up("-m", "64m", "--memory-swap", "64m", "--memory-reservation", "32m")
    pid = e.pid(c)
    same(cgroup(pid, "memory", "memory.limit_in_bytes"), str(64 << 20))
    same(cgroup(pid, "memory", "memory.soft_limit_in_bytes"), str(32 << 20))


@scenario
def out_of_memory(e):
    c = e("run", "-d", "-m", "20m", "--memory-swap", "20m", e.image, "tail", "/dev/zero").out
    same(e("wait", c).out, "137")


@scenario
def out_of_memory_told(e):
    c = e("run", "-d", "-m", "20m", "--memory-swap", "20m", e.image, "tail", "/dev/zero").out
    e("wait", c)
    until(lambda: e.inspect(c, ".State.OOMKilled") == "true", 5, "OOMKilled")


@scenario
def cpu(e):
    c = e.up("--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "1")
    pid = e.pid(c)
    same(cgroup(pid, "cpu", "cpu.cfs_quota_us"), "50000")
    same(cgroup(pid, "cpu", "cpu.shares"), "512")
    same(status(open(f"/proc/{pid}/status").read(), "Cpus_allowed_list"), "1")


@scenario
def pids(e):
    done = e("run", "--rm", "--pids-limit", "5", e.image, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait",
             code=None)
    has(done.err, "can't fork")


@scenario
def blkio(e):
    disk = next(name for name in os.listdir("/sys/block") if name.startswith(("vd", "sd", "nvme")))
    c = e.up("--device-read-bps", f"/dev/{disk}:1mb")
    same(cgroup(e.pid(c), "blkio", "blkio.throttle.read_bps_device").split()[1], str(1 << 20))


@scenario
def cgroup_parent(e):
    c = e.up("--cgroup-parent", "/engines-test")
    has(open(f"/proc/{e.pid(c)}/cgroup").read(), ":/engines-test/")


# Security


def caps(text):
    return int(status(text, "CapEff"), 16)


@scenario
def capabilities(e):
    plain = caps(e.sh("cat /proc/self/status"))
    same(caps(e.sh("cat /proc/self/status", "--cap-add", "SYS_TIME")) & ~plain, 1 << 25)
    same(plain & ~caps(e.sh("cat /proc/self/status", "--cap-drop", "CHOWN")), 1)
    same(caps(e.sh("cat /proc/self/status", "--cap-drop", "ALL")), 0)
    has(e("run", "--rm", "--cap-drop", "ALL", e.image, "chown", "1:1", "/tmp", code=1).err, "not permitted")
    same(caps(e.sh("cat /proc/self/status", "--user", "1000")), 0)


@scenario
def privileged(e):
    text = e.sh("cat /proc/self/status; ls /dev; mount -t tmpfs t /tmp && echo mounted", "--privileged")
    same(caps(text) >> 21 & 1, 1)
    same(caps(text) & ~int(status(open("/proc/self/status").read(), "CapBnd"), 16), 0)
    same(status(text, "Seccomp"), "0")
    has(text, "kmsg", "mounted")


@scenario
def seccomp_default(e):
    text = e.sh("cat /proc/self/status; unshare -U true || echo refused; mount -t tmpfs t /tmp || echo refused too")
    same(status(text, "Seccomp"), "2")
    has(text, "refused", "refused too")


@scenario
def seccomp_profile(e):
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(profile, file)
        file.flush()
        done = e("run", "--rm", "--security-opt", f"seccomp={file.name}", e.image, "mkdir", "/tmp/x", code=1)
    has(done.err, "not supported")


@scenario
def seccomp_unconfined(e):
    same(e.sh("grep ^Seccomp: /proc/self/status", "--security-opt", "seccomp=unconfined").split()[1], "0")


@scenario
def no_new_privileges(e):
    same(e.sh("grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges").split()[1], "1")
    same(e.sh("grep NoNewPrivs /proc/self/status").split()[1], "0")


@scenario
def masked_paths(e):
    has(e.sh("cat /proc/kcore | wc -c; echo 1 2>&1 >/proc/sys/kernel/panic; ls /proc/scsi /sys/firmware | wc -l"), "Read-only")


@scenario
def read_only(e):
    text = e.sh("touch /x 2>&1; touch /tmp/y && echo tmp written; touch /dev/z 2>&1 && echo dev written",
                "--read-only", "--tmpfs", "/tmp")
    has(text, "Read-only file system", "tmp written")


@scenario
def tmpfs(e):
    text = e.sh("df -k /mem; stat -c %a /mem; grep ' /mem ' /proc/mounts; cp /bin/busybox /mem/b; /mem/b true 2>&1",
                "--tmpfs", "/mem:rw,noexec,size=4m,mode=1770", code=None)
    has(text, "4096", "1770", "noexec", "Permission denied")


@scenario
def devices(e):
    text = e.sh("ls -l /dev/mine; sh -c ': </dev/mine && echo readable'; sh -c 'echo >/dev/mine' 2>&1",
                "--device", "/dev/fuse:/dev/mine:r", code=None)
    has(text, "10, 229", "readable", "not permitted")
    has(e.sh("mknod /tmp/k c 10 229; sh -c ': </tmp/k' 2>&1", code=None), "not permitted")
    e.sh("mknod /tmp/k c 10 229 && : </tmp/k", "--device-cgroup-rule", "c 10:229 rwm")


@scenario
def ulimits(e):
    same(e.sh("ulimit -Sn; ulimit -Hn; ulimit -c", "--ulimit", "nofile=77:88", "--ulimit", "core=0",
              "--ulimit", "nproc=1000:1000"), "77\n88\n0")


@scenario
def sysctls(e):
    same(e.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "--sysctl", "net.ipv4.ip_forward=1",
              "--sysctl", "kernel.msgmax=12345"), "1\n12345")


@scenario
def oom_score(e):
    same(e.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "321"), "321")


@scenario
def users(e):
    same(e.sh("id -u; id -g", "--user", "123:456"), "123\n456")
    has(e.sh("id; echo $HOME", "--user", "user"), "uid=1000(user)", "2000(extra)", "/home/user")
    has(e.sh("id -G", "--user", "1000", "--group-add", "3000"), "3000")


# Namespaces


def ns(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@scenario
def namespaces_of_its_own(e):
    pid = e.pid(e.up())
    for kind in "mnt", "pid", "ipc", "uts", "net":
        if ns(pid, kind) == ns("self", kind):
            raise Missing(f"a {kind} namespace of its own")


@scenario
def namespaces_of_the_host(e):
    pid = e.pid(e.up("--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host"))
    for kind in "pid", "ipc", "uts", "net":
        same(ns(pid, kind), ns("self", kind))


@scenario
def namespaces_of_another(e):
    first = e.up("--ipc", "shareable")
    other = e.up("--net", f"container:{first}", "--pid", f"container:{first}", "--ipc", f"container:{first}")
    for kind in "pid", "ipc", "net":
        same(ns(e.pid(other), kind), ns(e.pid(first), kind))
    has(e("exec", other, "ps").out, "sleep")
    e("rm", "-f", other)
    same(e.inspect(first, ".State.Running"), "true")


@scenario
def host_pid_stop(e):
    c = e.up("--pid", "host", script="sleep 4321 & sleep 4322")
    e("stop", "-t", "1", c)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if "sleep\x004321" in open(f"/proc/{pid}/cmdline").read():
                raise Missing("a process of the container outlived it")
        except OSError:
            pass


@scenario
def cgroup_namespace(e):
    for kind, alike in ("private", False), ("host", True):
        pid = e.pid(e.up("--cgroupns", kind))
        same(ns(pid, "cgroup") == ns("self", "cgroup"), alike)


@scenario
def hostname(e):
    same(e.sh("hostname; cat /etc/hostname", "--hostname", "named"), "named\nnamed")


@scenario
def init(e):
    pid = e.pid(e("run", "-d", "--init", e.image, "sleep", "100").out)
    has(open(f"/proc/{pid}/cmdline").read(), "init", "sleep")


@scenario
def environment(e):
    same(e.sh("echo $A-$HOSTNAME; pwd", "-e", "A=b", "--hostname", "h", "-w", "/var/www"), "b-h\n/var/www")
    same(e("run", "--rm", "--entrypoint", "/bin/echo", e.image, "args").out, "args")


# Files


@scenario
def volumes(e):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        with open(f"{there}/file", "w") as file:
            file.write("shared")
        e.sh("cat /v/file; echo back >/v/back", "-v", f"{there}:/v")
        same(open(f"{there}/back").read(), "back\n")
        has(e.sh("touch /v/no 2>&1", "-v", f"{there}:/v:ro", code=1), "Read-only")
        same(e.sh("cat /v/file", "-v", f"{there}:/v:z"), "shared")
        same(e.sh("cat /one", "-v", f"{there}/file:/one:ro"), "shared")
        same(e.sh("cat /m/file", "--mount", f"type=bind,src={there},dst=/m,readonly"), "shared")


@scenario
def propagation(e):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        os.mkdir(f"{there}/sub")
        slave = e.up("-v", f"{there}:/v:rslave")
        private = e.up("-v", f"{there}:/v:rprivate")
        shared = e.up("-v", f"{there}:/v:rshared", "--privileged")
        command(["mount", "-t", "tmpfs", "t", f"{there}/sub"])
        try:
            command(["touch", f"{there}/sub/seen"])
            e("exec", slave, "ls", "/v/sub/seen")
            e("exec", private, "ls", "/v/sub/seen", code=1)
        finally:
            command(["umount", f"{there}/sub"])
        e("exec", shared, "mount", "-t", "tmpfs", "t", "/v/sub")
        command(["mountpoint", "-q", f"{there}/sub"])
        e("exec", shared, "umount", "/v/sub")


@scenario
def named_volume(e):
    e.sh("cat /data/from-image && echo kept >/data/kept", "-v", "vol1:/data")
    same(e.sh("cat /data/from-image /data/kept", "-v", "vol1:/data"), "from the image\nkept")
    e("volume", "rm", "vol1")


# Services


@scenario
def health(e):
    c = e.up("--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1")
    state = lambda: e.inspect(c, ".State.Health.Status")
    if e.name == "podman":  # its timers are systemd's, which is not here
        e("healthcheck", "run", c, code=1)
        e("exec", c, "touch", "/tmp/well")
        return e("healthcheck", "run", c)
    until(lambda: state() == "unhealthy")
    e("exec", c, "touch", "/tmp/well")
    until(lambda: state() == "healthy")


@scenario
def published_port(e):
    c = e("run", "-d", "-p", "18080:80", e.image, "httpd", "-f", "-h", "/var/www").out

    same(until(lambda: fetch("http://127.0.0.1:18080/"), 10, "an answer on the published port"), "served")
    same(e.sh("wget -qO- http://127.0.0.1/", "--net", f"container:{c}"), "served")


@scenario
def twenty_at_once(e):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda _: e.up(), range(20)))
    same(len(e("ps", "-q").out.split()), 20)
    for c in ids:
        same(e.inspect(c, ".State.Running"), "true")
    e("stop", "-t", "5", *ids, timeout=120)
    e("rm", *ids)
    same(e("ps", "-aq").out, "")
