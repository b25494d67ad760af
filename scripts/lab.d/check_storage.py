"""The ladder on emulated drives, and what the drives say of themselves."""
import json
import re
import subprocess

from bench import (RAN, READS, TooBusy, must, newest, path, patiently, short,
                   told, was_checked)
from check_guard import judged, node
from machine import PATIENCE_SECONDS


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
    drive meanwhile whether it came over a queue for polling. QEMU tells that;
    the guest's kernel gives the queues behind one per CPU to polling."""
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
        spinning, sleeping = rows.ran("uring-iopoll"), []
        if rows.has_skipped("uring-hybrid"):
            rows.skipped("uring-hybrid", SINCE_6_1["uring-hybrid"])
        else:
            sleeping = rows.ran("uring-hybrid")
        claimed = spinning + sleeping
        least = sum(int(row["ops"]) for row in claimed)
        # Where the host was busy the program may have looked too late to tell.
        if any("unknown" in (path(row).get("polled"), path(row)["sleeps_per_op"])
               for row in claimed):
            raise TooBusy(f"{target}: {[told(row) for row in claimed]}")
        must(all(path(row).get("polled") == "yes" for row in claimed),
             told(claimed[0]))
        must(polled >= least,
             f"{target}: {least} polled reads are claimed, and {polled} of "
             f"{len(queues)} reads came over poll queues")
        # One polls all the time, and the other sleeps before each op.
        sleeps = [[float(path(row)["sleeps_per_op"]) for row in some]
                  for some in (spinning, sleeping)]
        must(max(sleeps[0]) < 0.5 < min(sleeps[1], default=1),
             f"{target}: sleeps per op, spinning and hybrid: {sleeps}")

    for target in ("/lab/disk0", "/dev/lab/disk1"):
        patiently(lambda window: look(target, window))


# The steps of the ladder that go through the page cache, those that take an
# NVMe drive itself, and the one that not every file system knows.
BUFFERED = ("pread-buffered", "uncached", "mmap", "mmap-populate")
PASSED = ("uring-passthru", "uring-passthru-buffers", "uring-passthru-iopoll",
          "uring-passthru-mixed")
UNCACHED = "uncached"
# What came of commands in a ring that has completions of two sizes.
LARGE = {"cqe": "32 bytes in a mixed ring"}
# What Linux 6.1 has not, and which has: the words of the reason.
SINCE_6_1 = {"uncached": "6.14", "uring-hybrid": "6.13",
             "uring-passthru-mixed": "6.18"}


def step_of(row):
    """The step that a row is of, or is the hidden second copy of."""
    return row["variant"].partition("#")[0]


def is_proven(row, lacks, polled):
    """Whether a row of the ladder shows that its step was taken. What cannot
    be, or is not what it says, ends the check."""
    step, seen, text = step_of(row), path(row), f"{row['variant']}: {told(row)}"
    # The kernel no longer polls for a call that waits.
    if step == "preadv2-hipri":
        must(row["status"] == "skipped" and "5.19" in row["reasons"], text)
        return True
    if row["status"] == "skipped":
        must(row["reasons"] and step in lacks, text)
        return True
    must(row["status"] in (*RAN, "degraded"), text)
    if step in lacks and is_hybrid_in_vain(row):
        return True
    if row["status"] == "degraded" or not int(row["ops"] or 0):
        return False
    if step == "nop":
        return True
    direct = "no" if step in BUFFERED else "yes"
    must(seen.get("direct") in (direct, "unknown"), text)
    must(step != "uring-passthru-mixed" or LARGE.items() <= seen.items(), text)
    polls, word = "iopoll" in step or "hybrid" in step, seen.get("polled", "no")
    # Interrupts for others leave it open.
    if polls and word == "unknown" and word not in polled:
        return False
    must(word in (polled if polls else ("no",)), text)
    return seen["direct"] == direct and was_checked(row)


def is_hybrid_in_vain(row):
    """Whether a ring that should have slept before it polled did not, and says
    so: nobody sleeps for less than it takes to set an alarm."""
    return (row["status"] == "degraded"
            and "HYBRID_IOPOLL was ignored" in row["reasons"])


def prove_steps(bench, target, lacks, polled=("yes",)):
    """Each step of the ladder is proven, but for those of which the target
    `lacks` what they take."""
    proven = {}

    def look(window):
        missing = [step for step, is_there in proven.items() if not is_there]
        rows = bench.run(
            *short(window), "--target", target, "depth=32",
            *([f"storage/ladder/{step}" for step in missing]
              or ["storage/ladder"]))
        for row in rows.all:
            proven[step_of(row)] = (proven.get(step_of(row), False)
                                    or is_proven(row, lacks, polled))
        if not all(proven.values()):
            raise TooBusy(f"{target}: not proven: " + ", ".join(
                told(row) for row in rows.all if not proven[step_of(row)]))

    patiently(look)


def every_step(bench):
    """Each step of the ladder is proven, on blocks of 4 KiB and of 512 bytes."""
    prove_steps(bench, "/lab/disk0", lacks=PASSED)
    for drive in ("/dev/lab/disk0", "/dev/lab/disk1"):
        prove_steps(bench, drive, lacks=(UNCACHED,))


def old_kernel(bench):
    """What a kernel lacks is skipped with its reason, never an error."""
    for target in ("/lab/disk0", "/dev/lab/disk1"):
        rows = bench.run(*short(), READS, "storage/ladder", "depth=32",
                         "--target", target)
        for row in rows.all:
            must(row["status"] in (*RAN, "degraded", "skipped"), told(row))
            must(row["status"] != "skipped" or row["reasons"], told(row))
        for variant, version in SINCE_6_1.items():
            rows.skipped(variant, version)


def fill(bench, name):
    """Writes something to each block of a drive."""
    bench.machine.ask(
        "(while cat /bin/bypass; do :; done) 2>/dev/null |"
        f"dd of=/dev/lab/{name} bs=1M 2>/dev/null; sync", PATIENCE_SECONDS)


def passed_through(bench):
    """Commands passed through bring what the block layer brings, polled or not.

    Each block is read again by a plain call in the run itself; which queues
    the commands arrive at is told by QEMU, as in `really_polled`.
    """
    # Zeros would be right wherever they came from.
    fill(bench, "disk1")

    def look(target, lba, window):
        rows, queues = traced(bench, *short(window), "--target", target,
                              "storage/ladder/uring-passthru*", "depth=32")
        claimed = {"yes": 0, "no": 0}
        for variant in PASSED:
            if variant in SINCE_6_1 and rows.has_skipped(variant):
                rows.skipped(variant, SINCE_6_1[variant])
                continue
            for row in rows.ran(variant):
                seen = path(row)
                wanted = {"command": "nvme read", "direct": "yes",
                          "lba_bytes": str(lba),
                          "polled": "yes" if "iopoll" in variant else "no",
                          "fixed_buffers":
                              "no" if variant == "uring-passthru" else "yes"}
                if variant == "uring-passthru-mixed":
                    wanted |= LARGE
                # Interrupts for others leave it open.
                if "iopoll" in variant and seen.get("polled") == "unknown":
                    raise TooBusy(f"{variant}: {told(row)}")
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


# A bit of a drive's critical warning: "reliability degraded by errors".
UNRELIABLE = 1 << 2


def warn_of(bench, name, warning):
    """What a drive's SMART log warns of from now on."""
    bench.machine.qmp("qom-set", path=f"/machine/peripheral/nvme-{name}",
                      property="smart_critical_warning", value=warning)


def health(bench, name):
    """What the doctor makes of a drive's state: its verdict, and what it saw."""
    text = bench.machine.ask("bypass doctor --for storage --json --target "
                             f"/dev/lab/{name}")
    (found,) = [one for one in json.loads(text)["findings"]
                if one["id"] == "storage.drive_health"]
    return found["status"], found["observed"]


def health_is_read(bench):
    """The doctor judges each drive by its own SMART log, warnings included."""
    for name in ("disk0", "disk1"):
        status, seen = health(bench, name)
        must(status == "pass" and "% spare" in seen and "% worn" in seen,
             f"{name}: {status}: {seen}")
    warn_of(bench, "disk1", UNRELIABLE)
    try:
        (status, seen), (other, _) = (health(bench, name)
                                      for name in ("disk1", "disk0"))
    finally:
        warn_of(bench, "disk1", 0)
    must(status == "warn" and "reliability degraded" in seen,
         f"planted: {status}: {seen}")
    must(other == "pass", f"not planted: {other}")


def cache_told_otherwise(bench):
    """Where the kernel was told that a drive keeps what it was given, and the
    drive says that its cache forgets, no write is called durable."""
    device = node(bench, "disk1")
    word = judged(bench, device)["allow_destroy"]
    cache = f"/sys/block/{device[5:]}/queue/write_cache"
    variant = "pwrite-fdatasync"

    def look(window):
        rows = bench.run(*short(window), "--target", device, "--allow-destroy",
                         word, f"storage/durable-write-4k/{variant}", "depth=1")
        run = json.loads((rows.directory / "run.json").read_text())
        drive, = run["targets"][0]["facts"]["written"]["nvme"]
        must(drive["write_cache_on"] is True, str(drive))
        for row in rows.of(variant):
            if row["status"] == "invalid":
                raise TooBusy(told(row))
            must(row["status"] == "degraded"
                 and path(row)["flush"] == "missing"
                 and "has a volatile cache that is on" in row["reasons"],
                 told(row))

    must(bench.machine.ask(f"cat {cache}") == "write back", cache)
    bench.machine.ask(f"echo write through >{cache}")
    try:
        patiently(look)
    finally:
        bench.machine.ask(f"echo write back >{cache}")


def drives_are_compared(bench):
    """A comparison of two drives begins with how they differ, health included."""
    known = {"device.model", "device.firmware", "device.pci.current_width",
             "nvme.health.worn_percent", "nvme.health.spare_percent"}
    wanted = {"nvme.namespace.lba_bytes": ("512", "4096"),
              "nvme.health.critical_warning": ("0", str(UNRELIABLE))}

    def ran_on(name, window):
        rows = bench.run(*short(window), f"{READS}/uring", "depth=1",
                         "--target", f"/dev/lab/{name}")
        run = json.loads((rows.directory / "run.json").read_text())
        facts = run["targets"][0]["facts"]["read"]
        must(all(lies_in(facts, fact) for fact in known), f"{name}: {facts}")
        return rows.directory

    def compared(sides, *words):
        done = subprocess.run(
            [bench.machine.share / "bypass", "compare", *words, *sides],
            check=False, text=True, capture_output=True)
        if done.returncode != 0:
            raise TooBusy(done.stderr)
        return done.stdout

    def look(window):
        sides = [ran_on(name, window) for name in ("disk1", "disk2")]
        text = compared(sides)
        differ = {one["key"].removeprefix("target.storage.read."):
                  (one["a"], one["b"]) for one in
                  json.loads(compared(sides, "--json"))["environment"]}
        # These drives are of one model, and as little worn.
        must(wanted.items() <= differ.items() and not known & differ.keys(),
             text)
        first = text.partition("\ndiffers ")[2].splitlines()[1:]
        first = first[:len(wanted)]
        must(all(line.startswith("target.storage.read.") for line in first)
             and len(first) == len(wanted), text)

    for name in ("disk1", "disk2"):
        fill(bench, name)
    warn_of(bench, "disk2", UNRELIABLE)
    try:
        patiently(look)
    finally:
        warn_of(bench, "disk2", 0)


def lies_in(facts, key):
    """Whether a fact is known; of several drives, of the first."""
    for part in key.split("."):
        facts = facts.get(part)
        if isinstance(facts, list):
            facts = facts[0]
    return facts is not None
