"""The ladder on emulated drives."""
import json
import re

from bench import (RAN, READS, TooBusy, must, newest, path, patiently, short,
                   told)
from check_guard import judged, node


def created_file(bench):
    """Each way to read runs on a file of 4 KiB blocks; whole reads compared."""
    missing = {"pread-pool", "uring", "uring-fixed", "a whole comparison"}

    def look(window):
        rows = bench.run(*short(window), READS, "depth=32")
        for variant in ("pread-pool", "uring", "uring-fixed"):
            for row in rows.of(variant):
                seen = path(row).get("direct")
                must(row["status"] in (*RAN, "degraded") and seen != "no",
                     told(row))
                # The machine's counters may be read too late to tell.
                if (row["status"] in RAN and seen == "yes"
                        and int(row["verified_ops"] or 0) > 0):
                    must(row["numa_node"] == "0", told(row))
                    missing.discard(variant)
                if int(row["checksummed_ops"] or 0) > 0:
                    missing.discard("a whole comparison")
        if missing:
            raise TooBusy(f"not seen: {', '.join(sorted(missing))}:\n"
                          + "\n".join(map(told, rows.all)))

    patiently(look)


def traced(bench, *words, opcode="0x2"):
    """A run, and of each read, or other command with an opcode, that came to a
    drive meanwhile whether it came over a queue for polling. QEMU tells that; the guest's kernel gives the
    queues behind one per CPU to polling."""
    log = bench.machine.directory / "qemu.log"
    before = log.stat().st_size

    def trace(enable):
        bench.machine.qmp("trace-event-set-state", name="pci_nvme_io_cmd",
                          enable=enable)

    trace(True)
    try:
        rows = bench.run(*words)
    finally:
        trace(False)
    with log.open(errors="replace") as file:
        file.seek(before)
        queues = re.findall(
            rf"pci_nvme_io_cmd .*sqid (\d+) opc {opcode}\b", file.read())
    return rows, [int(queue) > bench.cpus for queue in queues]


def really_polled(bench):
    """Polled reads arrive at the device's poll queues, says the device; and
    those of a hybrid ring sleep first."""
    def look(target, window):
        rows, queues = traced(bench, *short(window), "--target", target,
                              f"{READS}/uring-iopoll",
                              "storage/ladder/uring-hybrid", "depth=1")
        polled = sum(queues)
        spinning, sleeping = map(rows.ran, ("uring-iopoll", "uring-hybrid"))
        claimed = spinning + sleeping
        least = sum(int(row["ops"]) for row in claimed)
        must(all(path(row).get("polled") == "yes" for row in claimed),
             told(claimed[0]))
        must(polled >= least,
             f"{target}: {least} polled reads are claimed, and {polled} of "
             f"{len(queues)} reads came over poll queues")
        # One polls all the time, and the other sleeps before each op.
        sleeps = [[float(path(row)["sleeps_per_op"]) for row in some]
                  for some in (spinning, sleeping)]
        must(max(sleeps[0]) < 0.5 < min(sleeps[1]),
             f"{target}: sleeps per op, spinning and hybrid: {sleeps}")

    for target in ("/lab/disk0", "/dev/lab/disk1"):
        patiently(lambda window: look(target, window))


# The steps of the ladder that go through the page cache, those that take an
# NVMe drive itself, and the one that not every file system knows.
BUFFERED = ("pread-buffered", "uncached", "mmap", "mmap-populate")
PASSED = ("uring-passthru", "uring-passthru-buffers", "uring-passthru-iopoll")
UNCACHED = "uncached"


def step_of(row):
    """The step that a row is of, or is the hidden second copy of."""
    return row["variant"].partition("#")[0]


def is_proven(row, is_device):
    """Whether a row of the ladder shows that its step was taken. What cannot
    be, or is not what it says, ends the check."""
    step, seen, text = step_of(row), path(row), f"{row['variant']}: {told(row)}"
    # The kernel no longer polls for a call that waits.
    if step == "preadv2-hipri":
        must(row["status"] == "skipped" and "5.19" in row["reasons"], text)
        return True
    if row["status"] == "skipped":
        must(row["reasons"] and (step == UNCACHED if is_device
                                 else step in PASSED), text)
        return True
    must(row["status"] in (*RAN, "degraded"), text)
    if row["status"] == "degraded" or not int(row["ops"] or 0):
        return False
    if step == "nop":
        return True
    direct = "no" if step in BUFFERED else "yes"
    must(seen.get("direct") in (direct, "unknown"), text)
    polled = "iopoll" in step or "hybrid" in step
    # Interrupts for others leave it open.
    if polled and seen.get("polled") == "unknown":
        return False
    must(seen.get("polled", "no") == ("yes" if polled else "no"), text)
    return seen["direct"] == direct


def every_step(bench):
    """Each step of the ladder is proven, on blocks of 4 KiB and of 512 bytes."""
    def look(target, proven, window):
        missing = [step for step, is_there in proven.items() if not is_there]
        rows = bench.run(
            *short(window), "--target", target, "depth=32",
            *([f"storage/ladder/{step}" for step in missing]
              or ["storage/ladder"]))
        for row in rows.all:
            proven[step_of(row)] = (
                proven.get(step_of(row), False)
                or is_proven(row, target.startswith("/dev/")))
        if not all(proven.values()):
            raise TooBusy(f"{target}: not proven: " + ", ".join(
                told(row) for row in rows.all if not proven[step_of(row)]))

    for target in ("/lab/disk0", "/dev/lab/disk0", "/dev/lab/disk1"):
        proven = {}
        patiently(lambda window: look(target, proven, window))


def old_kernel(bench):
    """What a kernel lacks is skipped with its reason, never an error."""
    rows = bench.run(*short(), READS, "depth=32")
    for row in rows.all:
        must(row["status"] in (*RAN, "degraded", "skipped"), told(row))
        must(row["status"] != "skipped" or row["reasons"], told(row))


def passed_through(bench):
    """Commands passed through bring what the block layer brings, polled or not.

    Each block is read again by a plain call in the run itself; which queues
    the commands arrive at is told by QEMU, as in `really_polled`.
    """
    # Zeros would be right wherever they came from.
    bench.machine.ask(
        "(while cat /bin/bypass; do :; done) 2>/dev/null |"
        "dd of=/dev/lab/disk1 bs=1M 2>/dev/null; sync", 180)
    def look(target, lba, window):
        rows, queues = traced(bench, *short(window), "--target", target,
                              "storage/ladder/uring-passthru*", "depth=32")
        claimed = {"yes": 0, "no": 0}
        for variant in ("uring-passthru", "uring-passthru-buffers",
                        "uring-passthru-iopoll"):
            for row in rows.ran(variant):
                seen = path(row)
                wanted = {"command": "nvme read", "direct": "yes",
                          "lba_bytes": str(lba),
                          "polled": "yes" if "iopoll" in variant else "no",
                          "fixed_buffers":
                              "no" if variant == "uring-passthru" else "yes"}
                must(wanted.items() <= seen.items(), f"{variant}: {told(row)}")
                claimed[seen["polled"]] += int(row["ops"])
        must(sum(queues) >= claimed["yes"]
             and len(queues) - sum(queues) >= claimed["no"],
             f"{target}: reads claimed as polled or not: {claimed}; over poll "
             f"queues came {sum(queues)} of {len(queues)}")
        run = json.loads((newest(bench.machine.share / "results") /
                          "run.json").read_text())
        (drive,) = run["targets"][0]["facts"]["read"]["nvme"]
        must(not drive["lacks"] and drive["namespace"]["lba_bytes"] == lba
             and drive["health"]["temperature_c"] > 0, f"{target}: {drive}")

    for target, lba in (("/dev/lab/disk0", 4096), ("/dev/lab/disk1", 512)):
        patiently(lambda window: look(target, lba, window))


# What each kind of command is called, and the experiment that sends it.
COMMANDS = {"0x0": "storage/flush/uring-passthru",
            "0x1": "storage/randwrite-4k/uring-passthru*",
            "0x9": "storage/trim-64k"}


def deallocated(bench):
    """Drives are written, deallocated and flushed by commands, with the word.

    That blocks are gone, and their neighbours not, is seen by the run itself;
    which commands came is told by QEMU, as in `really_polled`.
    """
    def look(name, lba, opcode, window):
        device = node(bench, name)
        word = judged(bench, device)["allow_destroy"]
        must(word, f"no word for {name}")
        rows, came = traced(bench, *short(window), "--target", device,
                            "--allow-destroy", word, COMMANDS[opcode],
                            opcode=opcode)
        passed = [row for row in rows.all
                  if row["variant"].startswith("uring-passthru")]
        must(passed, f"{name}: no row of {COMMANDS[opcode]}")
        for row in passed:
            must(row["status"] in RAN, f"{name}: {told(row)}")
            must(opcode != "0x1" or path(row).get("command") == "nvme write"
                 and path(row).get("lba_bytes") == str(lba), told(row))
        claimed = sum(int(row["ops"] or 0) for row in passed)
        if not claimed:
            raise TooBusy(f"{name}: no command {opcode}: {told(passed[0])}")
        must(len(came) >= claimed,
             f"{name}: {claimed} commands {opcode} are claimed, and "
             f"{len(came)} came")
        must(opcode != "0x1" or all(int(row["verified_ops"] or 0)
                                    for row in passed), told(passed[0]))
        if opcode == "0x9":
            gone(rows, name)

    for name, lba in (("disk1", 512), ("disk2", 4096)):
        for opcode in COMMANDS:
            patiently(lambda window: look(name, lba, opcode, window))


def gone(rows, name):
    """Each way to trim says that all is gone, and was looked at."""
    ways = {"trim": "BLKDISCARD", "uring-discard": "BLOCK_URING_CMD_DISCARD",
            "uring-passthru": "nvme deallocate"}
    for variant, way in ways.items():
        for row in rows.of(variant):
            if row["status"] == "skipped" and variant == "uring-discard":
                must("6.12" in row["reasons"], told(row))
                continue
            must(row["status"] in RAN, f"{name}, {variant}: {told(row)}")
            if not int(row["verified_ops"] or 0):
                raise TooBusy(f"{name}, {variant}: {told(row)}")
            wanted = {"trim": way, "promised": "zeroes",
                      "reads_back": "zeroes"}
            must(wanted.items() <= path(row).items(),
                 f"{name}, {variant}: {told(row)}")
    rows.skipped("uring-fallocate", "is a device")
