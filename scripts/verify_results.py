#!/usr/bin/env python3
"""Derive every verdict of a run again and compare it with compare.csv.

usage: verify_results.py DIR

Shares no code with the program: plain Python, from trials.csv and the settings
in run.json alone. Numbers must agree to 1e-9. Exit 0 if all do, 1 if not,
2 if the directory cannot be read.
"""
import csv, json, math, re, sys
from collections import defaultdict
from pathlib import Path
from statistics import median

BETTER = {"ops_per_s": 1, "latency_p50_ns": -1, "latency_p99_ns": -1,
          "cpu_per_op_ns": -1}
NUMBERS = """blocks_used baseline_median variant_median ratio ratio_low
    ratio_high level adjusted_low adjusted_high adjusted_level p_value p_holm
    ratio_without_flagged minimum_detectable_effect share_of_bound""".split()

def read(path):
    """The rows of a table; a last line that was cut off does not count."""
    text = path.read_text(encoding="utf-8")
    lines = text[:text.rfind("\n") + 1].split("\n")[:-1]
    return list(csv.DictReader(lines))

def signed_rank(n):
    """P(W <= s) for s = 0, 1, ...: subsets of the ranks 1..n by their sum."""
    counts = [1]
    for rank in range(1, n + 1):
        shifted = [0] * rank + counts
        counts = [a + b for a, b in zip(counts + [0] * rank, shifted)]
    total, shares = 0, []
    for count in counts:
        total += count
        shares.append(total / 2**n)
    return shares

def walsh(d):
    return sorted((a + b) / 2 for i, a in enumerate(d) for b in d[i:])

def interval(d, confidence):
    """(low, high, exact level) of the centre of d, or None if d is too short."""
    w, p = walsh(d), signed_rank(len(d))
    k = sum(2 * share <= 1 - confidence for share in p[:len(w) // 2 + 1])
    return (w[k - 1], w[len(w) - k], 1 - 2 * p[k - 1]) if k else None

def p_value(d):
    w = walsh(d)
    smaller = min(sum(x <= 0 for x in w), sum(x >= 0 for x in w))
    return min(1.0, 2 * signed_rank(len(d))[smaller])

def holm(p, alpha):
    """Per row the adjusted p-value and the level its interval is drawn at."""
    found, largest, stuck = {}, 0.0, None
    for step, row in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = min(1.0, max(largest, (len(p) - step) * p[row]))
        level = stuck or 1 - alpha / (len(p) - step)
        stuck = stuck or (level if p[row] > 1 - level else None)
        found[row] = (largest, level)
    return [found[row] for row in range(len(p))]

def figure(trial, metric):
    if metric == "ops_per_s" and trial["load_mode"] == "open":
        return None  # it is the rate that was asked for
    value = float(trial[metric] or 0)
    return value if value > 0 else None

def primary(rows):
    """What an experiment is about: the median latency in an open loop."""
    is_open = any(t["load_mode"] == "open" for t in rows)
    return "latency_p50_ns" if is_open else "ops_per_s"

def is_steady(window):
    """SNIA PTS 2.0.2, 2.1.24: range within 20 % of the mean, and the line of
    least squares within 10 % from end to end."""
    mean, middle = sum(window) / len(window), (len(window) - 1) / 2
    slope = (sum((x - middle) * (y - mean) for x, y in enumerate(window))
             / sum((x - middle)**2 for x in range(len(window))))
    return (max(window) - min(window) <= 0.20 * mean
            and abs(slope) * (len(window) - 1) <= 0.10 * mean)

def unsteady(rounds):
    """Why rounds are not steady from first to last; else ''."""
    steady = [is_steady(rounds[i:i + 5]) for i in range(len(rounds) - 4)]
    if steady and all(steady):
        return ""
    if not steady:
        return "fewer than 5 valid blocks"
    if not any(steady):
        return "at no time"
    if steady[-1]:
        return f"only from valid block {len(steady) - steady[::-1].index(False) + 1} on"
    return f"no longer at valid block {len(steady) - steady[::-1].index(True) + 5}"

def not_steady(last, valid, name):
    """What a row says whose blocks are not steady in each session; else ''."""
    sessions = {next(iter(b.values()))["session"]: [] for b in last}
    for b in (b for b in valid if name in b):
        value = figure(b[name], "ops_per_s")
        sessions[b[name]["session"]] += [value] if value else []
    why = [w for w in map(unsteady, sessions.values()) if w]
    if not why:
        return ""
    where = "" if len(sessions) == 1 else f" in {len(why)} of {len(sessions)} sessions"
    return f"not steady{where} ({why[0]})"

def experiments(trials):
    """Each experiment's rows, and the last attempt at each of its blocks."""
    tail = trials[-1] if trials else {"block": ""}
    if tail["block"] and tail["position"] != tail["block_trials"]:
        del trials[-int(tail["position"]):]  # a block that was cut off
    groups = defaultdict(list)
    for t in trials:
        groups[t["suite"], t["experiment"], t["params"]].append(t)
    for key, rows in groups.items():
        tries = defaultdict(lambda: defaultdict(dict))
        for t in (t for t in rows if t["block"]):
            block = tries[int(t["session"]), int(t["block"])]
            block[int(t["attempt"])][t["variant"], t["role"]] = t
        yield key, rows, [tries[block][max(tries[block])] for block in sorted(tries)]

def compare(rows, last, settings):
    """The rows of one experiment, as {(metric, variant, role): row}."""
    usable = ("ok", "nonsteady", "degraded")
    valid = [b for b in last if all(t["status"] in usable or t["role"] == "bound"
                                    for t in b.values())]
    names = {(t["variant"], t["role"]): t["bound"] for t in rows}
    unfit = {t["variant"] for t in rows if t["status"] in ("degraded", "wrong")}
    started = {t["variant"] for t in rows if t["status"] != "skipped"}
    prepared = {(t["variant"], t["role"]) for t in rows
                if any(p.startswith("preconditioned=") for p in t["path"].split(";"))}
    base = next((name for name in names if name[1] == "baseline"), None)
    no_claim = not base or base[0] in unfit or base[0] not in started
    found = {}
    for metric in BETTER:
        # By name, for Holm tests rows with equal p-values in this order.
        for name in sorted(n for n in names if n[1] in ("contender", "aa_twin")):
            own = [figure(b[name], metric) for b in valid if name in b]
            own = [x for x in own if x]
            if not own and metric != primary(rows):
                continue
            pairs = [(b[base], b[name]) for b in valid if base in b and name in b
                     and figure(b[base], metric) and figure(b[name], metric)]
            d = [math.log(figure(v, metric) / figure(b, metric)) for b, v in pairs]
            steady = [x for x, pair in zip(d, pairs)
                      if all(t["status"] != "nonsteady" for t in pair)]
            row = {"d": d, "blocks_used": len(d), "not_steady": ""}
            if metric == "ops_per_s" and name in prepared:
                row["not_steady"] = not_steady(last, valid, name)
            if d:
                own = [figure(v, metric) for _, v in pairs]
                row["baseline_median"] = median(figure(b, metric) for b, _ in pairs)
                row["ratio"] = math.exp(median(walsh(d)))
                row["p_value"] = p_value(d)
            if own:
                row["variant_median"] = median(own)
            if d and (ends := interval(d, settings["confidence"])):
                row["ratio_low"], row["ratio_high"] = map(math.exp, ends[:2])
                row["level"] = ends[2]
                row["minimum_detectable_effect"] = math.expm1(
                    1.43 * (ends[1] - ends[0]) / 2)
            if steady and len(steady) < len(d):
                row["ratio_without_flagged"] = math.exp(median(walsh(steady)))
            bound = [figure(t, metric) for b in last for t in b.values()
                     if (t["variant"], t["role"]) == (names[name], "bound")
                     and t["status"] in usable]
            bound = [x for x in bound if x]
            if bound and own and metric != "cpu_per_op_ns":
                share = median(own) / median(bound)
                row["share_of_bound"] = share if BETTER[metric] > 0 else 1 / share
            row["claims"] = (name[1] == "contender" and name[0] not in unfit
                             and name[0] in started and not no_claim)
            row["verdict"] = "undecided" if row["claims"] else ""
            found[metric, *name] = row
    return found

def decide(rows, settings):
    """Holm over one family, and the verdicts of those rows that claim."""
    rows = [row for row in rows if row["d"]]
    ranked = holm([r["p_value"] for r in rows], 1 - settings["confidence"])
    margin = math.log1p(settings["practical_ratio"])
    for row, (p_holm, level) in zip(rows, ranked):
        row["p_holm"] = p_holm
        if claim := interval(row["d"], level):
            row["adjusted_low"], row["adjusted_high"] = map(math.exp, claim[:2])
            row["adjusted_level"] = claim[2]
        if not row["claims"] or "level" not in row:
            continue
        same = interval(row["d"], 0.90)
        center = row["sign"] * median(walsh(row["d"]))
        sure = claim and (claim[0] > 0 or claim[1] < 0)
        if sure and abs(center) >= margin:
            row["verdict"] = "faster" if center > 0 else "slower"
        elif same and -margin < same[0] and same[1] < margin:
            row["verdict"] = "same"

def main(directory):
    settings = json.loads((directory / "run.json").read_text())["settings"]
    derived, twins = {}, []
    for key, rows, last in experiments(read(directory / "trials.csv")):
        found = compare(rows, last, settings)
        for metric, sign in BETTER.items():
            family = {k: r for k, r in found.items() if k[0] == metric}
            for row in family.values():
                row["sign"] = sign
            decide([r for r in family.values() if r["claims"]], settings)
        twins += [r for k, r in found.items() if k[::2] == (primary(rows), "aa_twin")]
        derived.update({(*key, *k): row for k, row in found.items()})
    decide(twins, settings)
    problems = 0
    stored = read(directory / "compare.csv")
    columns = "suite experiment params metric variant role".split()
    for row in stored:
        name = tuple(row[column] for column in columns)
        expected = derived.pop(name, {"verdict": "no such row"})
        pairs = [(c, row[c], expected.get(c)) for c in NUMBERS]
        wrong = [f"{c} {a or 'nothing'} instead of {b}" for c, a, b in pairs
                 if bool(a) != (b is not None) or a
                 and not math.isclose(float(a), b, rel_tol=1e-9, abs_tol=1e-15)]
        if row["verdict"] != expected["verdict"]:
            wrong.append(f"verdict {row['verdict']!r}, not {expected['verdict']!r}")
        claimed = "; ".join(re.findall(r"not steady(?: in \d+ of \d+ sessions)? \([^)]*\)", row["reasons"]))
        if claimed != expected.get("not_steady", ""):
            wrong.append(f"{claimed or 'steady'!r} instead of "
                         f"{expected.get('not_steady') or 'steady'!r}")
        for what in wrong:
            print(" ".join(name) + ": " + what)
        problems += len(wrong)
    for name in derived:
        print(" ".join(name) + ": missing in compare.csv")
    problems += len(derived)
    print(f"{len(stored)} rows derived again: "
          + (f"{problems} disagree" if problems else "all agree"))
    return 1 if problems else 0

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(Path(sys.argv[1])))
    except (OSError, ValueError) as error:
        print(f"error: {error}; give the directory of a finished run",
              file=sys.stderr)
        sys.exit(2)
