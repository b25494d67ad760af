"""What may be written: nothing that could be somebody's, by whatever name."""
import hashlib
import json

from bench import RUN_SECONDS, SHORT, must

WRITES = "storage/durable-write-4k"
# How a drive becomes somebody's, by name: what does it, what undoes the
# kernel's part of it, and whether traces on the drive speak on.
USES = {
    "partitions": ("printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk $D", "", True),
    # Read only: one that may be written looks after itself now and then.
    "a mounted file system": (
        "mke2fs -F $D && mkdir -p /tmp/m && mount -o ro -t ext4 $D /tmp/m",
        "umount /tmp/m", True),
    "swap": ("mkswap $D && swapon $D", "swapoff $D", True),
    "a mapping of the device mapper": (
        "command -v dmsetup && "
        "dmsetup create held --table \"0 2048 linear $D 0\"",
        "dmsetup remove held", False),
    "a loop device on it": ("losetup /dev/loop0 $D", "losetup -d /dev/loop0",
                            False),
    "LVM": ("printf LABELONE | dd of=$D bs=512 seek=1 conv=notrunc", "", True),
    "md": ("printf '\\374\\116\\053\\251' | "
           "dd of=$D bs=4096 seek=1 conv=notrunc", "", True),
}
WIPE = ("dd if=/dev/zero of=$D bs=1M count=4; sync; "
        "blockdev --rereadpt $D; sleep 1")


def node(bench, name):
    return bench.machine.ask(f"readlink /dev/lab/{name}")


def judged(bench, device):
    found = json.loads(bench.machine.ask("bypass list --devices --json"))
    return next(one for one in found if one["path"] == device)


def contents(bench, name):
    """What is on a drive, as the host sees it."""
    bench.machine.ask("sync")
    with (bench.machine.directory / f"{name}.image").open("rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


def write_run(bench, target, word):
    """`bypass run` of a writing experiment: its exit code and what it said."""
    lines = []
    code = bench.machine.run(
        f"bypass run --results /tmp/written {' '.join(SHORT)} --target "
        f"{target} --allow-destroy '{word}' '{WRITES}' depth=1 2>&1",
        RUN_SECONDS, lines.append)
    return code, "\n".join(lines)


def aliases(bench, device):
    """Its names: the kernel's, a link, a node elsewhere, the controller's."""
    bench.machine.ask(
        f"rm -f /tmp/alias; mknod /tmp/alias b "
        f"$(tr : ' ' </sys/block/{device[5:]}/dev)")
    return [device, "/dev/lab/disk1", "/tmp/alias",
            device.replace("/dev/nvme", "/dev/ng")]


def refused_by(bench, names, word, what):
    before = contents(bench, "disk1")
    for name in names:
        code, text = write_run(bench, name, word)
        must(code in (2, 3, 5), f"{what}, {name}: ended with {code}:\n{text}")
    must(contents(bench, "disk1") == before, f"{what}: the drive was changed")


def somebodys_is_refused(bench):
    """A drive that is in use in any way is refused by each of its names."""
    device = node(bench, "disk1")
    clean = judged(bench, device)
    must(clean["allow_destroy"], f"no word for a clean drive: {clean}")
    word = clean["allow_destroy"]
    names = aliases(bench, device)
    refused_by(bench, names, "another", "the wrong word")
    for what, (use, undo, traces) in USES.items():
        bench.machine.ask(f"D={device}; ({use}) >/tmp/use 2>&1 || "
                          "{ cat /tmp/use; false; }")
        seen = judged(bench, device)
        must(not seen["writable"] and not seen["allow_destroy"],
             f"{what}: {seen}")
        refused_by(bench, names, word, what)
        bench.machine.ask(f"D={device}; {undo}")
        must(judged(bench, device)["writable"] != traces,
             f"{what}, undone: {judged(bench, device)}")
        bench.machine.ask(f"D={device}; {WIPE} >/dev/null 2>&1")
    must(judged(bench, device)["allow_destroy"] == word, "not clean again")
    home = node(bench, "disk0")
    must(not judged(bench, home)["writable"], "the mounted drive is writable")


def only_the_named_is_written(bench):
    """With its word a drive is written for real, and no other one is."""
    device = node(bench, "disk1")
    word = judged(bench, device)["allow_destroy"]
    before = {name: contents(bench, name) for name in ("disk1", "flawed")}
    code, text = write_run(bench, device, word)
    must(code in (0, 4), f"ended with {code}:\n{text}")
    must(contents(bench, "disk1") != before["disk1"], f"not written:\n{text}")
    must(contents(bench, "flawed") == before["flawed"],
         "another drive was written")
