//! Command `table`, which prints the results of PinTalk and of the reference relay beside the project's goals, as Markdown.

use std::fs;

use crate::Failure;
use crate::args::TableArgs;
use crate::report::Report;

mod figures;

use figures::{COST, Figure, SCALING, Value};

const HEADER: [&str; 6] = ["figure", "PinTalk", "nodes + Redis + SQL", "relay", "ratio", "goal"];
/// Cell of a figure that was not measured.
const NOTHING: &str = "–";

/// Prints the tables. Returns whether no run had errors.
pub(crate) fn run(args: &TableArgs) -> Result<bool, Failure> {
    let mut reports: Vec<Report> = Vec::new();
    for file in &args.files {
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
        let json = fs::read(file).map_err(|error| wrong(&error))?;
        reports.push(serde_json::from_slice(&json).map_err(|error| wrong(&error))?);
    }
    crate::write_line(tables(&reports))?;
    Ok(reports.iter().all(Report::is_clean))
}

/// Formats the table of costs, the table of scaling if it was measured, and notes.
fn tables(reports: &[Report]) -> String {
    let mut cost = vec![HEADER.map(str::to_owned)];
    cost.extend(COST.iter().map(|figure| row(figure, reports)));
    cost.extend(faults(reports));
    let mut text = aligned(&cost);
    if reports.iter().any(|report| SCALING.iter().any(|figure| figure.includes(report))) {
        let mut scaling = vec![HEADER.map(str::to_owned)];
        scaling.extend(SCALING.iter().map(|figure| row(figure, reports)));
        text += "\n";
        text += &aligned(&scaling);
    }
    text + &notes(reports)
}

fn row(figure: &Figure, reports: &[Report]) -> [String; 6] {
    let ours = values(figure, reports, false);
    let theirs = values(figure, reports, true);
    let ratio = |(ours, theirs): (&Option<f64>, &Option<f64>)| Some((*ours)? / theirs.filter(|theirs| *theirs > 0.0)?);
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(ratio).collect();
    [
        figure.name.to_owned(),
        shown(&ours, figure.decimals),
        split(figure, reports).unwrap_or_default(),
        shown(&theirs, figure.decimals),
        shown(&ratios, 2),
        figure.goal.to_owned(),
    ]
}

/// Returns each value of the figure for each of its shapes.
fn values(figure: &Figure, reports: &[Report], relay: bool) -> Vec<Option<f64>> {
    // The value is a sum of medians, so that it equals the sum of the parts that are shown beside it.
    let sum = |shape, value| medians(shape, value, reports, relay).into_iter().reduce(|sum, part| sum + part);
    figure.shapes.iter().flat_map(|shape| figure.values.iter().map(move |value| sum(shape, value))).collect()
}

/// Formats the parts of PinTalk's value. Returns `None` if the value is not a sum of several parts.
fn split(figure: &Figure, reports: &[Report]) -> Option<String> {
    let ([shape], [value]) = (figure.shapes, figure.values) else { return None };
    let parts = medians(shape, value, reports, false);
    let shown: Vec<_> = parts.iter().map(|part| format!("{part:.*}", figure.decimals)).collect();
    (shown.len() > 1).then(|| shown.join(" + "))
}

/// Returns, for each measured part of a value, the median over the runs of a shape.
fn medians(shape: &str, value: &Value, reports: &[Report], relay: bool) -> Vec<f64> {
    let runs: Vec<_> = reports.iter().filter(|report| report.shape == shape && report.relay == relay).collect();
    value.parts.iter().filter_map(|part| median(runs.iter().filter_map(|run| part(run)).collect())).collect()
}

fn shown(values: &[Option<f64>], decimals: usize) -> String {
    if values.iter().all(Option::is_none) {
        return NOTHING.to_owned();
    }
    let each = values.iter().map(|value| value.map_or(NOTHING.to_owned(), |value| format!("{value:.decimals$}")));
    each.collect::<Vec<_>>().join(" / ")
}

/// Number of errors of one run.
type Count = fn(&Report) -> u64;

/// Returns the rows of errors. The first row is always present, and each other row is present if there were such
/// errors.
fn faults(reports: &[Report]) -> Vec<[String; 6]> {
    let count = |of: Count, relay| reports.iter().filter(|run| run.relay == relay).map(of).sum::<u64>();
    let all: [(_, Count, _); 4] = [
        ("lost, duplicated, reordered, misrouted", Report::misdelivered, true),
        ("numbers that do not increase", |report| report.verdict.unsequenced, false),
        ("sockets closed by the server", |report| report.closed.values().sum(), false),
        ("other faults, listed in the reports", |report| report.measured.faults.len() as u64, false),
    ];
    let rows = all.into_iter().filter_map(|(name, of, always)| {
        let (ours, theirs) = (count(of, false), count(of, true));
        let theirs_shown = if reports.iter().any(|run| run.relay) { theirs.to_string() } else { NOTHING.to_owned() };
        let cells = [name, &ours.to_string(), "", &theirs_shown, NOTHING, "0"].map(str::to_owned);
        (always || ours + theirs > 0).then_some(cells)
    });
    rows.collect()
}

/// Formats rows as Markdown with aligned columns.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: &[String; 6]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} "));
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1, format!("|{}|\n", rule.join("|")));
    lines.concat()
}

/// Returns the notes below the tables, which state the limits of the figures.
fn notes(reports: &[Report]) -> String {
    let mut notes = String::new();
    let includes = |report: &Report| COST.iter().chain(SCALING).any(|figure| figure.includes(report));
    for report in reports.iter().filter(|report| !includes(report)) {
        notes += &format!("\nNo figure above includes this run: {}, {}.\n", report.shape, report.settings_text());
    }
    if !reports.iter().any(|report| report.relay) {
        notes += "\nThe reference relay was not measured: it needs `node` and `npm`.\n";
    }
    if let Some((report, doubt)) = reports.iter().find_map(|report| Some((report, report.doubt()?))) {
        notes += &format!(
            "\nThe figures are too high, because this is a busy machine: in a run of {}, {doubt}.\n",
            report.shape
        );
    }
    notes
}

/// Returns the median, or `None` if there are no values. For an even number of values, the median is the lower of the
/// two middle values.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests;
