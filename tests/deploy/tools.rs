//! The repository's files, and the programs that read them. `tests/run` installs what is named here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Where something of the repository is.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What stands in a file of the repository.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code blocks of a language in a document, in order.
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let text = text(document);
    let fenced = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    fenced.map(str::to_owned).collect()
}

/// One YAML document.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// All documents of a YAML stream that are not empty.
pub fn documents(stream: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(stream).unwrap_or_else(|error| panic!("{error}\n{stream}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// Where `tests/run` put what only these tests need.
pub fn installed(name: &str) -> PathBuf {
    let cache = std::env::var_os("PINTALK_TEST_DEPLOY").expect("PINTALK_TEST_DEPLOY: see tests/run");
    Path::new(&cache).join(name)
}

/// The program of this build, with nothing of the tests' environment.
pub fn pintalk(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintalk"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// The variables of all options of `pintalk serve`.
pub fn options() -> Vec<String> {
    let help = printed(&mut pintalk(&["serve", "--help"]));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split([']', '=']).next());
    let variables: Vec<String> = variables.map(str::to_owned).collect();
    assert!(variables.len() > 25, "{help}");
    variables
}

/// What a command prints that must succeed.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: see tests/run"));
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// What comes of a command that is given something to read.
pub fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: see tests/run"));
    // It may have seen enough before the end.
    let _heard = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// All that a command said.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat()
}

/// A Python script with a package that `tests/run` installed.
pub fn python(package: &str, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", installed(package)).args(["-c", script]);
    command
}
