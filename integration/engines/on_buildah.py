"""buildah of the distribution: RUN steps, and run in a working container."""
import os, tempfile

import images
from harness import Missing, command, has, same


class Buildah:
    name = "buildah"

    def __init__(self, options, binaries):
        self.options, self.binaries = options, binaries
        self.work, self.run = f"{options.work}/buildah", "/run/corten-engines/buildah"

    def start(self):
        os.makedirs(self.work, exist_ok=True)
        os.makedirs(self.run, exist_ok=True)
        self.use(next(iter(self.binaries)))
        with open(f"{self.work}/Dockerfile", "w") as file:
            file.write(f"FROM scratch\nADD {os.path.basename(images.busybox(self.options.work))} /\nENV PATH=/bin:/sbin\n")
        self("build", "-t", "busybox", "-f", f"{self.work}/Dockerfile", self.options.work, timeout=180)

    def use(self, runtime):
        self.runtime = runtime

    def argv(self, *arguments):
        after = 1 if arguments[0] in ("build", "run") else 0
        runtime = ["--isolation", "oci", "--runtime", self.binaries[self.runtime]] if after else []
        return ["buildah", "--root", f"{self.work}/storage", "--runroot", f"{self.run}/storage", *arguments[:after], *runtime,
                *arguments[after:]]

    def __call__(self, *arguments, **how):
        return command(self.argv(*arguments), **how)

    def clean(self):
        self("rm", "-a", code=None)

    def stop(self):
        pass


def engine(options, binaries):
    return Buildah(options, binaries)


SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def build(e):
    with tempfile.TemporaryDirectory() as there:
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM localhost/busybox\nENV A=b\nRUN echo $A >/built\nUSER user\nWORKDIR /home/user\nRUN id -u >who && pwd\n")
        e("build", "-t", "built", there)
        same(e("run", e("from", "localhost/built").out, "--", "cat", "/built", "/home/user/who").out, "b\n1000")
    e.clean()
    e("rmi", "-f", "built")


@scenario
def build_fails(e):
    with tempfile.TemporaryDirectory() as there:
        with open(f"{there}/Dockerfile", "w") as file:
            file.write("FROM localhost/busybox\nRUN exit 9\n")
        has(e("build", there, code=None).err, "exit status 9")
        with open(f"{there}/Dockerfile", "w") as file:
            file.write('FROM localhost/busybox\nRUN ["/nonexistent"]\n')
        if e("build", there, code=None).code == 0:
            raise Missing("a build with a program that is not there succeeds")


@scenario
def run(e):
    c = e("from", "localhost/busybox").out
    same(e("run", c, "--", "sh", "-c", "echo out").out, "out")
    e("run", c, "--", "sh", "-c", "exit 5", code=5)
    same(e("run", c, "--", "cat", input="piped\n").out, "piped")
    same(e("run", "--user", "1000", c, "--", "id", "-u").out, "1000")
    e("run", c, "--", "sh", "-c", "echo kept >/kept")
    same(e("run", c, "--", "cat", "/kept").out, "kept")
    same(e("run", "-v", f"{e.options.work}/busybox/var/www:/v:ro", c, "--", "cat", "/v/index.html").out, "served")


@scenario
def commit(e):
    c = e("from", "localhost/busybox").out
    e("run", c, "--", "touch", "/made")
    e("commit", c, "committed")
    same(e("run", e("from", "localhost/committed").out, "--", "ls", "/made").out, "/made")
    e.clean()
    e("rmi", "-f", "committed")
