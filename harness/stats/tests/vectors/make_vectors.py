#!/usr/bin/env python3
"""Write vectors.csv: what NumPy, SciPy and statsmodels make of fixed samples.

    python3 -m venv /tmp/vectors
    /tmp/vectors/bin/pip install numpy==2.4.6 scipy==1.17.1 \\
        statsmodels==0.15.0
    /tmp/vectors/bin/python make_vectors.py

The seed is fixed and results are printed to 15 digits, so the same versions
write the same bytes. `make_vectors.py --check` compares instead of writing.

Columns: method, first and second sample (numbers apart by spaces), parameter,
expected numbers (empty where there is no result).
"""

import pathlib
import sys
from functools import cache

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

OUTPUT = pathlib.Path(__file__).with_name("vectors.csv")
rng = np.random.default_rng(20_240_607)
rows = []


def numbers(values):
    return " ".join(format(float(value), ".15g") for value in values)


def row(method, first, second=(), parameter=(), expected=()):
    cells = [numbers(cell) for cell in (first, second, parameter, expected)]
    rows.append(",".join([method, *cells]))


def sample(n, center=0.0, spread=1.0):
    """Rounded, so that the file holds the very numbers that were used."""
    return np.round(rng.normal(center, spread, n), 6)


# Signed rank. The null distribution comes out of scipy.stats.wilcoxon itself:
# differences +-1, +-2, ..., +-n whose positive ranks add up to w have the
# one-sided p-value P(W <= w).
@cache
def null_cdf(n, w):
    signs, rest = -np.ones(n), w
    for rank in range(n, 0, -1):
        if rank <= rest:
            signs[rank - 1], rest = 1.0, rest - rank
    assert rest == 0
    ranks = np.arange(1, n + 1)
    return stats.wilcoxon(signs * ranks, method="exact",
                          alternative="less").pvalue


def walsh(differences):
    n = len(differences)
    return np.sort([(differences[i] + differences[j]) / 2
                    for i in range(n) for j in range(i, n)])


def signed_rank_interval(differences, alpha):
    averages, n = walsh(differences), len(differences)
    m, k = len(averages), 0
    while 2 * k < m and 2 * null_cdf(n, k) <= alpha:
        k += 1
    if k == 0:
        return []
    return [np.median(averages), averages[k - 1], averages[m - k],
            1 - 2 * null_cdf(n, k - 1)]


def p_by_inversion(differences):
    """The smallest alpha whose interval excludes 0: the widest come first."""
    averages, n = walsh(differences), len(differences)
    m = len(averages)
    for k in range(1, (m + 1) // 2 + 1):
        if averages[k - 1] > 0 or averages[m - k] < 0:
            return min(1, 2 * null_cdf(n, k - 1))
    return 1


for n in (1, 2, 3, 5, 6, 8, 10, 12, 16, 20, 30, 50):
    for center in (0.0, 0.3, -0.8):
        d = sample(n, center)
        assert len(set(abs(d))) == n and 0 not in d
        p = stats.wilcoxon(d, method="exact").pvalue
        row("signed_rank_p", d, expected=[p])

for n in (4, 5, 6, 8, 9, 10, 12, 16, 20, 30):
    for tied in (False, True):
        d = sample(n, 0.4)
        if tied:
            d = np.round(d * 2) / 2  # many ties, and zeros
            row("signed_rank_p", d, expected=[p_by_inversion(d)])
        for alpha in (0.10, 0.05, 0.01, 0.002):
            row("signed_rank_interval", d, parameter=[alpha],
                expected=signed_rank_interval(d, alpha))

# Holm, with ties and with more than alpha can bear.
for m in (1, 2, 3, 5, 9, 25):
    for power in (1, 3, 6):
        p = np.round(rng.random(m) ** power, 6)
        p[: m // 3] = p[0]
        adjusted = multipletests(p, method="holm")[1]
        rejected = multipletests(p, alpha=0.05, method="holm")[0]
        row("holm_adjust", p, expected=adjusted)
        row("holm_rejected", p, parameter=[0.05], expected=rejected)

# Welch.
for n_a, n_b, spread in ((2, 2, 1), (4, 4, 3), (4, 9, 0.1), (12, 5, 7),
                         (30, 40, 1)):
    a, b = sample(n_a), sample(n_b, 0.7, spread)
    for confidence in (0.90, 0.95, 0.998):
        test = stats.ttest_ind(b, a, equal_var=False)
        limits = test.confidence_interval(confidence)
        row("welch", a, b, [confidence],
            [b.mean() - a.mean(), limits.low, limits.high, test.df,
             test.pvalue])

# Student t: lower tails, where relative accuracy can be lost, and quantiles.
for df in (0.5, 1, 2, 2.5, 3, 7.25, 10, 30, 59.9, 60.1, 100, 1e3, 1e6):
    for t in (0.0, -1e-6, -0.1, -1.0, -1.732, -2.5, -6.0, -40.0, 0.7, 3.0):
        row("t_cdf", [t, df], expected=[stats.t.cdf(t, df)])
    for p in (1e-9, 1e-4, 0.001, 0.025, 0.05, 0.3, 0.499, 0.75, 0.975, 0.999):
        row("t_quantile", [p, df], expected=[stats.t.ppf(p, df)])

# Theil-Sen, with ties in x.
for n in (2, 3, 5, 10, 20, 50):
    x, y = np.arange(n, dtype=float), sample(n, 100, 5)
    row("slope", x, y, expected=[stats.theilslopes(y, x)[0]])
    if n > 3:
        x = np.floor(x / 2)
        row("slope", x, y, expected=[stats.theilslopes(y, x)[0]])

# Summaries.
for n in (2, 3, 4, 7, 12, 50):
    x = sample(n, 10, 3)
    row("median", x, expected=[np.median(x)])
    row("mad", x, expected=[stats.median_abs_deviation(x)])
    row("mean", x, expected=[x.mean()])
    row("sd", x, expected=[x.std(ddof=1)])
    row("jain", abs(x),
        expected=[abs(x).sum() ** 2 / (n * (abs(x) ** 2).sum())])
    for q in (0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0):
        row("quantile", x, parameter=[q], expected=[np.quantile(x, q)])

text = "\n".join(["method,first,second,parameter,expected", *rows]) + "\n"
if sys.argv[1:] == ["--check"]:
    sys.exit(0 if OUTPUT.read_text() == text else "vectors.csv differs")
OUTPUT.write_text(text)
