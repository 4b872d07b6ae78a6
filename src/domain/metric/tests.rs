use std::path::{Path, PathBuf};

use super::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every file of code below `src`, but this module's own.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("metric/tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn code() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&Path::new(ROOT).join("src"), &mut found);
    found.retain(|(path, _)| !path.ends_with("src/domain/metric.rs"));
    assert!(found.len() > 100, "{}", found.len());
    found
}

#[test]
fn grafana_readme_has_this_table() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("grafana/README.md")).unwrap();
    let table = as_markdown();
    assert!(readme.contains(&table), "grafana/README.md must have these rows:\n{table}");
}

#[test]
fn no_metric_is_used_that_is_not_in_the_table() {
    for (path, text) in code() {
        for call in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in text.match_indices(call) {
                let named = text[at + call.len()..].trim_start().trim_start_matches("crate::");
                assert!(named.starts_with("metric::"), "{}: {}", path.display(), &named[..named.len().min(60)]);
            }
        }
    }
}

#[test]
fn every_metric_of_the_table_is_used() {
    let code: String = code().into_iter().map(|(_, text)| text).collect();
    let table = std::fs::read_to_string(Path::new(ROOT).join("src/domain/metric.rs")).unwrap();
    for Metric { name, .. } in TABLE {
        let row = table.lines().find(|line| line.contains(&format!("\"{name}\""))).unwrap();
        let constant = row.split_whitespace().nth(1).unwrap();
        let is_used = code.split("metric::").any(|after| {
            after
                .strip_prefix(constant)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        });
        assert!(is_used, "{constant}");
    }
}

#[test]
fn names_say_what_they_count_and_histograms_have_buckets() {
    for Metric { name, kind, help, .. } in TABLE {
        assert!(name.starts_with("pintalk_") || name.starts_with("process_"), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let has_buckets = name.ends_with("_seconds") || name.ends_with("_size");
        assert!(*kind != Kind::Histogram || has_buckets, "{name}");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}");
    }
}
