//! The order of the trials in a block.
//!
//! A variant that always ran second would always meet the caches, temperature
//! and device state that the first one left. Random order makes such an effect
//! average out; a Williams design makes it cancel sooner.
//!
//! Williams, *Experimental designs balanced for the estimation of residual
//! effects of treatments*, Australian Journal of Scientific Research A 2
//! (1949): over a whole square each variant stands in each place equally
//! often, and each variant directly follows each other variant equally often.
//!
//! Orders depend on the arguments only. A stored seed gives the same blocks
//! again, which is how an interrupted run goes on.

use crate::random::SplitMix64;

/// The numbers `0..n` in an order drawn from `seed`, each order equally
/// likely.
pub fn permutation(n: usize, seed: u64) -> Vec<usize> {
    shuffled(n, &mut SplitMix64::new(seed))
}

/// The Williams design for `n` variants: n rows for an even n, 2n for an odd
/// one (where no n rows can be balanced), each a block's order.
pub fn williams(n: usize) -> Vec<Vec<usize>> {
    // The first row, 0, 1, n-1, 2, n-2, ..., has steps of 1, -2, 3, -4, ...:
    // modulo an even n all different, so that adding 1 to n-1 to it meets each
    // ordered pair once. Modulo an odd n each step comes up twice in one
    // direction, and the mirror image supplies the other.
    let first: Vec<usize> = (0..n)
        .map(|place| match (place % 2, place.div_ceil(2)) {
            (1, step) => step,
            (_, step) => (n - step) % n,
        })
        .collect();
    let mut rows: Vec<Vec<usize>> = (0..n)
        .map(|shift| first.iter().map(|v| (v + shift) % n).collect())
        .collect();
    if n % 2 == 1 {
        let mirrored: Vec<Vec<usize>> = rows
            .iter()
            .map(|row| row.iter().rev().copied().collect())
            .collect();
        rows.extend(mirrored);
    }
    rows
}

/// An order of `0..n_variants` for each of `blocks` blocks.
///
/// Whole Williams squares, each with its variants relabelled and its rows
/// shuffled; the remaining blocks come from one more such square. The two
/// halves of an odd square are shuffled one after the other: each is balanced
/// for place on its own, so a square cut after its first half still is.
pub fn block_orders(
    n_variants: usize,
    blocks: usize,
    seed: u64,
) -> Vec<Vec<usize>> {
    if n_variants == 0 {
        return vec![Vec::new(); blocks];
    }
    let mut random = SplitMix64::new(seed);
    let square = williams(n_variants);
    let mut orders = Vec::with_capacity(blocks + square.len());
    while orders.len() < blocks {
        let labels = shuffled(n_variants, &mut random);
        let mut halves: Vec<&[Vec<usize>]> =
            square.chunks(n_variants).collect();
        random.shuffle(&mut halves);
        for half in halves {
            for row in shuffled(half.len(), &mut random) {
                orders.push(half[row].iter().map(|&v| labels[v]).collect());
            }
        }
    }
    orders.truncate(blocks);
    orders
}

fn shuffled(n: usize, random: &mut SplitMix64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    random.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each variant stands in each place, and how often each (row)
    /// is directly followed by each (column).
    fn balance(rows: &[Vec<usize>], n: usize) -> [Vec<Vec<usize>>; 2] {
        let mut places = vec![vec![0; n]; n];
        let mut followers = vec![vec![0; n]; n];
        for row in rows {
            for (place, &variant) in row.iter().enumerate() {
                places[variant][place] += 1;
            }
            for pair in row.windows(2) {
                followers[pair[0]][pair[1]] += 1;
            }
        }
        [places, followers]
    }

    fn assert_balanced(rows: &[Vec<usize>], n: usize, times: usize) {
        let [places, followers] = balance(rows, n);
        assert_eq!(places, vec![vec![times; n]; n], "n = {n}");
        for (variant, mut after) in followers.into_iter().enumerate() {
            // No variant follows itself.
            assert_eq!(after.remove(variant), 0, "n = {n}");
            assert_eq!(after, vec![times; n - 1], "n = {n}");
        }
    }

    fn is_permutation(row: &[usize], n: usize) -> bool {
        let mut sorted = row.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..n)
    }

    #[test]
    fn whole_squares_are_balanced_for_place_and_for_carry_over() {
        assert!(williams(0).is_empty());
        for n in 1..=9 {
            let rows = williams(n);
            let times = 1 + n % 2;
            assert_eq!(rows.len(), n * times);
            assert_balanced(&rows, n, times);
        }
        assert_eq!(williams(4)[0], [0, 1, 3, 2]);
    }

    #[test]
    fn blocks_stay_balanced_over_whole_squares() {
        for (n, blocks, times) in [(2, 12, 6), (3, 12, 4), (4, 12, 3)] {
            for seed in 0..20 {
                assert_balanced(&block_orders(n, blocks, seed), n, times);
            }
        }
    }

    #[test]
    fn half_an_odd_square_is_balanced_for_place() {
        for seed in 0..20 {
            let [places, _] = balance(&block_orders(7, 7, seed), 7);
            assert_eq!(places, vec![vec![1; 7]; 7]);
        }
    }

    #[test]
    fn left_over_blocks_are_whole_orders_too() {
        for n in 1..=6 {
            for blocks in 0..=13 {
                let orders = block_orders(n, blocks, 99);
                assert_eq!(orders.len(), blocks);
                assert!(orders.iter().all(|row| is_permutation(row, n)));
            }
        }
        assert_eq!(block_orders(0, 2, 1), vec![vec![]; 2]);
    }

    #[test]
    fn a_shorter_run_is_the_beginning_of_a_longer_one() {
        assert_eq!(block_orders(5, 12, 3), block_orders(5, 30, 3)[..12]);
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(block_orders(4, 12, 1), block_orders(4, 12, 1));
        assert_ne!(block_orders(4, 12, 1), block_orders(4, 12, 2));
        assert_eq!(permutation(9, 1), permutation(9, 1));
        assert_ne!(permutation(9, 1), permutation(9, 2));
    }

    #[test]
    fn stored_seeds_keep_their_order() {
        // A changed value here means that an interrupted run of an older
        // version would go on in another order.
        assert_eq!(permutation(6, 42), [2, 5, 3, 1, 0, 4]);
        assert_eq!(
            block_orders(3, 4, 42),
            [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]]
        );
    }

    #[test]
    fn each_permutation_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..12_000 {
            *counts.entry(permutation(3, seed)).or_insert(0_u32) += 1;
        }
        // 2,000 each, give or take four standard deviations of 41.
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|count| count.abs_diff(2_000) < 164),
            "{counts:?}"
        );
    }

    #[test]
    fn each_variant_is_equally_likely_to_come_first() {
        let mut counts = [0_u32; 5];
        for seed in 0..10_000 {
            counts[block_orders(5, 1, seed)[0][0]] += 1;
        }
        assert!(
            counts.iter().all(|count| count.abs_diff(2_000) < 160),
            "{counts:?}"
        );
    }
}
