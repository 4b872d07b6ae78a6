//! Tests that the committed front-end bundles match their sources and contain only syntax that all supported browsers
//! can parse. Also tests that the sources pass the type check.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shop::node_modules;

/// Maximum compressed size, in bytes, of the files that are loaded before the panel is opened.
const MAX_LOADED: usize = 12 * 1024;

/// Returns the folder of the front-end sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web")
}

/// Copies the sources without the bundles, and links the installed npm packages into the copy.
fn copy_of_sources() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let tar = format!(
        "tar -C {} --exclude=./dist --exclude=./node_modules -cf - . | tar -C {} -xf -",
        sources().display(),
        folder.path().display()
    );
    assert!(Command::new("sh").args(["-c", &tar]).status().is_ok_and(|status| status.success()), "a copy");
    std::os::unix::fs::symlink(node_modules(), folder.path().join("node_modules")).expect("a link");
    folder
}

fn npm_run(folder: &Path, script: &str) {
    let mut npm = Command::new("npm");
    let done = npm.args(["run", "--silent", script]).current_dir(folder).stdin(Stdio::null()).output();
    let done = done.expect("npm, which tests/run installs");
    let printed = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "npm run {script}:\n{}", String::from_utf8_lossy(&printed));
}

/// Returns the path and the content of each file in a folder. The paths are relative to the folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("a path in it").display().to_string();
                found.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn bundles_match_their_sources() {
    let copy = copy_of_sources();
    npm_run(copy.path(), "build");
    let (built, committed) = (files(&copy.path().join("dist")), files(&sources().join("dist")));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&built), names(&committed));
    for ((name, built), (_, committed)) in built.iter().zip(&committed) {
        assert!(built == committed, "src/web/dist/{name} is not what `npm run build` makes of the sources");
    }
}

#[test]
fn sources_pass_the_type_check_and_the_check_detects_errors() {
    let copy = copy_of_sources();
    npm_run(copy.path(), "check");
    let folders = ["shared", "widget", "console", "demo"];
    for folder in folders {
        let wrong = "export const wrong = (value: string | null): string => value;\n";
        std::fs::write(copy.path().join(folder).join("wrong.ts"), wrong).expect("a file");
    }
    let mut npm = Command::new("npm");
    npm.args(["run", "--silent", "check"]).current_dir(copy.path()).stdin(Stdio::null());
    let done = npm.output().expect("npm, which tests/run installs");
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    for folder in folders {
        assert!(!done.status.success() && printed.contains(&format!("{folder}/wrong.ts")), "{folder}: {printed}");
    }
    let scripts: Vec<String> = files(copy.path())
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.ends_with(".js") && !name.starts_with("node_modules/") && !name.starts_with("dist/"))
        .collect();
    assert_eq!(scripts, Vec::<String>::new(), "sources that no type check covers");
}

/// Parses a script as the given version of ECMAScript and returns its comments.
fn parse(file: &str, version: u32, source_type: &str) -> Result<Vec<String>, String> {
    let script = "const [, modules, file, version, sourceType] = process.argv; \
        const { parse } = require(modules + '/acorn'); const comments = []; \
        const text = require('fs').readFileSync(file, 'utf8'); \
        parse(text, { ecmaVersion: Number(version), sourceType, onComment: (_, comment) => comments.push(comment) }); \
        console.log(JSON.stringify(comments))";
    let mut node = Command::new("node");
    node.args(["-e", script]).arg(node_modules()).args([file, &version.to_string(), source_type]);
    let done = node.stdin(Stdio::null()).output().expect("Node.js, which tests/run installs");
    if done.status.success() {
        Ok(serde_json::from_slice(&done.stdout).expect("comments"))
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

#[test]
fn syntax_of_the_widget_is_supported_by_all_browsers() {
    let dist = sources().join("dist");
    let file = |name: &str| dist.join(name).display().to_string();
    // Even an unsupported browser must be able to parse the loader, because the loader checks whether the browser is
    // supported.
    for (name, version, source_type) in
        [("widget.js", 5, "script"), ("widget-main.js", 2022, "script"), ("widget-panel.js", 2022, "module")]
    {
        if let Err(error) = parse(&file(name), version, source_type) {
            panic!("{name} is newer than ECMAScript {version}: {error}");
        }
    }
    assert!(parse(&file("widget-main.js"), 5, "script").is_err(), "the check finds nothing");
}

fn gzip(text: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("a compressed text").len()
}

#[test]
fn at_most_12_kib_are_loaded_before_the_panel_opens() {
    let read = |name: &str| std::fs::read(sources().join("dist").join(name)).expect("a bundle");
    let loaded = gzip(&read("widget.js")) + gzip(&read("widget-main.js"));
    assert!(loaded <= MAX_LOADED, "{loaded} bytes");
}

#[test]
fn bundles_have_no_comments_and_no_source_maps() {
    for (name, text) in files(&sources().join("dist")) {
        let text = String::from_utf8(text).expect("text");
        assert!(!text.contains("sourceMappingURL"), "{name} names a source map");
        if name.ends_with(".js") {
            let comments = parse(&sources().join("dist").join(&name).display().to_string(), 2022, "module");
            assert_eq!(comments, Ok(vec![]), "{name}");
        } else {
            assert!(!text.contains("/*"), "{name} has comments");
        }
    }
}
