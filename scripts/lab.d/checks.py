"""What the lab proves: assertions on the rows that come back from guests.

No check looks at a figure's size: emulation says nothing about speed, and a
trial that was void because the host was busy still shows its path.
"""
import csv
import json
import re
import sys
import time
import traceback

# Trials that did what they were to do, whether or not a verdict may use them.
RAN = ("ok", "nonsteady", "invalid")
# Endings of `bypass run`: done, and too noisy for a verdict, as a host that
# is shared with a build is. (A wrong row has the latter code too: see `ran`.)
ENDINGS = (0, 4)
# Lines of a kernel log that mean that the kernel, or its use, is broken. A
# stall is left out: on a busy host, emulated CPUs do stand still.
KERNEL_TROUBLE = re.compile(
    r"WARNING: (CPU|.*at )|BUG:|Oops|general protection|refcount_t|"
    r"possible .*deadlock|use-after-free|blocked for more than")
RUN_SECONDS = 240
# On a busy host the machine's counters are read too late now and then, and the
# row says so; not each time.
ATTEMPTS = 3
SHORT = ["--smoke", "--warmup", "300ms", "--window", "300ms"]
READS = "storage/randread-4k"


class Wrong(Exception):
    """What was seen is not what must be."""


def must(holds, text):
    if not holds:
        raise Wrong(text)


class Rows:
    """The trials of one run."""

    def __init__(self, directory):
        with (directory / "trials.csv").open(newline="") as file:
            self.all = list(csv.DictReader(file))
        must(self.all, f"{directory}: no rows")

    def of(self, variant):
        found = [row for row in self.all if row["variant"] == variant]
        must(found, f"no row of {variant}")
        return found

    def ran(self, variant):
        """The variant's rows, all of which must have run and been checked."""
        rows = self.of(variant)
        for row in rows:
            must(row["status"] in RAN, f"{variant}: {told(row)}")
            must(int(row["ops"]) > 0, f"{variant}: no op")
            # Of foreign data, one read in 256 is kept to be read again.
            checked = int(row["verified_ops"]) + int(row["checksummed_ops"])
            must(checked > 0 or int(row["ops"]) < 512,
                 f"{variant}: nothing verified: {told(row)}")
        return rows

    def skipped(self, variant, word):
        for row in self.of(variant):
            must(row["status"] == "skipped", f"{variant}: {told(row)}")
            must(word in row["reasons"], f"{variant}: {told(row)}")


def told(row):
    return f"{row['status']} ({row['reasons']}) {row['path']}"


def path(row):
    pairs = (pair.partition("=") for pair in row["path"].split(";"))
    return {key: value for key, _, value in pairs}


class Bench:
    """A guest, and runs in it whose directories are thrown away."""

    def __init__(self, machine, bypass_run):
        self.machine = machine
        self.bypass_run = bypass_run

    def run(self, *words, endings=ENDINGS):
        lines = []
        code, directory = self.bypass_run(
            self.machine, list(words), RUN_SECONDS, lines.append)
        text = "\n".join(lines)
        must(code in endings, f"bypass run ended with {code}:\n{text}")
        must(directory, f"no run came back:\n{text}")
        rows = Rows(directory)
        for row in rows.all:
            must(path(row).get("machine") == "emulated",
                 f"a row does not say that it was emulated: {told(row)}")
            must(row["status"] != "wrong", told(row))
        return rows


def machine_is_described(bench):
    """Two nodes, the drives' sizes, nodes and poll queues are found."""
    found = json.loads(bench.machine.ask("bypass topology --json"))
    nodes = bench.machine.ask("cat /sys/devices/system/node/node*/cpulist")
    must(nodes.split() == ["0-1", "2-3"], f"the guest's nodes are {nodes}")
    text = bench.machine.ask("bypass topology")
    must("node 1" in text.lower() or "numa 1" in text.lower(),
         f"no second node in:\n{text}")
    for name, node, lba in (("disk0", 0, 4096), ("disk1", 1, 512)):
        kernel_name = bench.machine.ask(f"readlink /dev/lab/{name}")[5:]
        drive = next(device for device in found["block_devices"]
                     if device["name"] == kernel_name)
        seen = (drive["numa_node"], drive["logical_block_bytes"],
                drive["io_poll"], drive["poll_queues"])
        must(seen == (node, lba, True, 2), f"{name}: {seen}")


def doctor_says_emulated(bench):
    """The doctor caps what any result from here is worth."""
    lines = []
    bench.machine.run("bypass doctor 2>&1", 120, lines.append)
    text = "\n".join(lines)
    must("functional only" in text and "emulated" in text, text)


def created_file(bench):
    """Each way to read runs on a file of 4 KiB blocks; whole reads compared."""
    missing = {"pread-pool", "uring", "uring-fixed"}
    for _ in range(ATTEMPTS):
        rows = bench.run("--smoke", "--window", "500ms", READS, "depth=32")
        for variant in sorted(missing):
            proven = [row for row in rows.of(variant)
                      if row["status"] in RAN
                      and path(row).get("direct") == "yes"
                      and int(row["verified_ops"]) > 0
                      and row["numa_node"] == "0"]
            if proven:
                missing.discard(variant)
        must(any(int(row["checksummed_ops"] or 0) for row in rows.all),
             "no read was compared whole")
        if not missing:
            return
    raise Wrong(f"not proven of {sorted(missing)}:\n"
                + "\n".join(told(row) for row in rows.all))


def really_polled(bench):
    """Polled reads arrive at the device's poll queues, says the device.

    QEMU's own trace of commands by queue is the witness: the guest's kernel
    gives the queues behind one per CPU to polling.
    """
    log = bench.machine.directory / "qemu.log"
    for target in ("/lab/disk0", "/dev/lab/disk1"):
        before = log.stat().st_size
        bench.machine.qmp("trace-event-set-state", name="pci_nvme_io_cmd",
                          enable=True)
        rows = bench.run(*SHORT, "--target", target,
                         f"{READS}/uring-iopoll", "depth=1")
        bench.machine.qmp("trace-event-set-state", name="pci_nvme_io_cmd",
                          enable=False)
        with log.open(errors="replace") as file:
            file.seek(before)
            queues = re.findall(r"pci_nvme_io_cmd .*sqid (\d+) opc 0x2",
                                file.read())
        polled = sum(int(queue) > 4 for queue in queues)
        claimed = rows.ran("uring-iopoll")
        least = sum(int(row["ops"]) for row in claimed)
        must(all(path(row).get("polled") == "yes" for row in claimed),
             told(claimed[0]))
        must(polled >= least,
             f"{target}: {least} polled reads are claimed, and {polled} of "
             f"{len(queues)} reads came over poll queues")


def passed_through(bench):
    """Commands passed through bring what the block layer brings, polled or not.

    Each block is read again by a plain call in the run itself; which queues
    the commands arrive at is told by QEMU, as in `really_polled`.
    """
    # Zeros would be right wherever they came from.
    bench.machine.ask(
        "(while cat /bin/bypass; do :; done) 2>/dev/null |"
        "dd of=/dev/lab/disk1 bs=1M 2>/dev/null; sync", 180)
    log = bench.machine.directory / "qemu.log"
    for target, lba in (("/dev/lab/disk0", 4096), ("/dev/lab/disk1", 512)):
        before = log.stat().st_size
        bench.machine.qmp("trace-event-set-state", name="pci_nvme_io_cmd",
                          enable=True)
        rows = bench.run(*SHORT, "--target", target,
                         "storage/ladder/uring-passthru*", "depth=32")
        bench.machine.qmp("trace-event-set-state", name="pci_nvme_io_cmd",
                          enable=False)
        with log.open(errors="replace") as file:
            file.seek(before)
            queues = [int(queue) > 4 for queue in re.findall(
                r"pci_nvme_io_cmd .*sqid (\d+) opc 0x2", file.read())]
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


def other_node(bench):
    """On CPUs of the other node, memory is bound there and checked."""
    rows = bench.run(*SHORT, "--cpus", "2-3", "--target", "/dev/lab/disk1",
                     f"{READS}/uring-fixed", "depth=32")
    for row in rows.ran("uring-fixed"):
        must(row["numa_node"] == "1" and row["cpus"] in ("2", "2-3"),
             f"CPUs {row['cpus']} node {row['numa_node']}")


def across_nodes(bench):
    """Two ends on two nodes say so on the row."""
    seen = {}
    for cpus in ("0-1", "0,2"):
        rows = bench.run(*SHORT, "--cpus", cpus, "ipc/ping-pong/ring",
                         "op_bytes=8")
        seen[cpus] = {path(row).get("placement")
                      for row in rows.of("ring") if row["status"] in RAN}
    must(seen["0-1"] and seen["0,2"] and not seen["0-1"] & seen["0,2"],
         f"placements are {seen}")
    # Each node is a socket of its own here.
    must(seen["0,2"] == {"other-package"}, str(seen))


def old_kernel(bench):
    """What a kernel lacks is skipped with its reason, never an error."""
    rows = bench.run(*SHORT, READS, "depth=32")
    for row in rows.all:
        must(row["status"] in (*RAN, "degraded", "skipped"), told(row))
        must(row["status"] != "skipped" or row["reasons"], told(row))


def bad_sector(bench):
    """A sector that cannot be read ends its trial as an error that says so."""
    rows = bench.run(*SHORT, "--target", "/dev/lab/flawed", f"{READS}/uring",
                     "depth=32", endings=(0, 3, 4))
    errors = [row for row in rows.all if row["status"] == "error"]
    must(errors, "no trial met the bad sector")
    for row in errors:
        must(re.search(r"os error (5|61)|EIO|ENODATA", row["reasons"]),
             told(row))


def unplugged(bench):
    """A drive taken out under load ends trials as errors, and not the run."""
    def show(line):
        if line == "@unplug":
            bench.machine.qmp("device_del", id="nvme-disk1")

    words = "--smoke --window 15s --target /dev/lab/disk1"
    lines = []
    code = bench.machine.run(
        "drive=$(readlink /dev/lab/disk1)\n"
        f"bypass run --results /host/results {words} '{READS}/uring' "
        "depth=32 2>&1 &\n"
        # The slot is switched off 5 s after its button was pressed.
        "sleep 8; echo @unplug; wait $!; code=$?; sleep 3\n"
        "ls $drive && echo the drive is still there; exit $code\n",
        RUN_SECONDS, lambda line: (lines.append(line), show(line)))
    text = "\n".join(lines)
    must("still there" not in text, text)
    must(code in (3, 4), f"ended with {code}:\n{text}")
    rows = Rows(newest(bench.machine.share / "results"))
    must(any(row["status"] == "error" for row in rows.all),
         "\n".join(map(told, rows.all)))
    nothing_is_left(bench)


def killed(bench):
    """A runner killed at any moment leaves no process and no file behind."""
    free = "df /lab/disk0 | awk 'END {print $3}'"
    before = int(bench.machine.ask(free))
    for seconds in (0.3, 2.1, 5.7, 9.3):
        bench.machine.ask(
            f"bypass run --results /tmp/killed {' '.join(SHORT)} "
            f"--target /lab/disk0 '{READS}' >/dev/null 2>&1 &\n"
            f"sleep {seconds}; kill -9 $!; wait $! || true; sleep 2")
        nothing_is_left(bench)
        after = int(bench.machine.ask(f"sync; {free}"))
        must(after <= before + 64, f"{after - before} KiB stay in use")
    bench.machine.ask("rm -rf /tmp/killed")


def nothing_is_left(bench):
    left = bench.machine.ask("ps | grep '[b]ypass' || true")
    must(not left, f"left behind:\n{left}")


def newest(directory):
    return max(directory.iterdir(), key=lambda place: place.stat().st_mtime)


def kernel_is_content(bench):
    """The guest's kernel has nothing to complain about."""
    log = bench.machine.ask("dmesg")
    trouble = [line for line in log.splitlines() if KERNEL_TROUBLE.search(line)]
    must(not trouble, "\n".join(trouble))


QUICK = {
    "newest": [machine_is_described, doctor_says_emulated, created_file,
               really_polled, passed_through, other_node, across_nodes,
               kernel_is_content],
}
# The oldest kernel that is looked after: what it lacks is skipped.
FULL = {
    "newest": [*QUICK["newest"][:-1], bad_sector, killed, unplugged,
               kernel_is_content],
    "6.1": [machine_is_described, old_kernel, really_polled, passed_through,
            other_node,
            bad_sector, killed, unplugged, kernel_is_content],
}


def run_all(guest, quick, boot, bypass_run):
    failed = 0
    for kernel, checks in (QUICK if quick else FULL).items():
        began = time.monotonic()
        machine = boot(guest, kernel)
        try:
            print(f"lab: {kernel}: up after {time.monotonic() - began:.0f} s",
                  flush=True)
            bench = Bench(machine, bypass_run)
            for check in checks:
                failed += not passes(check, bench)
        finally:
            machine.stop()
    print(f"lab: {failed} failed" if failed else "lab: all passed")
    return 1 if failed else 0


def passes(check, bench):
    began = time.monotonic()
    try:
        check(bench)
    except Exception as error:  # noqa: BLE001: the other checks go on
        if not isinstance(error, Wrong):
            traceback.print_exc(file=sys.stdout)
        print(f"FAILED {check.__name__}: {check.__doc__.splitlines()[0]}\n"
              f"{error}", flush=True)
        return False
    print(f"ok {check.__name__} ({time.monotonic() - began:.0f} s)", flush=True)
    return True
