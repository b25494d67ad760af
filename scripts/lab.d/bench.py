"""What checks stand on: runs in a guest, and the rows that come back."""
import csv
import random
import re

# Trials that did what they were to do, whether or not a verdict may use them.
RAN = ("ok", "nonsteady", "invalid")
# Endings of `bypass run`: done, and too noisy for a verdict, as a host that
# is shared with a build is. (A wrong row has the latter code too: see `ran`.)
ENDINGS = (0, 4)
RUN_SECONDS = 1800
# What is long enough for a path to show where the host has time to give; on a
# busy one it is asked again, for longer.
WINDOWS = ("300ms", "1s", "3s", "10s")


def short(window=WINDOWS[0]):
    return ["--smoke", "--warmup", window, "--window", window]


SHORT = short()
READS = "storage/randread-4k"


class Wrong(Exception):
    """What was seen is not what must be."""


class TooBusy(Wrong):
    """The host gave the guest so little time that nothing can be seen."""


def must(holds, text):
    if not holds:
        raise Wrong(text)


def patiently(look, windows=WINDOWS):
    """What `look` makes of a window, which grows where the host is too busy."""
    for window in windows[:-1]:
        try:
            return look(window)
        except TooBusy as busy:
            print(f"   {window} are too short here: "
                  f"{str(busy).splitlines()[0]}", flush=True)
    return look(windows[-1])


class Rows:
    """The trials of one run."""

    def __init__(self, directory):
        self.directory = directory
        with (directory / "trials.csv").open(newline="") as file:
            self.all = list(csv.DictReader(file))
        must(self.all, f"{directory}: no rows")
        with (directory / "metrics.csv").open(newline="") as file:
            self.metrics = list(csv.DictReader(file))
        # An emulated drive holds nothing at first, and after a trim; a guest
        # on a busy host does not keep a pace. That is told as it should be, and
        # everything else about the row has to hold.
        for row in self.all:
            if row["status"] == "degraded" and is_of_emulation(row["reasons"]):
                row["status"] = "nonsteady"

    def metric(self, row, name):
        """A figure of a trial; 0 where it has none of that name."""
        return sum(float(metric["value"]) for metric in self.metrics
                   if metric["metric"] == name
                   and metric["trial"] == row["trial"])

    def metrics_of(self, row, prefix):
        """The figures of a trial whose names begin so."""
        return {metric["metric"]: float(metric["value"])
                for metric in self.metrics if metric["trial"] == row["trial"]
                and metric["metric"].startswith(prefix)}

    def of(self, variant):
        found = [row for row in self.all if row["variant"] == variant]
        must(found, f"no row of {variant}")
        return found

    def ran(self, variant):
        """The variant's rows, all of which must have run and been checked."""
        rows = self.of(variant)
        for row in rows:
            must(row["status"] in RAN, f"{variant}: {told(row)}")
            if not int(row["ops"] or 0):
                must(row["status"] == "invalid", f"{variant}: no op")
                raise TooBusy(f"{variant}: {told(row)}")
            must(was_checked(row), f"{variant}: nothing verified: {told(row)}")
        return rows

    def has_skipped(self, variant):
        return any(row["status"] == "skipped" for row in self.of(variant))

    def skipped(self, variant, word):
        for row in self.of(variant):
            must(row["status"] == "skipped", f"{variant}: {told(row)}")
            must(word in row["reasons"], f"{variant}: {told(row)}")


def is_of_emulation(reasons):
    return all(
        re.match(r"\d+ % of the sampled blocks hold nothing|"
                 r"the generator started |drift of |jump of ", reason)
        for reason in reasons.split(";"))


def was_checked(row):
    """Whether what some op brought was looked at. Of foreign data, a thread's
    first read and one in 256 are kept to be read again."""
    return int(row["verified_ops"] or 0) + int(row["checksummed_ops"] or 0) > 0


def told(row):
    return f"{row['status']} ({row['reasons']}) {row['path']}"


def path(row):
    pairs = (pair.partition("=") for pair in row["path"].split(";"))
    return {key: value for key, _, value in pairs}


class Bench:
    """A guest, and runs in it whose directories are thrown away."""

    def __init__(self, machine, bypass_run, replaced=0):
        """`replaced`: guests that were lost before this one."""
        self.machine = machine
        self.bypass_run = bypass_run
        self.replaced = replaced
        self.cpus = int(machine.ask("nproc"))

    def has(self, card):
        """Whether the guest has that network card."""
        return self.machine.ask(f"ls -d /sys/class/net/{card} 2>/dev/null || true") != ""

    def run(self, *words, endings=ENDINGS):
        lines = []
        code, directory = self.bypass_run(
            self.machine, list(words), RUN_SECONDS, lines.append)
        text = "\n".join(lines)
        must(code in endings, f"bypass run ended with {code}:\n{text}")
        must(directory, f"no run came back:\n{text}")
        rows = Rows(directory)
        # A device that failed once has failed, whatever the run made of it.
        failed = any(int(row["errors"] or 0) for row in rows.all)
        must(code == 4 or not failed, f"ended with {code}:\n{text}")
        for row in rows.all:
            must(path(row).get("machine") == "emulated",
                 f"a row does not say that it was emulated: {told(row)}")
            must(row["status"] != "wrong", told(row))
        return rows


def newest(directory):
    return max(directory.iterdir(), key=lambda place: place.stat().st_mtime)


def instants(count):
    """Seconds after a start, other ones each time; told, to be tried again."""
    chosen = sorted(round(random.uniform(0.1, 10), 2) for _ in range(count))
    print(f"   killed after {chosen} s", flush=True)
    return chosen


def nothing_is_left(bench):
    left = bench.machine.ask(
        "for i in $(seq 60); do ps | grep -q '[b]ypass' || exit 0; sleep 1; "
        "done; ps | grep '[b]ypass' || true")
    must(not left, f"left behind:\n{left}")
