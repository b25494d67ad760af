"""The guest's initial RAM disk: busybox, modules, and the script `init`."""
import lzma
import os
import re
import subprocess
from pathlib import Path

from packages import command

HERE = Path(__file__).parent
# newc, the format of initramfs: Documentation/driver-api/early-userspace/
# buffer-format.rst of the kernel.
MAGIC = "070701"
DIRECTORY, FILE, LINK = 0o040755, 0o100755, 0o120777


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.count = 0
        self.names = set()

    def add(self, name, mode, content=b""):
        """Adds it once, behind the directories that it lies in."""
        if name in self.names:
            return
        self.names.add(name)
        if "/" in name:
            self.add(name.rpartition("/")[0], DIRECTORY)
        self.count += 1
        path = name.encode() + b"\0"
        fields = (self.count, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0,
                  len(path), 0)
        self.data += (MAGIC + "".join(f"{f:08x}" for f in fields)).encode()
        for part in (path, content):
            self.data += part
            self.data += b"\0" * (-len(self.data) % 4)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.data)


def contents(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def in_order(modules, wanted):
    """[(name, contents)] of the modules, each behind what it depends on."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path
             for path in modules.rglob("*.ko*")}
    ordered = {}

    def visit(name):
        name = name.replace("-", "_")
        if name in ordered or name not in files:
            return
        data = contents(files[name])
        for key in (rb"depends=", rb"softdep=pre: "):
            for found in re.finditer(rb"\0" + key + rb"([^\0]*)", data):
                for needed in re.split(r"[, ]+", found.group(1).decode()):
                    visit(needed)
        ordered[name] = data

    for name in wanted:
        visit(name)
    return list(ordered.items())


def libraries(tool):
    """{where it goes: where it is} of a program's libraries."""
    environment = dict(os.environ)
    if tool.directory:
        environment["LD_LIBRARY_PATH"] = ":".join(
            str(path) for path in tool.directory.glob("**/lib/*-linux-gnu"))
    listed = subprocess.run(["ldd", tool.program], capture_output=True,
                            text=True, check=False, env=environment).stdout
    found = {}
    for path in map(Path, re.findall(r"(/\S+) \(0x", listed)):
        taken_along = tool.directory and tool.directory in path.parents
        # Where the loader looks by itself: below the last `lib`.
        place = (f"lib/{path.parent.name}/{path.name}" if taken_along
                 else str(path).lstrip("/"))
        found[place] = path
    return found


def mac(number, end):
    """The address by which the guest knows a card."""
    return f"52:54:00:00:{number:02x}:{end:02x}"


def initramfs(guest, kernel):
    archive = Archive()
    for directory in ("bin", "etc", "modules"):
        archive.add(directory, DIRECTORY)
    busybox = Path(command("busybox"))
    archive.add("bin/busybox", FILE, busybox.read_bytes())
    archive.add("init", FILE, (HERE / "init").read_bytes().replace(
        b"#!/bin/sh\n", b"#!/bin/busybox sh\n/bin/busybox --install -s /bin\n", 1))
    parameters = guest["modules"]["parameters"]
    lines = []
    for name, data in in_order(kernel.modules, guest["modules"]["load"]):
        archive.add(f"modules/{name}.ko", FILE, data)
        lines.append(f"{name}.ko {parameters.get(name, '')}\n")
    for name, tool in guest["tools"].items():
        archive.add(f"bin/{name}", FILE, tool.program.read_bytes())
        for place, path in libraries(tool).items():
            archive.add(place, FILE, path.read_bytes())
    nics = [f"{mac(number, end)} {nic['name']}{end}\n"
            for number, nic in enumerate(guest["nic"]) for end in range(2)]
    archive.add("etc/lab-nics", FILE, "".join(nics).encode())
    drives = [f"{drive['name']} {drive.get('filesystem', '')}\n"
              for drive in guest["nvme"]]
    archive.add("etc/lab-modules", FILE, "".join(lines).encode())
    archive.add("etc/lab-drives", FILE, "".join(drives).encode())
    return archive.finish()
