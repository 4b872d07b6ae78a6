//! Command `table`, which prints the results of several runs beside the project's goals.

use std::fs;

use crate::Failure;
use crate::args::TableArgs;
use crate::report::{Report, Scenario};

/// Process groups whose CPU time is part of the cost of a message.
const CARRIERS: [&str; 2] = ["nodes", "redis"];

/// Row of the table. It shows one figure of the runs of a scenario.
struct Figure {
    name: &'static str,
    /// Returns whether a run has this figure.
    of: fn(&Report) -> bool,
    /// Functions that return the values of a run. The values of one run are shown side by side.
    measures: &'static [fn(&Report) -> Option<f64>],
    decimals: usize,
    /// Upper limits of the values in the same order, or none.
    goals: &'static [f64],
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "saturated: CPU per message, nodes + Redis (µs)",
        of: |report| report.scenario == Scenario::Saturated,
        measures: &[|report| report.cpu_us(&CARRIERS)],
        decimals: 1,
        goals: &[50.0],
    },
    Figure {
        name: "saturated: CPU per message, SQL (µs)",
        of: |report| report.scenario == Scenario::Saturated,
        measures: &[|report| report.cpu_us(&["mysql"])],
        decimals: 1,
        goals: &[40.0],
    },
    Figure {
        name: "saturated: messages per second (two deliveries each, on two nodes)",
        of: |report| report.scenario == Scenario::Saturated,
        measures: &[|report| Some(report.per_second)],
        decimals: 0,
        goals: &[],
    },
    Figure {
        name: "idle socket: process memory (KiB)",
        of: |report| report.scenario == Scenario::Idle,
        measures: &[|report| report.memory_kib("nodes")],
        decimals: 2,
        goals: &[8.0],
    },
    Figure {
        name: "join with history (µs CPU of nodes + Redis)",
        of: |report| report.scenario == Scenario::Join,
        measures: &[|report| report.cpu_us(&CARRIERS)],
        decimals: 0,
        goals: &[150.0],
    },
    Figure {
        name: "fan-out 1 → 1,000: CPU per delivery (µs)",
        of: |report| report.scenario == Scenario::Fanout && report.is_set("listeners", 1000.0),
        measures: &[|report| report.cpu_us(&CARRIERS)],
        decimals: 2,
        goals: &[12.0],
    },
    Figure {
        name: "1,000 messages/s: p50 / p99 (ms)",
        of: |report| report.scenario == Scenario::Paced && report.is_set("rate", 1000.0),
        measures: &[
            |report| delivered(report).map(|latency| latency.p50_ms),
            |report| delivered(report).map(|latency| latency.p99_ms),
        ],
        decimals: 2,
        goals: &[0.5, 5.0],
    },
];

fn delivered(report: &Report) -> Option<&crate::latency::Distribution> {
    report.latency.iter().find(|latency| latency.name == "delivered")
}

/// Prints the table. Returns whether no run had errors.
pub(crate) fn run(args: &TableArgs) -> Result<bool, Failure> {
    let mut reports: Vec<Report> = Vec::new();
    for file in &args.files {
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
        let json = fs::read(file).map_err(|error| wrong(&error))?;
        reports.push(serde_json::from_slice(&json).map_err(|error| wrong(&error))?);
    }
    crate::write_line(table(&reports))?;
    Ok(reports.iter().all(Report::is_clean))
}

fn table(reports: &[Report]) -> String {
    let mut rows = vec![["figure", "measured", "goal", ""].map(str::to_owned)];
    for figure in FIGURES {
        let runs = || reports.iter().filter(|report| (figure.of)(report));
        let measured: Vec<_> =
            figure.measures.iter().map(|measure| median(runs().filter_map(measure).collect())).collect();
        let shown = |value: &Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.*}", figure.decimals));
        let goals: Vec<_> = figure.goals.iter().map(f64::to_string).collect();
        let over =
            measured.iter().zip(figure.goals).any(|(measured, goal)| measured.is_some_and(|value| value > *goal));
        rows.push([
            figure.name.to_owned(),
            measured.iter().map(shown).collect::<Vec<_>>().join(" / "),
            if goals.is_empty() { String::new() } else { format!("≤ {}", goals.join(" / ")) },
            if over { "over" } else { "" }.to_owned(),
        ]);
    }
    let faults: u64 = reports
        .iter()
        .map(|Report { verdict, .. }| verdict.lost + verdict.doubled + verdict.reordered + verdict.misrouted)
        .sum();
    let unsequenced: u64 = reports.iter().map(|report| report.verdict.unsequenced).sum();
    let closed: u64 = reports.iter().flat_map(|report| report.closed.values()).sum();
    let others: u64 = reports.iter().map(|report| report.faults.len() as u64).sum();
    for (name, count, always) in [
        ("lost, duplicated, reordered, misrouted", faults, true),
        ("numbers that do not increase", unsequenced, false),
        ("sockets closed by the server", closed, false),
        ("other faults, listed in the reports", others, false),
    ] {
        if always || count > 0 {
            let wrong = if count > 0 { "WRONG" } else { "" };
            rows.push([name.to_owned(), count.to_string(), "0".to_owned(), wrong.to_owned()]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (figure, measured, goal) = (width(0), width(1), width(2));
    let line = |[name, value, limit, remark]: &[String; 4]| {
        format!("{name:<figure$}  {value:>measured$}  {limit:<goal$}  {remark}").trim_end().to_owned() + "\n"
    };
    let mut table: String = rows.iter().map(line).collect();
    for report in reports.iter().filter(|report| !FIGURES.iter().any(|figure| (figure.of)(report))) {
        table += &format!("\nNo figure above includes this run: {}, {}.\n", report.scenario, report.settings_text());
    }
    if let Some((report, doubt)) = reports.iter().find_map(|report| Some((report, report.doubt()?))) {
        table += &format!(
            "\nThe figures are too high, because this is a busy machine: in a run of {}, {doubt}.\n",
            report.scenario
        );
    }
    table
}

/// Returns the median. For an even number of values, this is the lower of the two middle values.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::Verdict;
    use crate::process::Usage;
    use crate::report::{Generator, Process};

    fn saturated(nodes_us: u64, per_second: f64) -> Report {
        let process = |name: &str, user_us| Process {
            name: name.into(),
            user_us,
            system_us: 0,
            before: Usage::default(),
            after: Usage::default(),
        };
        Report {
            scenario: Scenario::Saturated,
            nodes: 2,
            settings: BTreeMap::new(),
            span_s: 1.0,
            messages: 1000,
            deliveries: 2000,
            units: 1000,
            per_second,
            latency: Vec::new(),
            processes: vec![process("nodes", nodes_us), process("redis", 10_000)],
            generator: Generator::default(),
            others_cores: None,
            verdict: Verdict::default(),
            closed: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn median_is_the_middle_value() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![2.0, 1.0]), Some(1.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn table_has_medians_and_marks_figures_above_their_goal() {
        let text = table(&[saturated(20_000, 9_000.0), saturated(90_000, 7_000.0), saturated(50_000, 8_000.0)]);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace();
        assert!(line("saturated: CPU per message, nodes").any(|word| word == "60.0"), "{text}");
        assert_eq!(line("saturated: CPU per message, nodes").last(), Some("over"));
        assert_eq!(line("saturated: messages").last(), Some("8000"));
        assert!(line("saturated: CPU per message, SQL").any(|word| word == "-"), "{text}");
        assert!(line("lost, duplicated").eq(["lost,", "duplicated,", "reordered,", "misrouted", "0", "0"]));
    }

    #[test]
    fn figures_of_a_busy_machine_are_marked() {
        let mut report = saturated(1, 1.0);
        report.others_cores = Some(0.02);
        assert!(!table(&[report.clone()]).contains("busy"));
        report.others_cores = Some(0.8);
        assert!(table(&[saturated(1, 1.0), report]).contains("busy machine"));
    }

    #[test]
    fn figure_includes_runs_with_its_rate_only() {
        let paced = |rate| Report {
            scenario: Scenario::Paced,
            settings: BTreeMap::from([("rate".to_owned(), rate)]),
            ..saturated(1, 1.0)
        };
        let of = |report: &Report| FIGURES.iter().any(|figure| (figure.of)(report));
        assert!(of(&paced(1000.0)) && !of(&paced(50.0)));
        assert!(table(&[paced(50.0)]).contains("this run: chat, open loop, rate 50."));
    }

    #[test]
    fn faults_of_all_runs_are_in_the_table() {
        let mut bad = saturated(1, 1.0);
        bad.verdict.reordered = 3;
        bad.closed.insert(1013, 2);
        bad.faults.push("usage of nodes is unknown".into());
        let text = table(&[saturated(1, 1.0), bad]);
        assert_eq!(text.matches("WRONG").count(), 3, "{text}");
    }
}
