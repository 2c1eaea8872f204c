"""Makes images without a registry: busybox from busybox-static, and a Debian with systemd by debootstrap."""
import os, shutil, subprocess, sys


def busybox(work):
    """A tar of a root filesystem with busybox and all its names; returns its path."""
    tar, root = f"{work}/busybox.tar", f"{work}/busybox"
    if os.path.exists(tar):
        return tar
    shutil.rmtree(root, ignore_errors=True)
    for directory in "bin sbin usr/bin usr/sbin etc proc sys dev tmp root home/user var/www data".split():
        os.makedirs(f"{root}/{directory}")
    os.chmod(f"{root}/tmp", 0o1777)
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")
    for name in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            os.symlink("/bin/busybox", f"{root}/bin/{name}")
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
        "etc/group": "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
        "var/www/index.html": "served\n",
        "data/from-image": "from the image\n",
    }
    for path, text in files.items():
        with open(f"{root}/{path}", "w") as file:
            file.write(text)
    os.chown(f"{root}/home/user", 1000, 1000)
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True)
    return tar


def debian(work):
    """A tar of a Debian whose init is systemd; returns its path."""
    tar, root = f"{work}/debian.tar", f"{work}/debian"
    if os.path.exists(tar):
        return tar
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,iproute2,procps", "bookworm",
                    root, "http://deb.debian.org/debian"], check=True, stdout=sys.stderr)
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True)
    return tar
