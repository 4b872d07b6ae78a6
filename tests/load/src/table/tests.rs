use super::*;
use crate::process::Usage;
use crate::report::{Measured, Process, Scenario};

/// Returns the report of a run of 1,000 messages in which the nodes used `nodes_us` µs of CPU per message.
fn saturated(nodes_us: u64, relay: bool) -> Report {
    let process = |name: &str, user_us| Process {
        name: name.into(),
        user_us,
        system_us: 0,
        before: Usage::default(),
        after: Usage::default(),
    };
    let mut processes = vec![process("nodes", nodes_us * 1000), process("redis", 10_000)];
    processes.extend((!relay).then(|| process("mysql", 5_000)));
    let measured = Measured { processes, ..Measured::default() };
    let mut report = Report::new(Scenario::Saturated, 2, measured);
    report.shape = "saturated".into();
    report.relay = relay;
    report.units = 1000;
    report
}

/// Returns the cells of the row whose figure starts with `name`.
fn cells(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.trim_start_matches("| ").starts_with(name)).unwrap();
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn median_is_the_middle_value() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![2.0, 1.0]), Some(1.0));
    assert_eq!(median(vec![]), None);
}

#[test]
fn row_has_medians_their_parts_and_the_ratio_to_the_relay() {
    let runs =
        [20, 90, 50].map(|us| saturated(us, false)).into_iter().chain([30, 40, 40].map(|us| saturated(us, true)));
    let text = tables(&runs.collect::<Vec<_>>());
    assert_eq!(cells(&text, "saturated, 100 rooms")[1..], ["65.0", "50.0 + 10.0 + 5.0", "50.0", "1.30", "≤ 32"]);
    assert_eq!(cells(&text, "1,000 messages/s in")[1..], ["–", "", "–", "–", "≤ 300"]);
    assert_eq!(cells(&text, "lost, duplicated")[1..], ["0", "", "0", "–", "0"]);
    assert!(!text.contains("was not measured"), "{text}");
}

#[test]
fn values_of_several_shapes_are_side_by_side_in_the_second_table() {
    let run = |shape: &str, nodes_us| Report { shape: shape.into(), ..saturated(nodes_us, false) };
    let text = tables(&[saturated(20, false), run("rooms-100", 20), run("rooms-10000", 25)]);
    assert_eq!(cells(&text, "100 / 1,000 / 10,000 rooms")[1..3], ["35.0 / – / 40.0", ""]);
    assert!(!tables(&[saturated(20, false)]).contains("10,000 rooms"));
}

#[test]
fn missing_relay_is_noted() {
    let text = tables(&[saturated(20, false)]);
    assert_eq!(cells(&text, "saturated, 100 rooms")[3..5], ["–", "–"]);
    assert!(text.contains("The reference relay was not measured"), "{text}");
}

#[test]
fn figures_of_a_busy_machine_are_noted() {
    let mut report = saturated(1, false);
    report.measured.others_cores = Some(0.02);
    assert!(!tables(&[report.clone()]).contains("busy"));
    report.measured.others_cores = Some(0.8);
    assert!(tables(&[saturated(1, false), report]).contains("busy machine"));
}

#[test]
fn run_without_a_row_is_noted() {
    let mut report = saturated(1, false);
    report.shape = "chat, closed loop".into();
    assert!(tables(&[report]).contains("includes this run: chat, closed loop"));
}

#[test]
fn faults_of_all_runs_are_in_the_table() {
    let mut bad = saturated(1, false);
    bad.verdict.reordered = 3;
    bad.closed.insert(1013, 2);
    bad.measured.faults.push("usage of nodes is unknown".into());
    let text = tables(&[saturated(1, false), bad]);
    assert_eq!(cells(&text, "lost, duplicated")[1], "3");
    assert_eq!(cells(&text, "sockets closed")[1], "2");
    assert_eq!(cells(&text, "other faults")[1], "1");
}
