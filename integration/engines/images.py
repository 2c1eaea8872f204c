"""Makes images without a registry: busybox from busybox-static, and a Debian with systemd by debootstrap."""
import hashlib, io, json, os, shutil, subprocess, sys, tarfile


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


def archive(work, name, command=("sh",)):
    """A Docker archive with busybox's tar as its only layer, as `ctr images import` wants; returns its path."""
    path = f"{work}/{name}-archive.tar"
    with open(busybox(work), "rb") as layer, tarfile.open(path, "w") as tar:
        diff = hashlib.file_digest(layer, "sha256").hexdigest()
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": command, "Env": ["PATH=/bin:/sbin"]},
                             "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]}}).encode()
        manifest = [{"Config": "config.json", "RepoTags": [f"docker.io/library/{name}:latest"], "Layers": ["layer.tar"]}]
        for file, data in ("config.json", config), ("manifest.json", json.dumps(manifest).encode()):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        tar.add(busybox(work), "layer.tar")
    return path
