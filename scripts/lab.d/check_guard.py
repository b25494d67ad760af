"""What may be written: nothing that could be somebody's, by whatever name."""
import hashlib
import json

from bench import (RUN_SECONDS, WINDOWS, TooBusy, instants, must,
                   nothing_is_left, patiently, short)

WRITES = "storage/durable-write-4k"
# How `bypass run` ends when the guard refuses its target.
UNSAFE = 5
# Nobody tells it when nodes have come.
NO_UDEV = "--config 'activation {udev_sync=0 udev_rules=0}'"
# How a drive becomes somebody's, by name: what does it, what undoes the
# kernel's part of it, what the guard says of it, and what it says when that
# part is undone and only traces on the drive are left.
USES = {
    "partitions": (
        "printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk $D",
        "", "has partitions: ", "has partitions: "),
    # Read only: one that may be written looks after itself now and then.
    "a mounted file system": (
        "mke2fs -F $D && mkdir -p /tmp/m && mount -o ro -t ext4 $D /tmp/m",
        "umount /tmp/m", "is mounted at /tmp/m", "the mark of ext2"),
    "swap": ("mkswap $D && swapon $D", "swapoff $D", "is used for swap",
             "the mark of swap"),
    "a mapping of the device mapper": (
        "dmsetup create held --table \"0 2048 linear $D 0\"",
        "dmsetup remove held", "is held by dm-", None),
    "a loop device on it": (
        "losetup /dev/loop0 $D", "losetup -d /dev/loop0",
        "is also what loop0 is made of", None),
    # The mark of this version is at the drive's end.
    "an md array": (
        "mdadm --create /dev/md0 --run --force --level=1 --raid-devices=2 "
        "--metadata=1.0 $D missing", "mdadm --stop /dev/md0",
        "is held by md0", "the mark of a member of an md RAID"),
    "a logical volume": (
        f"lvm pvcreate {NO_UDEV} -y $D && lvm vgcreate {NO_UDEV} group $D && "
        f"lvm lvcreate {NO_UDEV} -y -Zn -Wn -l 100%FREE -n volume group",
        f"lvm vgchange {NO_UDEV} -an group", "is held by dm-",
        "the mark of an LVM physical volume"),
}
WIPE = ("for seek in 0 $(($(blockdev --getsize64 $D) / 1048576 - 4)); do "
        "dd if=/dev/zero of=$D bs=1M seek=$seek count=4; done; sync; "
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


def write_run(bench, target, word, window=WINDOWS[0]):
    """`bypass run` of a writing experiment: its exit code and what it said."""
    lines = []
    code = bench.machine.run(
        f"bypass run --results /tmp/written {' '.join(short(window))} --target "
        f"{target} --allow-destroy '{word}' '{WRITES}' depth=1 2>&1",
        RUN_SECONDS, lines.append)
    return code, "\n".join(lines)


def udev_names(bench, device):
    """The links to it below /dev/disk."""
    return bench.machine.ask(
        "for name in /dev/disk/*/*; do "
        f'[ "$(readlink -f $name)" = {device} ] && echo $name; done; true'
    ).split()


def aliases(bench, device):
    """Its names: the kernel's, a link, a node elsewhere, the controller's,
    udev's."""
    links = udev_names(bench, device)
    must(len(links) == 4, f"{device} is named {links}")
    bench.machine.ask(
        f"rm -f /tmp/alias; mknod /tmp/alias b "
        f"$(tr : ' ' </sys/block/{device[5:]}/dev)")
    return [device, "/dev/lab/disk1", "/tmp/alias",
            device.replace("/dev/nvme", "/dev/ng"), *links]


def built_on(bench, device):
    """Partitions and what holds them or it, which is somebody's as well."""
    name = device[5:]
    return bench.machine.ask(
        f"cd /sys/block/{name}; for one in {name}p* holders/*; do "
        "[ -e $one ] && echo /dev/${one##*/}; done; true").split()


def speaks_against(bench, device, says, what):
    """The guard's reason; with none, there must be a word instead."""
    seen = judged(bench, device)
    must(seen["writable"] == bool(seen["allow_destroy"]) == (says is None)
         and (says or "") in "; ".join(seen["no_write"]), f"{what}: {seen}")


def refused_by(bench, names, word, what):
    before = contents(bench, "disk1")
    for name in names:
        code, text = write_run(bench, name, word)
        must(code == UNSAFE, f"{what}, {name}: ended with {code}:\n{text}")
    must(contents(bench, "disk1") == before, f"{what}: the drive was changed")


def somebodys_is_refused(bench):
    """A drive that is in use in any way is refused by each of its names."""
    device = node(bench, "disk1")
    clean = judged(bench, device)
    must(clean["allow_destroy"], f"no word for a clean drive: {clean}")
    word = clean["allow_destroy"]
    names = aliases(bench, device)
    refused_by(bench, names, "another", "the wrong word")
    for what, (use, undo, says, says_then) in USES.items():
        bench.machine.ask(f"D={device}; ({use}) >/tmp/use 2>&1 || "
                          "{ cat /tmp/use; false; }")
        speaks_against(bench, device, says, what)
        refused_by(bench, [*names, *built_on(bench, device)], word, what)
        bench.machine.ask(f"D={device}; {undo}")
        speaks_against(bench, device, says_then, f"{what}, undone")
        bench.machine.ask(f"D={device}; {WIPE} >/dev/null 2>&1")
    must(judged(bench, device)["allow_destroy"] == word, "not clean again")
    home = node(bench, "disk0")
    must(not judged(bench, home)["writable"], "the mounted drive is writable")


def only_the_named_is_written(bench):
    """With its word a drive is written for real, and no other one is."""
    device = node(bench, "disk1")
    word = judged(bench, device)["allow_destroy"]
    by_id = udev_names(bench, device)[0]
    before = {name: contents(bench, name) for name in ("disk1", "flawed")}

    def look(window):
        code, text = write_run(bench, by_id, word, window)
        must(code in (0, 4), f"ended with {code}:\n{text}")
        if contents(bench, "disk1") == before["disk1"]:
            raise TooBusy(f"not written:\n{text}")

    patiently(look)
    must(contents(bench, "flawed") == before["flawed"],
         "another drive was written")


def killed_while_writing(bench):
    """A runner killed while it writes to a drive lets go of it, and no other
    drive is touched."""
    device = node(bench, "disk1")
    word = judged(bench, device)["allow_destroy"]
    before = contents(bench, "flawed")
    # At any moment, and once when it is writing for sure.
    writes = f"awk '{{print $5}}' /sys/block/{device[5:]}/stat"
    under_way = (f"before=$({writes}); while [ $(($({writes}) - before)) "
                 "-lt 100 ] && kill -0 $!; do usleep 100000; done")
    for moment in [*(f"sleep {s}" for s in instants(4)), under_way]:
        bench.machine.ask(
            f"bypass run --results /tmp/killed {' '.join(short('5s'))} "
            f"--target {device} --allow-destroy '{word}' '{WRITES}' depth=1 "
            f">/dev/null 2>&1 &\n{moment}\nkill -9 $! || exit; wait $! || true")
        nothing_is_left(bench)
        # Nobody holds it, and no mark of ours speaks against it.
        must(judged(bench, device)["allow_destroy"] == word,
             f"{judged(bench, device)}")
    must(contents(bench, "flawed") == before, "another drive was written")
    only_the_named_is_written(bench)
    bench.machine.ask("rm -rf /tmp/killed")
