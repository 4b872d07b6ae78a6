//! Tests that the links in documents resolve, that tests run all code blocks, and that the README is short.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::tools::{path, pintalk, printed, text};

/// Maximum number of words in the README, as counted by `wc -w`.
const MAX_WORDS: usize = 1300;

/// Number of code blocks by document and language. A comment names the test files that run or compare the blocks. A new
/// block needs a test before it is added here.
const BLOCKS: &[(&str, &str, usize)] = &[
    // `tests/server/readme.rs` runs these blocks.
    ("README.md", "bash", 4),
    // This block is a drawing.
    ("README.md", "text", 1),
    // `tests/browser/site.rs` uses these blocks.
    ("README.md", "html", 2),
    // `tests/deploy/compose.rs` compares this block, and `tests/server/nginx.rs` uses it.
    ("helm/README.md", "nginx", 1),
    // `tests/deploy/readme.rs` runs these blocks.
    ("helm/pintalk/README.md", "bash", 4),
    ("helm/pintalk/README.md", "yaml", 1),
    // `tests/server/webhooks.rs` runs this block.
    ("src/protocol/README.md", "python", 1),
    // The test `npm_commands_are_scripts_of_the_package` below checks this block.
    ("src/web/README.md", "sh", 1),
    // `tests/server/readme.rs` runs this block.
    ("tests/README.md", "bash", 1),
];

/// Adds the paths of all Markdown files below a folder of the repository to `found`. Installed and generated files are
/// skipped.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(path("").join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let (name, place) = (entry.file_name(), folder.join(entry.file_name()));
        let name = name.to_string_lossy();
        if entry.file_type().expect("a type").is_dir() {
            if !["target", "node_modules"].contains(&&*name) && (!name.starts_with('.') || name == ".github") {
                collect(&place, found);
            }
        } else if name.ends_with(".md") {
            found.insert(place.to_str().expect("a name").to_owned());
        }
    }
}

fn documents() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(Path::new(""), &mut found);
    assert!(found.len() > 9, "{found:?}");
    found
}

/// Returns the text of a document without its code blocks.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// Returns the targets of all links and images.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let between = |open: &str, close: char| -> Vec<String> {
        prose.split(open).skip(1).filter_map(|rest| rest.split(close).next()).map(str::to_owned).collect()
    };
    [between("](", ')'), between(" src=\"", '"'), between(" href=\"", '"')].concat()
}

/// Returns the anchors that GitHub generates for the headings of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let kept = heading.to_lowercase().replace(' ', "-");
        let slug: String = kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect();
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// Resolves a path relative to the folder of a document.
fn resolve(document: &str, target: &str) -> PathBuf {
    let mut place = Path::new(document).parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => assert!(place.pop(), "{document}: {target} leaves the repository"),
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    place
}

/// Returns the relative links of a document whose targets do not exist.
fn broken(document: &str, content: &str) -> Vec<String> {
    let leads_nowhere = |target: &String| {
        if ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
            return false;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let place = if file.is_empty() { PathBuf::from(document) } else { resolve(document, file) };
        let (place, exists) = (place.to_str().expect("a name").to_owned(), path("").join(&place).exists());
        let there = if place == document { content.to_owned() } else { String::new() };
        let there = if there.is_empty() && place.ends_with(".md") && exists { text(&place) } else { there };
        !exists || !(anchor.is_empty() || anchors(&there).contains(anchor))
    };
    targets(content).into_iter().filter(leads_nowhere).collect()
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut links = 0;
    for document in documents() {
        let content = text(&document);
        links += targets(&content).len();
        assert_eq!(broken(&document, &content), Vec::<String>::new(), "{document}");
    }
    assert!(links > 40, "{links}");
    let wrong = "# One\n# One\n[a](../README.md#nowhere) [b](missing.md) [c](#one-1) [d](#two) <img src=\"no.png\"> \
                 [e](../LICENSE) [f](../tests/README.md#benchmark) [g](https://shop.example)\n```text\n[h](code)\n```\n";
    assert_eq!(broken("helm/README.md", wrong), ["../README.md#nowhere", "missing.md", "#two", "no.png"]);
}

#[test]
fn the_readme_has_at_most_1300_words() {
    let words = text("README.md").split_whitespace().count();
    assert!(words <= MAX_WORDS, "{words} words: move details to the document of what they describe");
}

#[test]
fn every_code_block_belongs_to_a_test() {
    let mut found = Vec::new();
    for document in documents() {
        let content = text(&document);
        let languages = content.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        let languages: Vec<&str> = languages.step_by(2).collect();
        for language in languages.iter().collect::<BTreeSet<_>>() {
            let count = languages.iter().filter(|other| *other == language).count();
            found.push((document.clone(), (*language).to_owned(), count));
        }
    }
    let mut listed: Vec<(String, String, usize)> = BLOCKS
        .iter()
        .map(|(document, language, count)| ((*document).to_owned(), (*language).to_owned(), *count))
        .collect();
    listed.sort();
    found.sort();
    assert_eq!(found, listed);
}

#[test]
fn npm_commands_are_scripts_of_the_package() {
    let package: serde_json::Value = serde_json::from_str(&text("src/web/package.json")).expect("JSON");
    let mut commands = 0;
    for block in crate::tools::blocks("src/web/README.md", "sh") {
        for line in block.lines() {
            let command = line.split('#').next().unwrap_or_default().trim();
            let words = command.strip_prefix("npm --prefix src/web ").unwrap_or_else(|| panic!("{command}"));
            let is_known =
                words.strip_prefix("run ").map_or(words == "ci", |script| package["scripts"][script].is_string());
            assert!(is_known, "{command}");
            commands += 1;
        }
    }
    assert!(commands > 2);
}

/// Adds all functions below a folder to `names`, as one `module::function` per line.
fn declared(folder: &Path, names: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let place = entry.expect("an entry").path();
        if place.is_dir() {
            declared(&place, names);
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            let module = place.file_stem().expect("a name").to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&place).expect("a source");
            let functions = source.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            names.extend(functions.map(|name| format!("{module}::{name}\n")));
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut names = String::new();
    for folder in ["src", "tests"] {
        declared(&path(folder), &mut names);
    }
    let manifest = text("Cargo.toml");
    let (mut tests, mut binaries) = (0, 0);
    for document in documents() {
        let content = text(&document);
        for filter in content.split("test(").skip(1).filter_map(|rest| rest.split(')').next()) {
            let name = filter.trim_matches('/');
            let found = match name.strip_prefix('^') {
                Some(start) => names.lines().any(|line| line.starts_with(start)),
                None => names.contains(name),
            };
            assert!(found, "{document}: no test is named {name}");
            tests += 1;
        }
        for name in content.split("binary(").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{document}: {name}");
            binaries += 1;
        }
    }
    assert!(tests > 4 && binaries > 1, "{tests}, {binaries}");
}

/// Returns whether a help text contains a word, which is a command, a value or a flag.
fn lists(help: &str, word: &str) -> bool {
    help.split(|letter: char| !letter.is_alphanumeric() && letter != '-').any(|other| other == word)
}

#[test]
fn every_command_of_the_program_in_a_document_exists() {
    let mut commands = 0;
    for document in documents() {
        let content = text(&document).replace("\\|", "|");
        let prose = prose(&content);
        for code in prose.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("pintalk ")) {
            let words: Vec<&str> = code.split([' ', '\n', '[', ']']).filter(|word| !word.is_empty()).collect();
            let (mut chosen, mut help) = (Vec::new(), printed(&mut pintalk(&["--help"])));
            for word in words {
                let flag = word.trim_start_matches("--");
                let choices: Vec<&str> = flag.split('|').filter(|name| name.starts_with(char::is_lowercase)).collect();
                for name in &choices {
                    let wanted = if word.starts_with("--") { format!("--{name}") } else { (*name).to_owned() };
                    assert!(lists(&help, &wanted), "{document}: `pintalk {code}`: there is no {wanted}");
                }
                // If the word is a subcommand, the following words are searched in its help text.
                let (Some(first), false) = (choices.first(), word.starts_with("--")) else { continue };
                let arguments = [&chosen[..], &[*first, "--help"]].concat();
                if let Ok(output) = pintalk(&arguments).output()
                    && output.status.success()
                {
                    help = String::from_utf8(output.stdout).expect("text");
                    chosen.push(*first);
                }
            }
            commands += 1;
        }
    }
    assert!(commands > 15, "{commands}");
}

/// Words that LANGUAGE.md replaces with others. No document, chart or dashboard may use them.
const UNUSED: [&str; 7] = ["he", "him", "his", "himself", "somebody", "nobody", "whoever"];

#[test]
fn documents_chart_and_monitoring_use_the_terms_of_the_field() {
    let mut files: BTreeSet<String> = documents();
    let folders = ["helm/pintalk", "helm/pintalk/ci", "helm/pintalk/files", "helm/pintalk/templates", "grafana"];
    for folder in folders {
        let entries = std::fs::read_dir(path(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        let entries = entries.filter(|place| place.is_file());
        files.extend(entries.map(|place| format!("{folder}/{}", place.file_name().expect("a name").to_string_lossy())));
    }
    assert!(files.len() > 40, "{}", files.len());
    for file in files {
        for (number, line) in text(&file).lines().enumerate() {
            let line = line.to_lowercase();
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            assert!(!words.any(|word| UNUSED.contains(&word)), "{file}:{}: {line}", number + 1);
        }
    }
}
