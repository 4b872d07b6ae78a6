//! Prints the figures of each test case as one line, and appends the line to a file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Figures of one test case.
#[derive(Debug, Default)]
pub struct Figures {
    pub sent: usize,
    pub acknowledged: usize,
    pub delivered: usize,
    pub stored: usize,
    pub lost: usize,
    pub doubled: usize,
    /// Seconds from the end of the fault until every room has an acknowledgement.
    pub whole: Option<f64>,
    /// Figures that are specific to this test case.
    pub more: Vec<(&'static str, String)>,
}

impl Figures {
    pub fn note(&mut self, what: &'static str, figure: impl ToString) {
        self.more.push((what, figure.to_string()));
    }

    pub fn show(&self, case: &str) {
        let mut line = format!(
            "{case:<44} sent {:>6}  acknowledged {:>6}  delivered {:>6}  stored {:>6}  lost {}  doubled {}",
            self.sent, self.acknowledged, self.delivered, self.stored, self.lost, self.doubled
        );
        if let Some(whole) = self.whole {
            write!(line, "  whole {whole:.1} s").expect("text");
        }
        for (what, figure) in &self.more {
            write!(line, "  {what} {figure}").expect("text");
        }
        println!("{line}");
        let path = folder().join("figures.txt");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file for the figures");
        // Test cases run in parallel and append to the same file, so the line is written with a single call.
        file.write_all(format!("{line}\n").as_bytes()).expect("a line of figures");
    }
}

/// Returns `target/chaos`, the folder for the figures and for the logs of nodes.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder").join("chaos");
    std::fs::create_dir_all(&folder).expect("a folder for the figures");
    folder
}
