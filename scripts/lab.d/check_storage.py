"""The ladder on emulated drives."""
import json
import re

from bench import (ATTEMPTS, RAN, READS, SHORT, Wrong, must, newest, path,
                   told)


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


def old_kernel(bench):
    """What a kernel lacks is skipped with its reason, never an error."""
    rows = bench.run(*SHORT, READS, "depth=32")
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
