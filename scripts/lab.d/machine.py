"""One emulated machine: started, told what to do, and always taken down.

Its directory holds all there is of it: the images of its drives, the kernel's
log (`console`), the directory shared with the guest, and three sockets:
`jobs` (the second serial port), `qmp` (QEMU's own control) and `shell`.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from image import initramfs, mac
from packages import command

PR_SET_PDEATHSIG = 1  # prctl(2)
CONSOLE_TAIL_LINES = 30
# For what takes no time on a host that has any to give.
PATIENCE_SECONDS = 600
# A line that has not come after so much silence was lost on the way (seen once
# in some thousand).
LINE_SECONDS = 30


# What a guest's kernel says when an emulated CPU waits for a timer that never
# comes. That befalls QEMU now and then on a busy host (seen once in some 30
# guests), and the CPU then sleeps for good: it is said again and again.
LOST_TIMER = "Possible timer handling issue"


class Failed(Exception):
    """The guest did not do as it was told; the text says what it did."""


class Stalled(Failed):
    """The emulator is at fault, and another guest may do better."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def arguments(guest, kernel, nodes):
    """QEMU's command line, but for what depends on a directory."""
    memory = sum(node["memory_mib"] for node in nodes)
    cpus = sum(len(cpus_of(node)) for node in nodes)
    iommu = guest["machine"].get("iommu", False)
    line = [
        "-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35",
        "-smp", f"{cpus},sockets={len(nodes)}", "-m", f"{memory}M",
        "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", str(kernel.image), "-initrd", "initrd",
        # QEMU's cycle counter is sound, and the kernel cannot know: it would
        # read the clock of the chipset, a hundred times as slow.
        "-append", "console=ttyS0 panic=-1 quiet loglevel=4 "
                   "tsc=reliable" + " intel_iommu=on" * iommu,
        # Ahead of what it stands before.
        *["-device", "intel-iommu"] * iommu,
        "-chardev", "socket,id=shell,path=shell,server=on,wait=off,"
                    "logfile=console",
        "-serial", "chardev:shell",
        "-chardev", "socket,id=jobs,path=jobs,server=on,wait=off",
        "-serial", "chardev:jobs",
        "-qmp", "unix:qmp,server=on,wait=off",
        "-fsdev", "local,id=host,path=share,security_model=none",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
    ]
    for number, node in enumerate(nodes):
        size = f"{node['memory_mib']}M"
        line += [
            "-object", f"memory-backend-ram,id=memory{number},size={size}",
            "-numa", f"node,nodeid={number},memdev=memory{number},"
                     f"cpus={node['cpus']}",
            # A host bridge of the node's own: its devices are local to it.
            "-device", f"pxb-pcie,id=bridge{number},bus=pcie.0,"
                       f"numa_node={number},bus_nr={64 * (number + 1)}",
        ]
    for number, nic in enumerate(guest["nic"]):
        for end in range(2):
            name = f"{nic['name']}{end}"
            line += [
                "-netdev", f"hubport,hubid={number},id={name}",
                # Two igb below one port would share what they may not.
                "-device", f"pcie-root-port,id=port-{name},"
                           f"chassis={32 + 2 * number + end},"
                           f"slot={32 + 2 * number + end},bus=bridge{end}",
                "-device", f"{nic['model']},id=nic-{name},netdev={name},"
                           f"mac={mac(number, end)},bus=port-{name}"
                           + rom(nic),
            ]
    for slot, drive in enumerate(guest["nvme"], start=1):
        name, lba = drive["name"], drive["lba_bytes"]
        line += [
            "-drive", f"id={name},if=none,cache=unsafe,discard=unmap,"
                      + medium(drive),
            "-device", f"pcie-root-port,id=port-{name},chassis={slot},"
                       f"slot={slot},bus=bridge{drive['node']}",
            "-device", f"nvme,id=nvme-{name},serial={name},"
                       f"bus=port-{name}",
            "-device", f"nvme-ns,drive={name},bus=nvme-{name},"
                       f"logical_block_size={lba},physical_block_size={lba}",
        ]
    return line


def rom(nic):
    """Nothing is started over the network; igb brings no program for it."""
    return ",romfile=" if nic["model"].startswith("virtio") else ""


def medium(drive):
    """The drive's image, behind QEMU's injection of errors where it has a bad
    sector."""
    image = f"{drive['name']}.image"
    if "bad_sector" not in drive:
        return f"format=raw,file={image}"
    return ("driver=raw,file.driver=blkdebug,file.image.driver=file,"
            f"file.image.filename={image},file.inject-error.0.event=none,"
            "file.inject-error.0.iotype=read,file.inject-error.0.errno=5,"
            f"file.inject-error.0.sector={drive['bad_sector']}")


def cpus_of(node):
    first, _, last = node["cpus"].partition("-")
    return range(int(first), int(last or first) + 1)


def make_drives(guest, directory):
    for drive in guest["nvme"]:
        image = directory / f"{drive['name']}.image"
        with image.open("wb") as file:
            if "bad_sector" in drive:
                file.write(os.urandom(drive["size_mib"] << 20))
            else:
                file.truncate(drive["size_mib"] << 20)
        if "filesystem" in drive:
            subprocess.run(
                [command(f"mkfs.{drive['filesystem']}"), "-q", "-F", "-b",
                 "4096", image], check=True)


class Machine:
    def __init__(self, directory, pid=None):
        self.directory = Path(directory)
        self.pid = pid
        self.process = None
        self.jobs = None
        self.pending = b""
        self.count = 0

    @property
    def share(self):
        return self.directory / "share"

    @classmethod
    def boot(cls, guest, kernel, directory, program, outlive=False):
        """Starts QEMU and waits until the guest takes jobs.

        `outlive`: the guest stays when this process ends.
        """
        self = cls(directory)
        settings = guest["machine"]
        self.share.mkdir()
        shutil.copy2(program, self.share / "bypass")
        (self.directory / "initrd").write_bytes(initramfs(guest, kernel))
        make_drives(guest, self.directory)
        with (self.directory / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["timeout", "--kill-after=5", str(settings["life_seconds"]),
                 command("qemu-system-x86_64"),
                 *arguments(guest, kernel, settings["nodes"])],
                cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
                preexec_fn=None if outlive else die_with_parent)
        self.pid = self.process.pid
        try:
            self.connect(settings["boot_seconds"])
        except BaseException:
            self.stop()
            raise
        return self

    def connect(self, seconds):
        """Waits for the guest's word that it takes jobs."""
        deadline = time.monotonic() + seconds
        while not (self.directory / "jobs").exists():
            self.must_run()
            if time.monotonic() > deadline:
                raise Failed("QEMU made no sockets")
            time.sleep(0.05)
        self.jobs = self.open_socket("jobs")
        self.read_until(lambda line: line == "@ready", deadline)

    def attach(self):
        """Takes up the line to a guest that is up."""
        self.jobs = self.open_socket("jobs")

    def open_socket(self, name):
        """Through /proc, since a socket's path has room for 107 bytes only."""
        place = os.open(self.directory, os.O_PATH)
        try:
            line = socket.socket(socket.AF_UNIX)
            line.connect(f"/proc/self/fd/{place}/{name}")
            return line
        finally:
            os.close(place)

    def must_run(self):
        if self.process and self.process.poll() is not None:
            log = (self.directory / "qemu.log").read_text(errors="replace")
            raise Failed(f"QEMU ended: {log.strip()}\n{self.console_tail()}")

    def read_until(self, is_last, deadline, show=None, missed=lambda _: None):
        """`missed` is asked for the last line after each second of silence, and
        told how many there were."""
        silent_seconds = 0
        while True:
            while b"\n" in self.pending:
                line, self.pending = self.pending.split(b"\n", 1)
                text = line.decode(errors="replace").rstrip("\r")
                if is_last(text):
                    return text
                if show:
                    show(text)
            self.must_run()
            if time.monotonic() > deadline:
                raise Failed("the guest took too long; its console ends so:\n"
                             + self.console_tail())
            if self.console().count(LOST_TIMER) > 1:
                raise Stalled("an emulated CPU lost its timer")
            self.jobs.settimeout(1)
            try:
                data = self.jobs.recv(65536)
            except TimeoutError:
                silent_seconds += 1
                if line := missed(silent_seconds):
                    return line
                continue
            except ConnectionError:
                data = b""
            if not data:
                # What QEMU said in ending is more to the point, if it did.
                time.sleep(0.5)
                self.must_run()
                raise Failed("the guest is gone; its console ends so:\n"
                             + self.console_tail())
            self.pending += data
            silent_seconds = 0

    def run(self, script, seconds, show=None):
        """Runs a shell script in the guest: its exit code."""
        self.count += 1
        name = f"job-{os.getpid()}-{self.count}.sh"
        (self.share / name).write_text(script)
        self.jobs.sendall(f"{name}\n".encode())
        last = self.read_until(lambda line: line.startswith(f"@exit {name} "),
                               time.monotonic() + seconds, show,
                               lambda silent: self.missed(name, silent))
        for file in self.share.glob(f"{name}*"):
            file.unlink()
        return int(last.split()[2])

    def missed(self, name, silent_seconds):
        """The last line of a job, from what it left behind, if that did not
        come over the line; a job that has not begun is named again."""
        if silent_seconds % LINE_SECONDS:
            return None
        left = self.share / f"{name}.exit"
        code = left.read_text().strip() if left.exists() else ""
        if code:
            print(f"lab: the line lost the end of {name}", flush=True)
            return f"@exit {name} {code}"
        if not (self.share / f"{name}.begun").exists():
            print(f"lab: the line lost {name}", flush=True)
            self.jobs.sendall(f"{name}\n".encode())
        return None

    def ask(self, script, seconds=PATIENCE_SECONDS):
        """Runs a script that must succeed: what it printed."""
        lines = []
        code = self.run(script, seconds, lines.append)
        text = "\n".join(lines).strip()
        if code != 0:
            raise Failed(f"{script!r} ended with {code}:\n{text}")
        return text

    def qmp(self, execute, **arguments):
        """One command to QEMU: what it returned."""
        with self.open_socket("qmp") as line, line.makefile("rw") as file:
            line.settimeout(PATIENCE_SECONDS)
            file.readline()
            for order in ({"execute": "qmp_capabilities"},
                          {"execute": execute, "arguments": arguments}):
                file.write(json.dumps(order) + "\n")
                file.flush()
                answer = json.loads(file.readline())
                while "event" in answer:
                    answer = json.loads(file.readline())
                if "error" in answer:
                    raise Failed(f"{execute}: {answer['error']['desc']}")
            return answer["return"]

    def console(self):
        path = self.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def console_tail(self):
        return "\n".join(self.console().splitlines()[-CONSOLE_TAIL_LINES:])

    def stop(self):
        """Ends QEMU and removes all that was the guest's, results included."""
        if self.pid and self.is_ours():
            os.kill(self.pid, signal.SIGTERM)
            for _ in range(100):
                if self.process:
                    self.process.poll()
                if not self.is_ours():
                    break
                time.sleep(0.1)
            else:
                os.killpg(self.pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def is_ours(self):
        """Whether the process is still this guest's and not a later one."""
        try:
            place = Path(f"/proc/{self.pid}/cwd").resolve()
            state = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return place == self.directory.resolve() and ") Z " not in state
