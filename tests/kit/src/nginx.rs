//! nginx in front of nodes, configured as in helm/README.md.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::in_repository;

/// `server` lines of the configuration in helm/README.md. Tests replace them with their own nodes.
const TWO_NODES: &str = "    server 127.0.0.1:8081 max_fails=0;\n    server 127.0.0.1:8082 max_fails=0;\n";

/// nginx process that is stopped on drop.
pub struct Nginx {
    master: Child,
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

/// First lines of the `location` block of the configuration in helm/README.md.
const AT_THE_ROOT: &str = "    location / {\n        proxy_pass http://pintalk;\n";

impl Nginx {
    pub fn before(nodes: &[SocketAddr]) -> Self {
        Self::with_location(nodes, AT_THE_ROOT)
    }

    /// Starts an nginx that exposes the nodes under a path such as `/chat`. If `strips` is true, nginx removes the path
    /// before it forwards a request.
    pub fn under(path: &str, strips: bool, nodes: &[SocketAddr]) -> Self {
        let slash = if strips { "/" } else { "" };
        Self::with_location(nodes, &format!("    location {path}/ {{\n        proxy_pass http://pintalk{slash};\n"))
    }

    fn with_location(nodes: &[SocketAddr], location: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let each = |node: &SocketAddr| format!("    server {node} max_fails=0;\n");
        let server = in_readme()
            .replace("listen 80;", &format!("listen {address};"))
            .replace(TWO_NODES, &nodes.iter().map(each).collect::<String>())
            .replace(AT_THE_ROOT, location)
            .replace("/var/log/nginx", &path);
        assert!(nodes.iter().all(|node| server.contains(&node.to_string())), "the README names other nodes");
        assert!(server.contains(location), "the README has another location");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        // Surrounds the configuration of the README with directives that the distribution's `nginx.conf` contains.
        let whole = format!(
            "daemon off;\npid {path}/pid;\nerror_log {path}/error.log;\nworker_processes 1;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temporary}{server}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, whole).expect("a configuration");
        let nginx = |more: &[&str]| {
            let mut nginx = Command::new("nginx");
            nginx.args(["-p", &path, "-e", &format!("{path}/error.log"), "-c"]).arg(&file).args(more);
            nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            nginx.spawn().expect("nginx is installed: see tests/run")
        };
        let checked = nginx(&["-t"]).wait_with_output().expect("nginx ends");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let nginx = Self { master: nginx(&[]), address, folder };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        ["pintalk.log", "pintalk-error.log", "error.log"].map(read).concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4_000);
            println!("log of nginx:\n{}", log.get(from..).unwrap_or(&log));
        }
        // After SIGKILL, the master process would leave its workers running. SIGTERM stops both.
        let sent = Command::new("kill").args(["-TERM", &self.master.id().to_string()]).status();
        let _ended = sent.and_then(|_| self.master.wait());
    }
}

/// Returns the nginx configuration of helm/README.md.
fn in_readme() -> String {
    let readme = std::fs::read_to_string(in_repository("helm/README.md")).expect("a README");
    let block = readme.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README has a configuration for nginx").to_owned()
}
