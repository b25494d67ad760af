"""Kernels out of Debian's archive, and what the lab needs of the host.

apt does the work, with a state directory of the lab's own: it verifies the
archive's signature and each package's hash, and the machine's configuration
is neither read nor changed.
"""
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# How old the archive's index may be before it is asked for again.
INDEX_SECONDS = 7 * 24 * 3600
# What makes up a kernel; newer ones are split into several packages.
KERNEL_PARTS = re.compile(r"linux-(image|binary|modules)-\d[^ ,|]*")
META_PACKAGE = "linux-image-amd64"
# Command, and the Debian package that has it.
COMMANDS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}


# A network that swallows what is sent is none: to be found out soon.
NETWORK = ["-oAcquire::http::Timeout=20", "-oAcquire::Retries=1"]
# What a program cannot take along: the guest gets this machine's.
C_LIBRARY = "libc6"
# Beside the images, for the kernel and what runs bring back.
ROOM_MIB = 512


class Missing(Exception):
    """The lab cannot be had here; the text says what is missing."""


@dataclass(frozen=True)
class Kernel:
    version: str
    image: Path
    modules: Path


def cache_directory():
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bypass-bench" / "lab"


def command(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def room_for_guests(guest):
    """The directory that guests live in, if it can be had and has room."""
    guests = cache_directory() / "guests"
    try:
        guests.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Missing(f"{guests} cannot be made: {error}") from error
    # Of one whose starter was killed, after no guest lives that long.
    for left in guests.iterdir():
        if time.time() - left.stat().st_mtime > guest["machine"]["life_seconds"]:
            shutil.rmtree(left, ignore_errors=True)
    wanted = ROOM_MIB + sum(drive["size_mib"] for drive in guest["nvme"])
    free = shutil.disk_usage(guests).free >> 20
    if free < wanted:
        raise Missing(f"{guests} has {free} MiB left; a guest takes {wanted}")
    return guests


def qemu_has(model):
    """Whether QEMU is here and can emulate that device."""
    qemu = command("qemu-system-x86_64")
    return bool(qemu) and f'"{model}"' in subprocess.run(
        [qemu, "-device", "help"], capture_output=True, text=True,
        check=False).stdout


def newer_qemu(settings):
    """Debian 12 has QEMU 7, which knows no igb; its backports have one that
    does. Without it the lab goes on as it is."""
    if qemu_has("igb") or os.geteuid() != 0 or not command("apt-get"):
        return
    release = re.search(r"^VERSION_CODENAME=(\w+)",
                        Path("/etc/os-release").read_text(), re.MULTILINE)
    suite = f"{release.group(1)}-backports" if release else ""
    if suite not in settings["suites"]:
        return
    try:
        archive = Archive(settings)
        archive.update()
        archive.apt("apt-get", "install", "--yes", "--no-install-recommends",
                    "--target-release", suite, "-oDpkg::Use-Pty=0",
                    "-oDir::State::status=/var/lib/dpkg/status",
                    COMMANDS["qemu-system-x86_64"])
    except (Missing, subprocess.SubprocessError) as error:
        print(f"lab: no newer QEMU: {error}", flush=True)


def need_commands(settings):
    """Installs what is missing where that is allowed, or lists it."""
    newer_qemu(settings)
    absent = {c: p for c, p in COMMANDS.items() if not command(c)}
    if absent and os.geteuid() == 0 and command("apt-get"):
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for arguments in (["update"], ["install", "--yes",
                          "--no-install-recommends", *absent.values()]):
            subprocess.run(["apt-get", "-qq", *NETWORK, *arguments],
                           env=environment, stdout=subprocess.DEVNULL,
                           check=False)
        absent = {c: p for c, p in COMMANDS.items() if not command(c)}
    if absent:
        raise Missing("missing here, by Debian package: "
                      + ", ".join(f"{p} (for {c})" for c, p in absent.items()))


class Archive:
    def __init__(self, settings):
        self.settings = settings
        self.state = cache_directory() / "apt"

    def apt(self, program, *arguments, cwd=None):
        options = {
            "Dir::Etc::SourceList": self.state / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self.state / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.state,
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Languages": "none",
        }
        flags = [f"-o{key}={value}" for key, value in options.items()]
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        done = subprocess.run([program, "-q", *NETWORK, *flags, *arguments],
                              cwd=cwd, env=environment, capture_output=True,
                              text=True, timeout=600)
        if done.returncode != 0:
            raise Missing(f"{program} {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def update(self):
        """Fetches the index, unless a recent one is here."""
        stamp = self.state / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < INDEX_SECONDS:
            return
        try:
            for part in ("lists/partial", "archives/partial"):
                (self.state / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Missing(f"{self.state} cannot be made: {error}") from error
        (self.state / "sources.list").write_text("".join(
            f"deb [signed-by={self.settings['keyring']}] "
            f"{self.settings['mirror']} {suite} main\n"
            for suite in self.settings["suites"]))
        self.apt("apt-get", "update", "--error-on=any")
        stamp.touch()

    def newest(self, prefix):
        """The newest version of the kernel's meta package with this prefix."""
        lines = self.apt("apt-cache", "madison", META_PACKAGE).splitlines()
        versions = [line.split("|")[1].strip() for line in lines]
        fitting = [v for v in versions if v.startswith(prefix)]
        if not fitting:
            raise Missing(f"no {META_PACKAGE} {prefix}* in "
                          + ", ".join(self.settings["suites"]))
        return fitting[0]

    def depends(self, package, version):
        text = self.apt("apt-cache", "show", f"{package}={version}")
        found = re.search(r"^Depends: (.*)$", text, re.MULTILINE)
        parts = found.group(1) if found else ""
        return {match.group(0) for match in KERNEL_PARTS.finditer(parts)}

    def parts(self, version):
        """All packages of the kernel that a version of the meta package is."""
        found, todo = set(), self.depends(META_PACKAGE, version)
        while todo:
            package = todo.pop()
            found.add(package)
            todo |= self.depends(package, version) - found
        return sorted(found)

    def libraries(self, package):
        """The packages of libraries that a package needs, in turn."""
        found, todo = set(), {package}
        while todo:
            text = self.apt("apt-cache", "show", "--no-all-versions", todo.pop())
            listed = re.findall(r"^(?:Pre-)?Depends: (.*)$", text, re.MULTILINE)
            new = set(re.findall(r"\blib[^ ,|(:]+", " ".join(listed)))
            new -= {C_LIBRARY, *found}
            found |= new
            todo |= new
        return sorted(found)

    def unpack(self, names, directory):
        packages = directory.with_suffix(".packages")
        partial = directory.with_suffix(".partial")
        for scratch in (packages, partial):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        self.apt("apt-get", "download", *names, cwd=packages)
        for package in packages.iterdir():
            subprocess.run(["dpkg-deb", "-x", package, partial], check=True)
        shutil.rmtree(packages)
        partial.rename(directory)


def kernel(settings, prefix):
    """The newest kernel in reach with this prefix, fetched if need be."""
    kernels = cache_directory() / "kernels"
    archive = Archive(settings)
    try:
        archive.update()
        version = archive.newest(prefix)
        directory = kernels / version
        if not directory.exists():
            print(f"lab: fetching Linux {version}", flush=True)
            archive.unpack([f"{part}={version}"
                            for part in archive.parts(version)], directory)
    except (Missing, subprocess.SubprocessError) as error:
        # Without the network, the newest that was fetched before will do.
        here = sorted((path for path in kernels.glob(f"{prefix}*")
                       if path.suffix not in (".partial", ".packages")),
                      key=lambda path: path.stat().st_mtime)
        if not here:
            raise Missing(f"no kernel {prefix or '(newest)'}: {error}") from error
        directory = here[-1]
    return Kernel(
        version=directory.name,
        image=first_of(directory, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"),
        modules=first_of(directory, "lib/modules/*", "usr/lib/modules/*"),
    )


@dataclass(frozen=True)
class Tool:
    """A program for the guest, and where its libraries are if not here."""
    program: Path
    directory: Path | None = None


def tools(settings, wanted):
    """Programs for the guest, by name: this machine's, else out of their
    packages, which are not installed: those of md and LVM bring rules that
    take to every drive."""
    found = {}
    archive = Archive(settings)
    for name, package in wanted.items():
        if command(name):
            found[name] = Tool(Path(command(name)))
            continue
        directory = cache_directory() / "tools" / package
        if not directory.exists():
            try:
                archive.update()
                archive.unpack([package, *archive.libraries(package)],
                               directory)
            except subprocess.SubprocessError as error:
                raise Missing(f"no {package} for the guest: {error}") from error
        found[name] = Tool(first_of(directory, f"sbin/{name}",
                                    f"usr/sbin/{name}", f"usr/bin/{name}"),
                           directory)
    return found


def first_of(directory, *patterns):
    """The first match: where things lie depends on the kernel's age."""
    return next(path for pattern in patterns
                for path in directory.glob(pattern))
