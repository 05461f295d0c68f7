//! The alert rules of packaging/: Prometheus would take them, and every metric in them is one that the programs have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde::Deserialize;
use stkr_protocol::evidence::Fault;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    pending: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string(root().join("packaging/alerts/stkr.yml")).unwrap();
    let rules: Rules = serde_yaml_ng::from_str(&text).unwrap();
    let names: BTreeSet<&str> = rules.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names.len(), rules.groups.len(), "Prometheus refuses two groups of one name");
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// Names in the tables of metrics in docs/, which the programs' own tests compare with what they serve.
fn documented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for page in ["operators", "relayer", "gateway"] {
        let text = std::fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `stkr_")?.split_once('`'));
        names.extend(rows.map(|(name, _)| format!("stkr_{name}")));
    }
    assert!(names.len() > 30, "{names:?}");
    names
}

/// Metrics of an expression, and whether each is read as a counter.
fn metrics(expression: &Expr, counted: bool, found: &mut Vec<(String, bool)>) {
    match expression {
        Expr::VectorSelector(it) => found.push((it.name.clone().unwrap(), counted)),
        Expr::MatrixSelector(it) => found.push((it.vs.name.clone().unwrap(), counted)),
        Expr::Call(it) => {
            let counted = matches!(it.func.name, "increase" | "rate");
            it.args.args.iter().for_each(|argument| metrics(argument, counted, found));
        }
        Expr::Aggregate(it) => metrics(&it.expr, counted, found),
        Expr::Binary(it) => {
            metrics(&it.lhs, counted, found);
            metrics(&it.rhs, counted, found);
        }
        Expr::Paren(it) => metrics(&it.expr, counted, found),
        Expr::Unary(it) => metrics(&it.expr, counted, found),
        Expr::NumberLiteral(_) => {}
        other => panic!("{other:?} in a rule: teach this test to read it"),
    }
}

#[test]
fn every_alert_parses_and_reads_metrics_that_the_programs_have() {
    let (rules, documented) = (rules(), documented());
    let mut alerts = BTreeSet::new();
    for rule in &rules {
        let name = &rule.alert;
        assert!(alerts.insert(name.clone()), "{name} is there twice");
        let expression = parser::parse(&rule.expr).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found = Vec::new();
        metrics(&expression, false, &mut found);
        assert!(!found.is_empty(), "{name} looks at nothing");
        for (metric, counted) in found {
            // OpenMetrics writes a counter with _total, and only a counter is read as one.
            assert_eq!(metric.ends_with("_total"), counted, "{name}: {metric}");
            let base = metric.trim_end_matches("_total");
            assert!(documented.contains(base), "{name}: no program has {base}");
        }
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("page" | "ticket")) && rule.labels.len() == 1, "{name}: {:?}", rule.labels);
        let said: Vec<&str> = rule.annotations.keys().map(String::as_str).collect();
        assert_eq!(said, ["summary", "what_to_do"], "{name}");
        let whole_minutes = |text: &String| text.strip_suffix('m').is_some_and(|number| number.parse::<u32>().is_ok());
        assert!(rule.pending.as_ref().is_none_or(whole_minutes), "{name}: {:?}", rule.pending);
    }
    // What has to wake somebody.
    for needed in [
        "StkrServerChallenged",
        "StkrServerLockedOut",
        "StkrKeyWithoutSpareShare",
        "StkrGasLow",
        "StkrSlashingProtectionRefused",
    ] {
        assert!(alerts.contains(needed), "{needed} is gone");
    }
}

/// Whether the matchers of a selector take this value of the label `fault`.
fn takes(selector: &VectorSelector, fault: &str) -> bool {
    let mut of_fault = selector.matchers.matchers.iter().filter(|matcher| matcher.name == "fault");
    of_fault.all(|matcher| matcher.is_match(fault))
}

/// Selectors of an expression that read `metric`.
fn reading<'a>(expression: &'a Expr, metric: &str) -> Vec<&'a VectorSelector> {
    match expression {
        Expr::VectorSelector(it) if it.name.as_deref() == Some(metric) => vec![it],
        Expr::MatrixSelector(it) if it.vs.name.as_deref() == Some(metric) => vec![&it.vs],
        Expr::Call(it) => it.args.args.iter().flat_map(|argument| reading(argument, metric)).collect(),
        Expr::Aggregate(it) => reading(&it.expr, metric),
        Expr::Binary(it) => reading(&it.lhs, metric).into_iter().chain(reading(&it.rhs, metric)).collect(),
        Expr::Paren(it) => reading(&it.expr, metric),
        _ => Vec::new(),
    }
}

/// A relayer never throws it away, and the Court has no word for it: without a rule nobody would hear of it.
#[test]
fn new_evidence_of_a_fault_in_a_reshare_has_one_alert() {
    let metric = "stkr_relayer_reshare_evidence";
    let rules = rules();
    let reads_it = |rule: &&Rule| !reading(&parser::parse(&rule.expr).unwrap(), metric).is_empty();
    let found: Vec<&Rule> = rules.iter().filter(reads_it).collect();
    let [rule] = found.as_slice() else { panic!("{} rules read {metric}", found.len()) };
    assert_eq!((rule.alert.as_str(), rule.pending.as_ref()), ("StkrReshareFault", None));
    assert!(rule.expr.contains(&format!("delta({metric}[")), "it would go on for ever: {}", rule.expr);
}

/// What somebody has to do depends on the fault, and two rules for one would wake two people.
#[test]
fn each_fault_that_the_court_charges_has_one_alert_and_one_if_it_is_not_reported() {
    let rules = rules();
    let parsed = |rule: &Rule| parser::parse(&rule.expr).unwrap();
    let for_fault = |metric: &str, fault: &str| -> Vec<&str> {
        let takes_it = |rule: &&Rule| reading(&parsed(rule), metric).into_iter().any(|it| takes(it, fault));
        rules.iter().filter(takes_it).map(|rule| rule.alert.as_str()).collect()
    };
    for fault in Fault::ALL.map(Fault::name) {
        assert_eq!(for_fault("stkr_relayer_charged_faults", fault).len(), 1, "{fault}");
        let kept = for_fault("stkr_relayer_evidence", fault);
        assert_eq!(kept, ["StkrEvidenceNotReported", "StkrEvidenceTooLate"], "{fault}");
    }
    // A rule that does not keep the label tells of one fault at a time, whichever has most.
    for rule in rules.iter().filter(|rule| rule.expr.contains("fault")) {
        let Expr::Binary(it) = parsed(rule) else { panic!("{}", rule.alert) };
        let Expr::Aggregate(it) = *it.lhs else { panic!("{}", rule.alert) };
        let Some(LabelModifier::Include(labels)) = it.modifier else { panic!("{}", rule.alert) };
        assert!(labels.labels.iter().any(|label| label == "fault"), "{}", rule.alert);
    }
}
