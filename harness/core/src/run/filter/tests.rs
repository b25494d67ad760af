//! What a user's filters and tags select.

use super::*;
use crate::{
    measure::trial::TrialError,
    suite::{Availability, CpuNeed, Forecast, LatencyKind, NoTarget, Params},
};

fn variant(id: &'static str, role: Role) -> Variant {
    Variant {
        id,
        about: "",
        role,
        bound: None,
        spinning: false,
        probe: |_| Availability::Available,
        worker: |_| Err(TrialError::setup("not run in this test")),
    }
}

fn experiment(id: &'static str, depth: u32) -> Experiment {
    Experiment {
        id,
        about: "",
        params: Params::new().with("depth", depth),
        tags: match depth {
            1 => &["core"],
            8 => &["noise:uring"],
            64 => &["sweep"],
            _ => &[],
        },
        cpus: CpuNeed::Exactly(1),
        latency_kind: LatencyKind::Service,
        steps: &[],
        variants: vec![
            variant("pread", Role::Baseline),
            variant("uring", Role::Contender),
            variant("uring-fixed", Role::Contender),
            variant("nop", Role::Bound),
        ],
    }
}

const SUITE: Suite = Suite {
    id: "storage",
    about: "",
    experiments: || {
        vec![
            experiment("storage/randread-4k", 1),
            experiment("storage/randread-4k", 32),
            experiment("storage/seqread-128k", 8),
        ]
    },
    prepare: |_| Ok(Box::new(NoTarget)),
    forecast: |_| Ok(Forecast::default()),
    checks: Vec::new,
    devices: |_| Vec::new(),
};

fn keys(filters: &[&str], tag: Option<&str>) -> Vec<String> {
    let filters: Vec<Filter> =
        filters.iter().map(|f| f.parse().expect("filter")).collect();
    select(&[SUITE], &filters, tag)
        .expect("selection")
        .iter()
        .map(|(_, e)| e.key())
        .collect()
}

#[test]
fn words_globs_and_terms() {
    assert_eq!(keys(&[], None).len(), 3);
    assert_eq!(keys(&["randread"], None).len(), 2);
    assert_eq!(keys(&["storage/*"], None).len(), 3);
    assert_eq!(keys(&["*-128k"], None), ["storage/seqread-128k depth=8"]);
    assert_eq!(
        keys(&["randread", "depth=32"], None),
        ["storage/randread-4k depth=32"]
    );
    assert_eq!(keys(&[], Some("core")), ["storage/randread-4k depth=1"]);
}

#[test]
fn a_variant_keeps_its_baseline_and_bound() {
    let filter = "storage/randread-4k/uring-*".parse().expect("filter");
    let selected = select(&[SUITE], &[filter], None).expect("selection");
    let ids: Vec<_> = selected[0].1.variants.iter().map(|v| v.id).collect();
    assert_eq!(ids, ["pread", "uring-fixed", "nop"]);
    assert_eq!(selected.len(), 2);
    let filter = "storage/randread-4k/pread".parse().expect("filter");
    let selected = select(&[SUITE], &[filter], None).expect("baseline");
    let ids: Vec<_> = selected[0].1.variants.iter().map(|v| v.id).collect();
    assert_eq!(ids, ["pread", "nop"]);
}

#[test]
fn a_group_holds_together_and_stands_beside_others() {
    assert_eq!(
        keys(&["randread depth=32", "seqread"], None),
        ["storage/randread-4k depth=32", "storage/seqread-128k depth=8"]
    );
    let group: Filter = "randread depth=32".parse().expect("group");
    assert_eq!(group.to_string().parse(), Ok(group));
    let filter = "randread depth=8".parse().expect("filter");
    let error = select(&[SUITE], &[filter], None).expect_err("no point");
    let message = error.to_string();
    assert!(message.contains("there is depth=1, 32 in storage/randread-4k"));
    let variants: Vec<Filter> = ["storage/*/uring", "storage/*/nope*"]
        .map(|text| text.parse().expect("filter"))
        .into();
    assert!(select(&[SUITE], &variants, None).is_err());
    let selected = select(&[SUITE], &variants[..1], None).expect("one variant");
    let ids: Vec<_> = selected[0].1.variants.iter().map(|v| v.id).collect();
    assert_eq!(ids, ["pread", "uring", "nop"]);
}

#[test]
fn points_of_a_sweep_run_only_when_asked_for() {
    const SWEPT: Suite = Suite {
        experiments: || {
            vec![
                experiment("storage/randread-4k", 1),
                experiment("storage/randread-4k", 64),
                experiment("storage/sizes", 64),
                Experiment {
                    params: Params::new()
                        .with("depth", 1)
                        .with("pattern", "zipf"),
                    ..experiment("storage/randread-4k", 64)
                },
            ]
        },
        ..SUITE
    };
    let keys = |filters: &[&str], tag| -> Vec<String> {
        let filters: Vec<Filter> =
            filters.iter().map(|f| f.parse().expect("filter")).collect();
        let selected = select(&[SWEPT], &filters, tag).expect("some");
        selected.iter().map(|(_, e)| e.key()).collect()
    };
    let plain = "storage/randread-4k depth=1";
    let point = "storage/randread-4k depth=64";
    let sizes = "storage/sizes depth=64";
    let zipf = "storage/randread-4k depth=1 pattern=zipf";
    assert_eq!(keys(&[], None), [plain]);
    assert_eq!(keys(&["randread"], None), [plain]);
    assert_eq!(keys(&["randread", "depth=64"], None), [point]);
    assert_eq!(keys(&["randread", "depth=1"], None), [plain]);
    assert_eq!(keys(&["randread", "pattern=zipf"], None), [zipf]);
    assert_eq!(keys(&["randread depth=64"], None), [point]);
    assert_eq!(keys(&["sizes"], None), [sizes], "there is nothing else");
    assert_eq!(keys(&["sizes depth=64", "randread"], None), [plain, sizes]);
    assert_eq!(keys(&[], Some("sweep")), [point, sizes, zipf]);
    let all = matching(&[SWEPT], &[], None).expect("all");
    assert_eq!(all.len(), 4);
}

#[test]
fn each_pattern_needs_something_that_the_terms_leave() {
    let all = |texts: &[&str]| {
        let filters: Vec<Filter> =
            texts.iter().map(|f| f.parse().expect("filter")).collect();
        select(&[SUITE], &filters, None)
    };
    let error = all(&["randread", "seqread", "depth=32"]);
    let message = error.expect_err("no such point").to_string();
    assert!(message.contains("`seqread depth=32`"), "{message}");
    assert!(message.contains("depth=8 in storage/seqread-128k"), "{message}");
    let both = all(&["*randread*", "storage", "depth=32"]);
    assert_eq!(both.expect("selection").len(), 1);
}

/// What a person meant stands beside what there is.
#[test]
fn a_value_that_does_not_exist_is_answered_with_those_that_do() {
    let error = |texts: &[&str]| {
        let filters: Vec<Filter> =
            texts.iter().map(|f| f.parse().expect("filter")).collect();
        let selected = select(&[SUITE], &filters, None);
        selected.expect_err("nothing has it").to_string()
    };
    for texts in
        [&["storage/randread-4k", "depth=33"][..], &["randread depth=33"]]
    {
        let message = error(texts);
        let told = "there is depth=1, 32 in storage/randread-4k";
        assert!(message.ends_with(told), "{message}");
    }
}

#[test]
fn a_tag_can_keep_one_contender() {
    let selected = select(&[SUITE], &[], Some("noise")).expect("tag");
    let ids: Vec<_> = selected[0].1.variants.iter().map(|v| v.id).collect();
    assert_eq!(ids, ["pread", "uring"]);
    assert_eq!(selected.len(), 1);
    let error = select(&[SUITE], &[], Some("cor")).expect_err("mistake");
    assert!(error.to_string().contains("`core`"), "{error}");
}

#[test]
fn mistakes_get_a_suggestion() {
    let error = |text: &str| {
        let filter = text.parse().expect("filter");
        select(&[SUITE], &[filter], None).expect_err("mistake").to_string()
    };
    assert!(error("randraed-4k").contains("storage/randread-4k"));
    assert!(error("dpeth=1").contains("`depth`"));
    let values = "no experiment matches `depth=7`; there is depth=1, 8, 32 in \
                  storage/randread-4k, storage/seqread-128k";
    assert_eq!(error("depth=7"), values);
    assert!("=1".parse::<Filter>().is_err());
    assert!("".parse::<Filter>().is_err());
}

#[test]
fn a_pattern_for_the_suite_names_no_experiment() {
    let all = (SUITE.experiments)();
    let names = |pattern: &str| -> Vec<&str> {
        let filter: Filter = pattern.parse().expect("filter");
        let named = all.iter().filter(|e| filter.names(e));
        named.map(Experiment::name).collect()
    };
    for suite in ["storage", "storage/*", "*", "depth=8"] {
        assert_eq!(names(suite), [""; 0], "{suite}");
    }
    for one in ["seqread", "storage/seqread-128k", "storage/seqr*/uring"] {
        assert!(names(one).iter().all(|name| *name == "seqread-128k"), "{one}");
        assert!(!names(one).is_empty(), "{one}");
    }
}
