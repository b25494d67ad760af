"""Packets over emulated cards that are joined by a wire."""
from bench import (ENDINGS, RAN, RUN_SECONDS, WINDOWS, Rows, TooBusy, instants,
                   must, newest, nothing_is_left, path, patiently, short, told)


def over(pair, *words, window=WINDOWS[0]):
    return [*short(window), "--interfaces", f"{pair}0,{pair}1", *words]


def nothing_lost(rows, variant):
    """In both directions, to the frame: one at a time is in flight."""
    for row in rows.ran(variant):
        for way in ("there", "back"):
            sent, delivered = (rows.metric(row, f"{way}_frames_{what}")
                               for what in ("sent", "delivered"))
            must(sent == delivered > 0,
                 f"{variant}: {way} {sent} sent, {delivered} delivered")


def cards_are_back(bench, *pairs):
    """What was lent is here again, down, and by its name."""
    for pair in pairs:
        for end in range(2):
            name = f"{pair}{end}"
            flags = bench.machine.ask(
                f"for i in $(seq 600); do [ -e /sys/class/net/{name} ] && "
                f"break; usleep 200000; done; cat /sys/class/net/{name}/flags")
            must(int(flags, 16) & 1 == 0, f"{name} is up: {flags}")


def cards(bench, *pairs):
    """Those of the pairs that the guest has."""
    for pair in pairs:
        if bench.has(f"{pair}0"):
            yield pair
        else:
            print(f"   SKIPPED: there is no {pair} here", flush=True)


def is_zero_copy(rows, pair):
    driver = {"igb": "igb", "virtio": "virtio_net"}[pair]
    for row in rows.ran("af-xdp-zerocopy"):
        seen = path(row)
        must((seen.get("zero_copy"), seen.get("xdp"), seen.get("link"))
             == ("yes", "native", driver), told(row))


def zero_copy(bench):
    """Zero-copy is reached, read back, and brings every frame."""
    def look(pair, window):
        rows = bench.run(
            *over(pair, "net/rtt/af-xdp-zerocopy", window=window))
        is_zero_copy(rows, pair)
        nothing_lost(rows, "af-xdp-zerocopy")

    for pair in cards(bench, "igb", "virtio"):
        patiently(lambda window: look(pair, window))
        cards_are_back(bench, pair)


def flooded(bench):
    """Zero-copy brings a flood over, none twice, and of each frame it is told
    where it ended."""
    def look(pair, window):
        rows = bench.run(
            *over(pair, "net/stream-64/af-xdp-zerocopy", window=window))
        for row in rows.of("af-xdp-zerocopy"):
            # Its account balances, else the reason would be another.
            if row["status"] == "error" and "no frame after" in row["reasons"]:
                raise TooBusy(told(row))
        is_zero_copy(rows, pair)
        for row in rows.ran("af-xdp-zerocopy"):
            sent, delivered = (rows.metric(row, f"there_frames_{what}")
                               for what in ("sent", "delivered"))
            dropped = rows.metrics_of(row, "there_dropped_")
            must(sent == delivered + sum(dropped.values()) and delivered > 0,
                 f"{sent} sent, {delivered} delivered, dropped {dropped}")

    for pair in cards(bench, "igb", "virtio"):
        patiently(lambda window: look(pair, window))
        cards_are_back(bench, pair)


# A card's ring and the socket's have room for what comes in this time.
STOOD_STILL_NS = 200_000_000


def paced(bench):
    """Zero-copy brings frames at a set pace over and loses none."""
    def look(pair, window):
        rows = bench.run(*over(
            pair, "net/paced-64/af-xdp-zerocopy", "rate_per_s=1000",
            window=window))
        for row in rows.of("af-xdp-zerocopy"):
            dropped = rows.metrics_of(row, "there_dropped_")
            if (sum(dropped.values())
                    and int(row["latency_max_ns"] or 0) > STOOD_STILL_NS):
                raise TooBusy(f"the guest stood still: {told(row)}")
        is_zero_copy(rows, pair)
        for row in rows.ran("af-xdp-zerocopy"):
            must(row["load_mode"] == "open", told(row))
            sent, delivered = (rows.metric(row, f"there_frames_{what}")
                               for what in ("sent", "delivered"))
            dropped = rows.metrics_of(row, "there_dropped_")
            must(sent == delivered > 0 and not sum(dropped.values()),
                 f"{sent} sent, {delivered} delivered, dropped {dropped}")

    for pair in cards(bench, "igb", "virtio"):
        patiently(lambda window: look(pair, window))
        cards_are_back(bench, pair)


def every_way_over_cards(bench):
    """Each way to bring a frame over works on real cards, too."""
    def look(window):
        rows = bench.run(*over("virtio", "net/rtt", window=window))
        for variant in sorted({row["variant"] for row in rows.all}):
            nothing_lost(rows, variant)

    patiently(look)
    cards_are_back(bench, "virtio")


def no_zero_copy(bench):
    """A virtio card that no IOMMU's rules hold for is refused, with the why."""
    rows = bench.run(*over("plain", "net/rtt/af-xdp-zerocopy"),
                     endings=(*ENDINGS, 3))
    rows.skipped("af-xdp-zerocopy", "iommu_platform=on")
    cards_are_back(bench, "plain")


def cards_in_use_are_refused(bench):
    """An interface that is up or has an address is not touched."""
    for use, word in (("ip link set virtio0 up", "is up"),
                      ("ip address add 192.0.2.1/24 dev virtio0",
                       "has the address 192.0.2.1")):
        bench.machine.ask(use)
        lines = []
        code = bench.machine.run(
            "bypass run --results /tmp/refused "
            + " ".join(over("virtio", "net/rtt/socket-spin")) + " 2>&1",
            RUN_SECONDS, lines.append)
        text = "\n".join(lines)
        bench.machine.ask("ip link set virtio0 down; "
                          "ip address flush dev virtio0; rm -rf /tmp/refused")
        must(code == 3 and word in text, f"{use}: ended with {code}:\n{text}")


# The worker whose filter is attached, one thread of it in each namespace of
# its lab: they have no name. Each side pings the other. A card that was reset
# has no carrier for seconds: it is asked again, as long as the worker lives,
# until all five are answered. A probe's worker does not live for long enough.
FOREIGN = r"""
while kill -0 $run 2>/dev/null; do
    worker=$(ls -ld /proc/[0-9]*/fd/* 2>/dev/null | grep bpf-prog |
        sed 's|.*/proc/\([0-9]*\)/.*|\1|' | head -n 1)
    [ -n "$worker" ] || continue
    spaces= answered=0
    for task in /proc/$worker/task/*; do
        space=$(readlink $task/ns/net)
        case "$spaces" in *"$space"*) continue;; esac
        spaces="$spaces $space"
        # Threads without a side stayed where the program was started.
        own=$(nsenter --net=$task/ns/net ip addr | grep -o '198\.18\.0\.[12]/')
        for side in 198.18.0.1 198.18.0.2; do
            case "$own" in ''|"$side/") continue;; esac
            while [ -d $task ]; do
                nsenter --net=$task/ns/net ping -c 5 -i 0.3 -W 8 $side \
                    >/tmp/pinged 2>&1
                grep -q ' 5 packets received' /tmp/pinged &&
                    answered=$((answered + 1)) && break
                sleep 1
            done
        done
    done
    [ $answered -lt 2 ] || break
done
echo "@answered $answered"; cat /tmp/pinged
"""


def foreign_traffic(bench):
    """What is not ours passes by the filter to the network stack, meanwhile."""
    def look(pair, window):
        words = " ".join(over(pair, "net/rtt/af-xdp-zerocopy", window=window))
        lines = []
        bench.machine.run(
            "rm -rf /host/results\n"
            f"bypass run --results /host/results {words} >/tmp/said 2>&1 &\n"
            f"run=$!\n{FOREIGN}\nwait; cat /tmp/said", RUN_SECONDS,
            lines.append)
        text = "\n".join(lines)
        # One of each side.
        if "@answered 2" not in text:
            raise TooBusy(f"pings over {pair} were not all answered:\n{text}")
        nothing_lost(Rows(newest(bench.machine.share / "results")),
                     "af-xdp-zerocopy")

    for pair in cards(bench, "virtio", "igb"):
        patiently(lambda window: look(pair, window), ("10s", "20s", "40s"))
        cards_are_back(bench, pair)


def cut(bench, pair, variant):
    """A wire is cut under load and joined again: a row must tell."""
    def show(line):
        if line in ("@down", "@up"):
            for end in range(2):
                bench.machine.qmp("set_link", name=f"{pair}{end}",
                                  up=line == "@up")

    words = " ".join(["--smoke", "--window", "15s", "--interfaces",
                      f"{pair}0,{pair}1", f"net/rtt/{variant}"])
    lines = []
    code = bench.machine.run(
        "rm -rf /host/results\n"
        f"bypass run --results /host/results {words} 2>&1 &\n"
        # A wire that is cut before the load began is waited for: again, later.
        "whole=5; while sleep $whole; kill -0 $! 2>/dev/null; do\n"
        "    echo @down; sleep 8; echo @up; whole=$((whole + 3)); done\n"
        "wait $!",
        RUN_SECONDS, lambda line: (lines.append(line), show(line)))
    text = "\n".join(lines)
    must(code in (0, 3, 4), f"ended with {code}:\n{text}")
    rows = Rows(newest(bench.machine.share / "results"))
    errors = [row for row in rows.all if row["status"] == "error"]
    must(errors and all(row["reasons"] for row in errors),
         "\n".join(map(told, rows.all)))


def wire_cut(bench):
    """A link that goes down under load ends a trial as an error, and comes
    back."""
    variants = {"virtio": "socket-spin", "igb": "af-xdp-zerocopy"}
    for pair in cards(bench, *variants):
        variant = variants[pair]
        cut(bench, pair, variant)
        nothing_is_left(bench)
        cards_are_back(bench, pair)
        patiently(lambda window: nothing_lost(
            bench.run(*over(pair, f"net/rtt/{variant}", window=window)),
            variant))


def killed_with_cards(bench):
    """A runner that is killed leaves the cards as they were."""
    for pair in cards(bench, "virtio", "igb"):
        words = " ".join(over(pair, "net/rtt"))
        for seconds in instants(3):
            bench.machine.ask(
                f"bypass run --results /tmp/killed {words} >/dev/null 2>&1 &\n"
                f"sleep {seconds}; kill -9 $!; wait $! || true")
            nothing_is_left(bench)
            cards_are_back(bench, pair)
        patiently(lambda window: nothing_lost(
            bench.run(*over(pair, "net/rtt/af-xdp-zerocopy", window=window)),
            "af-xdp-zerocopy"))
        bench.machine.ask("rm -rf /tmp/killed")


def old_kernel_over_cards(bench):
    """A kernel whose drivers have no zero-copy skips it, with the reason."""
    rows = bench.run(*over("virtio", "net/rtt"))
    rows.skipped("af-xdp-zerocopy", "zero-copy")
    for row in rows.all:
        must(row["status"] in (*RAN, "degraded", "skipped"), told(row))
    cards_are_back(bench, "virtio")
