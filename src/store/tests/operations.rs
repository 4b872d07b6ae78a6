//! Tests of the values of the `operation` label of `pintalk_sql_duration_seconds`.

use std::collections::BTreeSet;
use std::path::Path;

/// Expected values of the label. Dashboards and alerts refer to them.
const LABELS: [&str; 30] = [
    "append",
    "archive",
    "consents",
    "contacts",
    "counts",
    "deliveries",
    "departures",
    "digests",
    "expired",
    "hosts",
    "idle",
    "installation",
    "keys",
    "logins",
    "messages",
    "notifications",
    "outbox",
    "passwords",
    "pins",
    "profile_image",
    "profiles",
    "retention",
    "room_events",
    "rooms",
    "standing",
    "store",
    "time",
    "turns",
    "verifications",
    "webhooks",
];

#[test]
fn operation_labels_stay_the_same() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut labels = BTreeSet::new();
    collect(&src.join("store"), &mut labels);
    collect_from(&src.join("store.rs"), &mut labels);
    assert_eq!(labels, LABELS.map(str::to_owned).into());
}

fn collect(folder: &Path, labels: &mut BTreeSet<String>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == "tests" || name == "testing") {
            continue;
        }
        if path.is_dir() {
            collect(&path, labels);
        } else {
            collect_from(&path, labels);
        }
    }
}

fn collect_from(file: &Path, labels: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let calls = text.split(".run(").skip(1).map(str::trim_start);
    labels.extend(calls.filter_map(|call| call.strip_prefix('"')?.split('"').next()).map(str::to_owned));
}
