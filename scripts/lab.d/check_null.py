"""A drive of memory (null_blk): fast, and it fails and dawdles as it is told.

Debian's kernels have its faults by bad blocks and by timer; those of the fault
injection framework are not built in (CONFIG_FAULT_INJECTION).
"""
from contextlib import contextmanager

from bench import (READS, TooBusy, WINDOWS, must, nothing_is_left, path,
                   patiently, short, told)
from check_faults import failed_at
from check_storage import (PASSED, SINCE_6_1, UNCACHED, is_hybrid_in_vain,
                           prove_steps)

# Documentation/block/null_blk.rst: how a request ends.
AT_ONCE, BY_SOFTIRQ, BY_TIMER = range(3)
CONFIG = "/sys/kernel/config/nullb/nullb0"
DRIVE = "/dev/nullb0"
# The least that the program takes for a target.
SIZE_MIB = 64
SECTOR_BYTES = 512


@contextmanager
def null_drive(bench, lba=4096, irqmode=BY_SOFTIRQ, delay_ns=0):
    """The drive, with a queue per CPU and two for polling."""
    settings = {"size": SIZE_MIB, "blocksize": lba, "memory_backed": 1,
                "queue_mode": 2, "submit_queues": bench.cpus,
                "poll_queues": 2, "irqmode": irqmode,
                "completion_nsec": delay_ns, "power": 1}
    bench.machine.ask(f"set -e; mkdir {CONFIG}; cd {CONFIG}\n" + "".join(
        f"echo {value} >{name}\n" for name, value in settings.items())
        + f"[ -b {DRIVE} ]")
    try:
        yield
    finally:
        bench.machine.ask(f"echo 0 >{CONFIG}/power; rmdir {CONFIG}")


def fill(bench):
    """Zeros would be right wherever they came from."""
    bench.machine.ask("(while cat /bin/bypass; do :; done) 2>/dev/null |"
                      f"dd of={DRIVE} bs=1M 2>/dev/null; sync")


def every_step_on_memory(bench):
    """Each step of the ladder is proven on memory, which answers at once."""
    with null_drive(bench, irqmode=AT_ONCE):
        fill(bench)
        # It raises no interrupts that could be counted, and is done before a
        # sleep is.
        prove_steps(bench, DRIVE, polled=("yes", "unknown"),
                    lacks=(*PASSED, UNCACHED, "uring-hybrid"))


def polling_needs_no_timer(bench):
    """Polled reads come at once where others wait for the drive's timer.

    The timer is what the drive does in place of an interrupt, and polling does
    not wait for it: no row has to be believed.
    """
    delay_ms = 100

    def look(window):
        rows = bench.run(*short(window), "--target", DRIVE, f"{READS}/uring",
                         f"{READS}/uring-iopoll", "storage/ladder/uring-hybrid",
                         "depth=1")
        for variant, polls in (("uring", False), ("uring-iopoll", True),
                               ("uring-hybrid", True)):
            if variant == "uring-hybrid" and rows.has_skipped(variant):
                rows.skipped(variant, SINCE_6_1[variant])
                continue
            some = rows.of(variant)
            if not all(map(is_hybrid_in_vain, some)):
                some = rows.ran(variant)
            for row in some:
                must(path(row).get("polled") in
                     (("yes", "unknown") if polls else ("no",)), told(row))
                if not row["latency_p50_ns"]:
                    raise TooBusy(told(row))
                median_ms = int(row["latency_p50_ns"]) / 1e6
                must(polls or median_ms >= delay_ms,
                     f"{median_ms} ms, before the timer: {told(row)}")
                if polls and median_ms >= delay_ms:
                    raise TooBusy(f"a polled read takes {median_ms} ms, as if "
                                  f"it waited for the timer: {told(row)}")

    with null_drive(bench, irqmode=BY_TIMER, delay_ns=delay_ms * 1_000_000):
        patiently(look, WINDOWS[2:])


def bad_blocks(bench):
    """Blocks that are bad end trials as errors that name errno and offset, and
    only while they are. (Linux 6.1 lists them, and reads them all the same.)"""
    # One in 64 blocks, in the middle.
    first = SIZE_MIB // 2 << 20
    last = first + (1 << 20) - 1
    bad = f"{first // SECTOR_BYTES}-{last // SECTOR_BYTES}"
    variants = ("pread", "uring", "uring-iopoll")
    words = ["--target", DRIVE, *(f"{READS}/{one}" for one in variants),
             "depth=1"]

    def failing(window):
        rows = bench.run(*short(window), *words, endings=(0, 3, 4))
        for variant in variants:
            errors = [row for row in rows.of(variant)
                      if row["status"] == "error"]
            if not errors:
                raise TooBusy(f"{variant}: no trial came by a bad block: "
                              + ", ".join(map(told, rows.of(variant))))
            for row in errors:
                must(failed_at(row).start in range(first, last), told(row))

    def sound(window):
        rows = bench.run(*short(window), *words)
        for variant in variants:
            rows.ran(variant)

    with null_drive(bench, lba=512):
        fill(bench)
        bench.machine.ask(f"echo +{bad} >{CONFIG}/badblocks")
        patiently(failing)
        nothing_is_left(bench)
        bench.machine.ask(f"echo -{bad} >{CONFIG}/badblocks")
        patiently(sound)
