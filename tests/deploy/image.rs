//! Tests the container image. It is built without a registry, from a base image of this machine's Debian release. It
//! contains the program of this build.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools::{installed, path, printed, text, yaml};

/// Maximum time for a container to start or to stop.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Images and containers of one test. They are deleted on drop.
struct Storage {
    folder: tempfile::TempDir,
}

/// Returns a command that runs a program as root, with `sudo` if necessary.
fn as_root(program: &str) -> Command {
    let how = std::env::var("PINTALK_TEST_AS_ROOT").expect("PINTALK_TEST_AS_ROOT: see tests/run");
    let mut words = how.split_whitespace().chain([program]);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdin(Stdio::null());
    command
}

impl Storage {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut buildah = as_root("buildah");
        // These settings avoid overlay file systems and namespaces, which are not available on every machine.
        buildah.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        buildah.arg("--root").arg(self.folder.path().join("images"));
        buildah.arg("--runroot").arg(self.folder.path().join("containers"));
        buildah.args(arguments);
        buildah
    }

    fn run(&self, arguments: &[&str]) -> String {
        printed(&mut self.buildah(arguments)).trim().to_owned()
    }

    /// Creates the base image. It also serves as the builder image, which otherwise contains Rust.
    fn base(&self) {
        let container = self.run(&["from", "scratch"]);
        let base = installed("image-base").display().to_string();
        self.run(&["add", "--quiet", &container, &base, "/"]);
        self.run(&["commit", "--quiet", "--rm", &container, "base"]);
    }

    /// Builds the image with the program of this build.
    fn image(&self) {
        self.base();
        let context = self.folder.path().join("context");
        let release = context.join("target/release");
        std::fs::create_dir_all(&release).expect("a folder");
        for file in ["Dockerfile", ".dockerignore"] {
            std::fs::copy(path(file), context.join(file)).expect("a copy");
        }
        // Removes the debug information, which makes up most of the program's size.
        let program = release.join("pintalk").display().to_string();
        printed(Command::new("strip").args(["-o", &program, env!("CARGO_BIN_EXE_pintalk")]));
        let context = context.display().to_string();
        let arguments = ["BUILDER=localhost/base", "SOURCE=prebuilt", "REVISION=0123abc"];
        let arguments = arguments.iter().flat_map(|argument| ["--build-arg", *argument]);
        let whole: Vec<&str> = ["bud", "--quiet", "--format", "docker"]
            .into_iter()
            .chain(arguments)
            .chain(["--tag", "pintalk", &context])
            .collect();
        self.run(&whole);
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // The files belong to root, so they are deleted as root.
        let _gone = as_root("rm").arg("-rf").arg(self.folder.path()).status();
    }
}

/// Container in which the program runs.
struct Node(Child);

impl Node {
    /// Returns the process id of the program. It is the last descendant of the process that was started.
    fn pid(&self) -> String {
        let mut pid = self.0.id().to_string();
        loop {
            let children = Command::new("pgrep").args(["-P", &pid]).output().expect("pgrep");
            match String::from_utf8_lossy(&children.stdout).lines().next() {
                Some(child) => pid = child.to_owned(),
                None => return pid,
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _gone = as_root("kill").args(["-KILL", &self.pid()]).status();
            let _gone = self.0.wait();
        }
    }
}

fn get(address: &str, what: &str) -> Option<String> {
    let answer = Command::new("curl").args(["-fsS", "--max-time", "2", &format!("http://{address}{what}")]).output();
    let answer = answer.expect("curl is installed: see tests/run");
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}

#[test]
fn image_contains_only_the_program_and_runs_without_root() {
    let storage = Storage::new();
    storage.image();
    let facts: Value = serde_json::from_str(&storage.run(&["inspect", "--type", "image", "pintalk"])).expect("JSON");
    let config = &facts["Docker"]["config"];
    assert_eq!(config["User"], "10001:10001", "the number that the chart runs it as");
    assert_eq!(config["Entrypoint"][0], "/usr/local/bin/pintalk");
    assert_eq!(config["Cmd"][0], "serve");
    assert_eq!(config["Labels"]["org.opencontainers.image.revision"], "0123abc");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], version);

    let container = storage.run(&["from", "localhost/pintalk"]);
    let root = storage.run(&["mount", &container]);
    let listed = printed(as_root("find").args([&root, "-not", "-type", "d", "-printf", "%P\n"]));
    let unexpected: Vec<_> = listed
        .lines()
        .filter(|file| !file.starts_with("lib") && !file.starts_with("etc/") && *file != "usr/local/bin/pintalk")
        .collect();
    assert!(listed.contains("etc/ssl/certs/ca-certificates.crt") && unexpected.is_empty(), "{listed}");
    storage.run(&["umount", &container]);

    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let listen = format!("PINTALK_LISTEN={address}");
    let serve = [
        "run",
        "--env",
        &listen,
        "--env",
        "PINTALK_DRAIN_DELAY=0s",
        &container,
        "--",
        "/usr/local/bin/pintalk",
        "serve",
    ];
    let mut node = Node(storage.buildah(&serve).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("buildah"));
    let until = Instant::now() + TIMEOUT;
    while get(&address, "/health/ready").is_none() {
        assert!(
            Instant::now() < until && node.0.try_wait().expect("a process").is_none(),
            "the container does not serve"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = node.pid();
    let status = std::fs::read_to_string(Path::new("/proc").join(&pid).join("status")).expect("a process");
    assert!(status.contains("Uid:\t10001\t10001") && status.contains("Gid:\t10001\t10001"), "{status}");
    printed(as_root("kill").args(["-TERM", &pid]));
    let until = Instant::now() + TIMEOUT;
    let ended = loop {
        if let Some(ended) = node.0.try_wait().expect("a process") {
            break ended;
        }
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ended.code(), Some(0), "the program receives the signal itself and shuts down cleanly");
}

#[test]
fn dockerfile_copies_each_crate_and_existing_paths() {
    let (dockerfile, ignored) = (text("Dockerfile"), text(".dockerignore"));
    let manifest = text("Cargo.toml");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
        // The layer of dependencies is built before the sources are copied. For this, cargo needs the manifests of all
        // members.
        assert!(dockerfile.contains(&format!("COPY {member}/Cargo.toml {member}/Cargo.toml\n")), "{member}");
        let let_in = [format!("!{member}\n"), format!("!{member}/Cargo.toml\n")];
        assert!(let_in.iter().any(|line| ignored.contains(line)), "{member}");
    }
    let chart = yaml(&text("helm/pintalk/Chart.yaml"));
    for version in [&chart["version"], &chart["appVersion"]] {
        assert_eq!(*version, env!("CARGO_PKG_VERSION"), "the chart is of another release");
    }
    assert!(dockerfile.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
}
