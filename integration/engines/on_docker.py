"""dockerd and containerd of the distribution, with every runtime in daemon.json."""
import json, os, signal

import client, images
from harness import Daemon, command


class Docker(client.Client):
    name = "docker"
    program = "/usr/bin/docker"

    def __init__(self, options, binaries):
        self.work, self.run, self.binaries = f"{options.work}/docker", "/run/corten-engines/docker", binaries
        self.host = f"unix://{self.run}/docker.sock"
        self.options = options

    def daemon_json(self, default):
        runtimes = {name: {"path": path} for name, path in self.binaries.items() if name != "runc"}
        return {"data-root": f"{self.work}/data", "exec-root": f"{self.run}/exec", "pidfile": f"{self.run}/docker.pid",
                "hosts": [self.host], "containerd": f"{self.run}/containerd.sock", "runtimes": runtimes,
                "default-runtime": default}

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
        self.containerd = Daemon(["containerd", "--config", f"{self.work}/containerd.toml"], f"{self.work}/containerd.log")
        self.containerd.ready(["ctr", "-a", f"{self.run}/containerd.sock", "version"])
        self.use(next(iter(self.binaries)))
        self.start_daemon()
        command([self.program, "-H", self.host, "import", images.busybox(self.options.work), "busybox"])

    def use(self, runtime):
        """Makes the runtime the default of every container that follows."""
        self.runtime = runtime
        with open(f"{self.work}/daemon.json", "w") as file:
            json.dump(self.daemon_json(runtime), file)

    def argv(self, *arguments):
        after = {"run": 1, "create": 1}.get(arguments[0], 0)
        runtime = ["--runtime", self.runtime] if after else []
        return [self.program, "-H", self.host, *arguments[:after], *runtime, *arguments[after:]]

    def clean(self):
        if ids := self("ps", "-aq").out.split():
            self("rm", "-f", *ids, code=None)
        self("volume", "prune", "-f", code=None)

    def stop(self):
        self.daemon.stop()
        self.containerd.stop()


def engine(options, binaries):
    return Docker(options, binaries)


SCENARIOS = client.SCENARIOS
