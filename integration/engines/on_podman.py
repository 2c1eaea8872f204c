"""Podman and conmon of the distribution, as root, without systemd."""
import os

import client, images
from harness import command

CONTAINERS_CONF = """[engine]
runtime = "{runtime}"
runtime_supports_json = ["corten", "crun", "runc"]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{run}/libpod"
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
        self("import", images.busybox(self.options.work), self.image)

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
