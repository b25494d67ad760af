"""Things go wrong under load: rows say so, and runs go on."""
import json
import re

from bench import (READS, RUN_SECONDS, SHORT, WINDOWS, Rows, TooBusy, instants,
                   must, newest, nothing_is_left, patiently, short, told)


# Where an op failed, and of which length it was, for want of a medium (EIO,
# ENODATA).
FAILED = re.compile(r"of (\d+) bytes at offset (\d+): .*\(errno (5|61)\)")

# The same of a drive that is gone: EIO, ENXIO or ENODEV, or, where the kernel
# takes its size away before it ends what is in flight, a read of nothing.
GONE = re.compile(r"(of \d+ bytes at offset \d+: .*\(errno (5|6|19)\)"
                  r"|\(short: 0 of \d+ bytes\) of \d+ bytes at offset \d+)")


def failed_at(row):
    """The bytes that the op of an error row was about."""
    found = FAILED.search(row["reasons"])
    must(found, told(row))
    length, offset, _ = map(int, found.groups())
    return range(offset, offset + length)


def bad_sector(bench):
    """A sector that cannot be read ends its trial as an error that says so."""
    # As guest.toml has it, in sectors of 512 bytes.
    bad = 65536 * 512

    def look(window):
        # In order, which comes by it after 512 reads at the latest.
        rows = bench.run(*short(window), "--target", "/dev/lab/flawed",
                         "storage/seqread-128k/uring", endings=(0, 3, 4))
        errors = [row for row in rows.all if row["status"] == "error"]
        if not errors:
            raise TooBusy("no trial came by the bad sector: "
                          + ", ".join(map(told, rows.all)))
        for row in errors:
            must(bad in failed_at(row), told(row))

    patiently(look)


def unplugged(bench):
    """A drive taken out under load ends trials as errors, and not the run."""
    def show(line):
        if line == "@unplug":
            bench.machine.qmp("device_del", id="nvme-disk1")

    words = "--smoke --window 15s --target /dev/lab/disk1"
    lines = []
    code = bench.machine.run(
        "drive=$(readlink /dev/lab/disk1)\n"
        "reads() { awk '{print $1}' /sys/block/${drive#/dev/}/stat; }\n"
        "before=$(reads)\n"
        f"bypass run --results /host/results {words} '{READS}/uring' "
        "depth=32 2>&1 &\n"
        # Far more than looking at a drive takes: it is under load.
        "while [ $(($(reads) - before)) -lt 1000 ]; do\n"
        "    kill -0 $! || break; usleep 200000; done\n"
        # The slot is switched off 5 s after its button was pressed.
        "echo @unplug; wait $!; code=$?\n"
        "for i in $(seq 60); do [ -e $drive ] || exit $code; sleep 1; done\n"
        "echo the drive is still there\n",
        RUN_SECONDS, lambda line: (lines.append(line), show(line)))
    text = "\n".join(lines)
    must("still there" not in text, text)
    must(code == 4, f"ended with {code}:\n{text}")
    rows = Rows(newest(bench.machine.share / "results"))
    errors = [row for row in rows.all if row["status"] == "error"]
    must(errors and all(row["reasons"] for row in errors),
         "\n".join(map(told, rows.all)))
    # The trial that it was taken from. Later ones cannot even open it.
    must(any(GONE.search(row["reasons"]) for row in errors),
         "\n".join(map(told, errors)))
    nothing_is_left(bench)


def killed(bench):
    """A runner killed at any moment leaves no process and no file behind."""
    free = "df /lab/disk0 | awk 'END {print $3}'"
    before = int(bench.machine.ask(free))
    for seconds in instants(6):
        bench.machine.ask(
            f"bypass run --results /tmp/killed {' '.join(SHORT)} "
            f"--target /lab/disk0 '{READS}' >/dev/null 2>&1 &\n"
            f"sleep {seconds}; kill -9 $!; wait $! || true")
        nothing_is_left(bench)
        # A file without a name is given back some time after its end.
        after = int(bench.machine.ask(
            f"for i in $(seq 60); do sync; used=$({free}); "
            f"[ $used -gt {before + 64} ] || break; sleep 1; done; echo $used"))
        must(after <= before + 64, f"{after - before} KiB stay in use")
    bench.machine.ask("rm -rf /tmp/killed")


def delayed(bench):
    """A drive that is made slow shows on the rows: each read takes its time."""
    def throttle(per_second):
        bench.machine.qmp("block_set_io_throttle", device="disk1", bps=0,
                          bps_rd=0, bps_wr=0, iops=per_second, iops_rd=0,
                          iops_wr=0)

    def look(window):
        rows = bench.run(*short(window), "--target", "/dev/lab/disk1",
                         f"{READS}/uring", "depth=1")
        for row in rows.ran("uring"):
            # 20 reads at least, or there is no median.
            if not row["latency_p50_ns"]:
                raise TooBusy(told(row))
            median_ms = int(row["latency_p50_ns"]) / 1e6
            # 20 a second are 50 ms each; QEMU lets some through at once.
            must(median_ms >= 25, f"{median_ms} ms: {told(row)}")

    throttle(20)
    try:
        patiently(look, WINDOWS[2:])
    finally:
        throttle(0)


def fill(left_mib):
    """What takes all memory of the guest but so much, in its shell."""
    return ("mount -o remount,size=100% /tmp\n"
            "free=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)\n"
            f"dd if=/dev/zero of=/tmp/fill bs=1M count=$((free - {left_mib})) "
            "2>/dev/null\n")


def short_of_memory(bench):
    """With hardly any memory left, before a run or since, it ends with rows or
    reasons."""
    run = (f"rm -rf /host/results\nbypass run --results /host/results "
           f"--target /dev/lab/disk1 '{READS}' depth=32 ")
    for script in (f"{fill(96)}{run} {' '.join(SHORT)} 2>&1",
                   f"{run} --smoke --window 3s 2>&1 &\nsleep 5\n"
                   f"{fill(96)}wait $!"):
        lines = []
        try:
            code = bench.machine.run(script, RUN_SECONDS, lines.append)
        finally:
            bench.machine.ask("rm -f /tmp/fill")
        text = "\n".join(lines)
        must(code in (0, 3, 4), f"ended with {code}:\n{text}")
        for row in Rows(newest(bench.machine.share / "results")).all:
            must(row["status"] in ("ok", "nonsteady") or row["reasons"],
                 told(row))
            must(row["status"] != "wrong", told(row))
        nothing_is_left(bench)
    bench.run(*SHORT, "--target", "/dev/lab/disk1", f"{READS}/uring", "depth=1")


def findings(bench, cpus, target):
    """The doctor's verdicts on storage, by check."""
    text = bench.machine.ask(
        f"taskset -c {cpus} bypass doctor --for storage --json "
        f"--target {target}")
    return {one["id"]: one["status"] for one in json.loads(text)["findings"]}


def doctor_finds_faults(bench):
    """A scheduler and a drive on the other node are found, where planted."""
    device = bench.machine.ask("readlink /dev/lab/disk1")
    scheduler = f"/sys/block/{device[5:]}/queue/scheduler"
    ids = ("storage.scheduler", "storage.numa_node", "storage.poll_queues")
    seen = findings(bench, "2-3", device)
    must([seen[one] for one in ids] == ["pass"] * 3, f"before: {seen}")
    bench.machine.ask(f"echo mq-deadline >{scheduler}")
    seen = findings(bench, "0-1", device)
    bench.machine.ask(f"echo none >{scheduler}")
    must([seen[one] for one in ids] == ["warn", "warn", "pass"],
         f"planted: {seen}")


def doctor_misses_poll_queues(bench):
    """A driver without poll queues is found. Every drive goes and comes back
    under another name: for a guest's end."""
    bench.machine.ask("set -e; umount /lab/disk0; rmmod nvme\n"
                      "insmod /modules/nvme.ko poll_queues=0")
    device = bench.machine.ask(
        "for i in $(seq 60); do for drive in /dev/nvme*n1; do "
        "[ -b $drive ] && echo $drive && exit; done; sleep 1; done")
    seen = findings(bench, "0-3", device)
    must(seen["storage.poll_queues"] == "warn", str(seen))
