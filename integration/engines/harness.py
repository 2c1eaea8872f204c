"""Runs scenarios: a scenario is a function that is given an engine's client and raises where an effect is missing.

Responsible for processes, terminals, cgroup files and the table that is printed; never knows an engine.
"""
import fcntl, os, pty, select, shutil, signal, struct, subprocess, sys, termios, time, traceback, urllib.request


class Missing(Exception):
    """An effect that a scenario expects and did not see."""


class Result:
    """What a command wrote and how it ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


verbose = False


def command(argv, code=0, input=None, timeout=60, env=None):
    """Runs argv; raises Missing where it does not end with the exit code (any if None) within timeout seconds."""
    if verbose:
        print("+", *argv, file=sys.stderr)
    try:
        done = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=timeout, errors="replace",
                              env=os.environ | (env or {}), **({} if input is not None else {"stdin": subprocess.DEVNULL}))
    except subprocess.TimeoutExpired as expired:
        raise Missing(f"{' '.join(argv)}: still running after {timeout} s; wrote {expired.stdout}") from expired
    if code is not None and done.returncode != code:
        raise Missing(f"{' '.join(argv)}: exit code {done.returncode}, not {code}: {done.stdout}{done.stderr}")
    return Result(done.returncode, done.stdout.strip(), done.stderr.strip())


def same(actual, expected):
    if actual != expected:
        raise Missing(f"{actual!r} is not {expected!r}")


def has(text, *parts):
    for part in parts:
        if part not in text:
            raise Missing(f"no {part!r} in {text!r}")


def until(condition, seconds=20, what="a condition"):
    """Waits until the condition holds, and returns what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise Missing(f"{what}: not within {seconds} s")


def fetch(url):
    """What a web server answers, None if nothing."""
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2).read().decode().strip()
    except OSError:
        return None


class Terminal:
    """A command on a pty of our own, as a person at a terminal runs it."""

    def __init__(self, argv, rows=24, columns=80, env=None):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, os.environ | (env or {}))
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text, seconds=15):
        """Reads until the text appears, and forgets everything up to it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Missing(f"the terminal never showed {text!r}, only {self.seen!r}")
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            if not data:
                raise Missing(f"the terminal ended without {text!r}: {self.seen!r}")
            self.seen += data.decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def end(self, code=0, seconds=15):
        """Waits for the command to end with the exit code."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return same(os.waitstatus_to_exitcode(status), code)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise Missing(f"the command on the terminal does not end; it shows {self.seen!r}")


def cgroup(pid, controller, file):
    """The content of a cgroup file of the process, wherever the controller is mounted."""
    for line in open(f"/proc/{pid}/cgroup").read().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return open(f"/sys/fs/cgroup/{controller}{path}/{file}").read().strip()
    raise Missing(f"process {pid} is in no cgroup of {controller}")


def status(text, field):
    """A field of /proc/PID/status."""
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(field + ":"))


class Daemon:
    """A process that runs until it is stopped, its output in a file."""

    def __init__(self, argv, log, env=None):
        self.log = log
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=open(log, "a"), stderr=subprocess.STDOUT,
                                        env=os.environ | (env or {}), start_new_session=True)

    def ready(self, argv, seconds=60):
        """Waits until the command succeeds."""
        def answers():
            if self.process.poll() is not None:
                raise Missing(f"{self.process.args[0]} ended: {open(self.log).read()[-2000:]}")
            return subprocess.run(argv, capture_output=True).returncode == 0
        until(answers, seconds, f"{self.process.args[0]} answers")

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


CGROUPS = "docker", "engines-test", "default", "k8s.io", "kubepods", "libpod_parent", "machine.slice", "user.slice"


def cgroups():
    """The directories of the engines' cgroups in every hierarchy, deepest last."""
    tops = [top.path for top in os.scandir("/sys/fs/cgroup")]
    return [path for top in tops for name in CGROUPS for path, _, _ in os.walk(f"{top}/{name}")]


def users(work):
    """Adds the user `engines` with subordinate ids, for these namespaces alone."""
    lines = {"passwd": f"engines:x:4321:4321::{work}/home:/bin/sh", "group": "engines:x:4321:",
             "subuid": "engines:300000:65536", "subgid": "engines:300000:65536"}
    for name, line in lines.items():
        with open(f"{work}/{name}", "w") as file:
            file.write(open(f"/etc/{name}").read() + line + "\n")
        command(["mount", "--bind", f"{work}/{name}", f"/etc/{name}"])
    os.makedirs(f"{work}/home", exist_ok=True)
    os.chown(f"{work}/home", 4321, 4321)


def set_up(options):
    """Readies the namespaces that this program was started in, and the directories."""
    command(["mount", "--make-rshared", "/"])
    command(["ip", "link", "set", "lo", "up"])
    os.makedirs(f"{options.work}/bin", exist_ok=True)
    users(options.work)
    command(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/lock"])
    paths = {name: shutil.which(name) for name in options.runtimes.split(",") if name != "corten"}
    if options.corten:
        shutil.copy(options.corten, f"{options.work}/bin/corten")
        paths["corten"] = f"{options.work}/bin/corten"
    return {name: paths[name] for name in options.runtimes.split(",")}


def attempt(engine, scenario):
    """Runs one scenario once and cleans after it; returns why it failed, or None."""
    try:
        scenario(engine)
        return None
    except Missing as missing:
        return str(missing)
    except Exception:
        return traceback.format_exc()
    finally:
        engine.clean()


def main(options, modules):
    """Runs the scenarios of each engine; returns the exit code."""
    global verbose
    verbose = options.verbose
    binaries = set_up(options)
    before, worse, reasons = cgroups(), 0, []
    for module in modules:
        engine = module.engine(options, binaries)
        engine.start()
        try:
            for scenario in module.SCENARIOS:
                name = scenario.__name__.replace("_", "-")
                if options.scenario not in name:
                    continue
                line = f"{engine.name:<11} {name:<24}"
                failed = set()
                for runtime in binaries:
                    engine.use(runtime)
                    began = time.monotonic()
                    why = attempt(engine, scenario)
                    if why:
                        failed.add(runtime)
                        reasons.append(f"{engine.name} {name} {runtime}: {why}")
                    if verbose:
                        print(f"{name} {runtime} {time.monotonic() - began:.1f} s: {why or 'ok'}", file=sys.stderr)
                    line += f"  {runtime} {'FAILED' if why else 'ok':<6}"
                print(line, flush=True)
                worse += "corten" in failed and "runc" not in failed
        finally:
            engine.stop()
    for reason in reasons:
        print("\n" + reason[:1000], file=sys.stderr)
    for path in reversed([path for path in cgroups() if path not in before]):
        if not os.path.exists(f"{path}/cgroup.procs") or not open(f"{path}/cgroup.procs").read():
            os.rmdir(path)
    return 1 if worse else 0
