"""The guest itself: what is found of it, what comes back from it, and what its
kernel says."""
import json
import re
import subprocess
import sys
from pathlib import Path

from bench import READS, Wrong, must, path, patiently, short
from machine import LOST_TIMER

# Lines of a kernel log that mean that the kernel, or its use, is broken; and
# those that a busy host causes, on which emulated CPUs do stand still.
KERNEL_TROUBLE = re.compile(
    r"WARNING: (CPU|.*at )|BUG:|Oops|general protection|refcount_t|"
    r"possible .*deadlock|use-after-free|blocked for more than|"
    r"DMAR: .*fault")
STALL = re.compile(r"soft lockup|hard LOCKUP|workqueue lockup|dev_watchdog|"
                   r"clocksource")


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


def results_are_ordinary(bench):
    """A run that came back stands up to what looks runs through, on the host."""
    rows = bench.run("--quick", "--blocks", "6", *short()[1:],
                     "ipc/ping-pong/ring", "op_bytes=8")
    again = Path(__file__).parent.parent / "verify_results.py"
    for words in ([bench.machine.share / "bypass", "check"],
                  [sys.executable, again]):
        done = subprocess.run([*words, rows.directory], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        must(done.returncode == 0, f"{words[-1]}: {done.stdout}")


def memory_is_mapped(bench):
    """Devices reach memory through the IOMMU's tables, each in a group."""
    kinds = bench.machine.ask("cat /sys/kernel/iommu_groups/*/type").split()
    must(kinds and all(kind.startswith("DMA") for kind in kinds), str(kinds))


def doctor_says_emulated(bench):
    """The doctor caps what any result from here is worth."""
    lines = []
    bench.machine.run("bypass doctor 2>&1", 120, lines.append)
    text = "\n".join(lines)
    must("functional only" in text and "emulated" in text, text)


def other_node(bench):
    """On CPUs of the other node, memory is bound there and checked."""
    def look(window):
        rows = bench.run(*short(window), "--cpus", "2-3", "--target",
                         "/dev/lab/disk1", f"{READS}/uring-fixed", "depth=32")
        for row in rows.ran("uring-fixed"):
            must(row["numa_node"] == "1" and row["cpus"] in ("2", "2-3"),
                 f"CPUs {row['cpus']} node {row['numa_node']}")

    patiently(look)


def across_nodes(bench):
    """Two ends on two nodes say so on the row."""
    def look(cpus, window):
        rows = bench.run(*short(window), "--cpus", cpus, "ipc/ping-pong/ring",
                         "op_bytes=8")
        return {path(row).get("placement") for row in rows.ran("ring")}

    seen = {cpus: patiently(lambda window: look(cpus, window))
            for cpus in ("0-1", "0,2")}
    must(seen["0-1"] and seen["0,2"] and not seen["0-1"] & seen["0,2"],
         f"placements are {seen}")
    # Each node is a socket of its own here.
    must(seen["0,2"] == {"other-package"}, str(seen))


# Directories of guests that were given up on purpose.
LOST = []


def lost_guest_is_replaced(bench):
    """A guest whose kernel says that a CPU waits for a timer that never comes
    is replaced, and the check begins again."""
    if bench.replaced:
        must(not any(lost.exists() for lost in LOST), f"still there: {LOST}")
        return
    LOST.append(bench.machine.directory)
    # Of a level that reaches the console; twice, as `read_until` wants it.
    bench.machine.ask(f"echo '<3>planted: {LOST_TIMER}' >/dev/kmsg\n" * 2
                      + "sleep 300")
    raise Wrong("nobody saw that the guest is lost")


def kernel_is_content(bench):
    """The guest's kernel has nothing to complain about."""
    log = bench.machine.ask("dmesg")
    trouble = [line for line in log.splitlines()
               if KERNEL_TROUBLE.search(line) and not STALL.search(line)]
    must(not trouble, "\n".join(trouble))
