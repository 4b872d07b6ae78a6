//! Functions that read files of the repository and run the tools that `tests/run` installs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Returns the path of a file in the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the content of a file in the repository.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the code blocks in `language` of a document, in order.
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let text = text(document);
    let fenced = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    fenced.map(str::to_owned).collect()
}

/// Parses a single YAML document.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Parses a YAML stream. Empty documents are skipped.
pub fn documents(stream: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(stream).unwrap_or_else(|error| panic!("{error}\n{stream}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// Returns a folder in which `tests/run` has installed tools of these tests.
pub fn installed(name: &str) -> PathBuf {
    let cache = std::env::var_os("PINTALK_TEST_DEPLOY").expect("PINTALK_TEST_DEPLOY: see tests/run");
    Path::new(&cache).join(name)
}

/// Returns a command of the program of this build. Environment variables of the tests are removed.
pub fn pintalk(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintalk"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Returns the environment variables of all options of `pintalk serve`.
pub fn options() -> Vec<String> {
    let help = printed(&mut pintalk(&["serve", "--help"]));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split([']', '=']).next());
    let variables: Vec<String> = variables.map(str::to_owned).collect();
    assert!(variables.len() > 25, "{help}");
    variables
}

/// Runs a command that must succeed, and returns its standard output.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: see tests/run"));
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command with `input` as its standard input.
pub fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: see tests/run"));
    // An error is ignored, because the command may stop reading before the end of the input.
    let _written = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// Returns standard output and standard error of a command, one after the other.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat()
}

/// Returns a command that runs a Python script with a package that `tests/run` has installed.
pub fn python(package: &str, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", installed(package)).args(["-c", script]);
    command
}
