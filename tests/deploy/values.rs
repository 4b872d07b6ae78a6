//! Generates `helm/pintalk/VALUES.md` from the comments of `values.yaml`, and tests that it is current and complete.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::chart::sets;
use crate::tools::{path, text, yaml};

const DOCUMENT: &str = "helm/pintalk/VALUES.md";

/// Environment variable that makes the test write the document instead of comparing it.
const UPDATE: &str = "PINTALK_UPDATE_VALUES";

/// Maximum length of a default in the table, in bytes.
const MAX_DEFAULT: usize = 90;

/// Heading with the paragraph and the values below it.
#[derive(Default)]
struct Section {
    title: String,
    intro: String,
    rows: Vec<Row>,
}

/// Value with a comment that starts with `# -- `.
struct Row {
    key: String,
    description: String,
}

/// Reads the sections of `values.yaml`. A line `## Title` begins a section, and the comment directly below it is its
/// paragraph. A comment that starts with `# -- ` describes the key below it.
fn sections(values: &str) -> Vec<Section> {
    let (mut sections, mut parents) = (Vec::<Section>::new(), Vec::<(usize, String)>::new());
    let (mut comment, mut is_intro) = (String::new(), false);
    for line in values.lines() {
        let content = line.trim_start();
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title: title.to_owned(), ..Section::default() });
            is_intro = true;
        } else if let Some(more) = content.strip_prefix("# ") {
            let into = match sections.last_mut() {
                Some(section) if is_intro => &mut section.intro,
                _ => &mut comment,
            };
            if more.starts_with("-- ") {
                into.clear();
            }
            into.push_str(if into.is_empty() { "" } else { " " });
            into.push_str(more);
        } else if content.is_empty() {
            (is_intro, comment) = (false, String::new());
        } else {
            is_intro = false;
            let comment = std::mem::take(&mut comment);
            let Some((name, _)) = content.split_once(':').filter(|(name, _)| !name.contains([' ', '#'])) else {
                continue;
            };
            let indent = line.len() - content.len();
            parents.retain(|(at, _)| *at < indent);
            parents.push((indent, name.to_owned()));
            if let Some(description) = comment.strip_prefix("-- ") {
                let key: Vec<&str> = parents.iter().map(|(_, name)| name.as_str()).collect();
                let row = Row { key: key.join("."), description: description.to_owned() };
                sections.last_mut().expect("a heading before the first value").rows.push(row);
            }
        }
    }
    sections
}

fn at<'a>(values: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(values, |value, name| &value[name])
}

/// Returns the cell of a default value. It is empty if there is none, or if the rows of the keys below contain it.
fn default_cell(value: &Value, has_rows_below: bool) -> String {
    if value.is_null() || has_rows_below {
        return String::new();
    }
    let json = value.to_string();
    if json.len() > MAX_DEFAULT { "in [`values.yaml`](values.yaml)".to_owned() } else { format!("`{json}`") }
}

fn document(values: &str) -> String {
    let defaults = yaml(values);
    let sections = sections(values);
    let keys: Vec<String> = sections.iter().flat_map(|section| &section.rows).map(|row| row.key.clone()).collect();
    let mut document = "# Values\n\nGenerated from [`values.yaml`](values.yaml) by `tests/deploy/values.rs`. The \
                        [guide](README.md) describes how to install, size, upgrade and restore.\n"
        .to_owned();
    for Section { title, intro, rows } in &sections {
        let intro = if intro.is_empty() { String::new() } else { format!("\n{intro}\n") };
        write!(document, "\n## {title}\n{intro}\n| value | default | description |\n|---|---|---|\n").expect("text");
        for Row { key, description } in rows {
            let has_rows_below = keys.iter().any(|other| other.starts_with(&format!("{key}.")));
            let default = default_cell(at(&defaults, key), has_rows_below);
            let line = format!("`{key}` | {} | {} |", default.replace('|', "\\|"), description.replace('|', "\\|"));
            writeln!(document, "| {line}").expect("text");
        }
    }
    document
}

/// Adds the paths of all values that are not maps, or are empty maps.
fn leaves(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{at}.{key}"), found)),
        None => found.extend([at.trim_start_matches('.').to_owned()]),
    }
}

#[test]
fn table_of_values_is_generated_from_the_comments() {
    let values = text("helm/pintalk/values.yaml");
    let generated = document(&values);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(DOCUMENT), &generated).expect("the document");
    }
    assert_eq!(text(DOCUMENT), generated, "run this test with {UPDATE}=1");

    // A description of a map covers the keys below it that have none.
    let described: Vec<String> =
        sections(&values).into_iter().flat_map(|section| section.rows).map(|row| row.key).collect();
    let mut all = BTreeSet::new();
    leaves(&yaml(&values), "", &mut all);
    assert!(all.len() > 150 && described.len() > 120, "{} and {}", all.len(), described.len());
    for leaf in &all {
        let is_described = described.iter().any(|key| leaf == key || leaf.starts_with(&format!("{key}.")));
        assert!(is_described, "{leaf} has no comment that starts with `# -- `");
    }
    for key in &described {
        assert!(!at(&yaml(&values), key).is_null() || key == "service.nodePort", "{key}: the comment is misplaced");
    }
}

#[test]
fn every_value_is_set_in_a_tested_set() {
    let sets: Vec<Value> =
        sets().iter().map(|set| yaml(&std::fs::read_to_string(set).expect("a set of values"))).collect();
    let mut all = BTreeSet::new();
    leaves(&yaml(&text("helm/pintalk/values.yaml")), "", &mut all);
    let is_set = |leaf: &String| sets.iter().any(|set| !at(set, leaf).is_null());
    // Of these maps, which Kubernetes defines, the sets change some keys only.
    let kubernetes =
        ["labels.", "resources.", "podSecurityContext.", "containerSecurityContext.", "autoscaling.behavior."];
    let unset: Vec<&String> =
        all.iter().filter(|leaf| !is_set(leaf) && !kubernetes.iter().any(|map| leaf.contains(map))).collect();
    assert!(unset.is_empty(), "{unset:?}");
}
