//! Measures the load of presence on one Redis. There are twenty nodes with 5,000 hosts each.

use futures_util::StreamExt as _;

use super::*;

const NODES: usize = 20;
const HOSTS: usize = 5_000;

/// Interval between the heartbeats of a node.
const HEARTBEAT: Duration = Duration::from_secs(2);
const KEEP: Duration = Duration::from_millis(500);

/// Duration of the measurement.
const SPAN: Duration = Duration::from_secs(6);

/// Maximum number of Redis commands per second while no host connects or disconnects. The number includes the commands
/// within scripts and the pings of connections.
const AT_REST: f64 = 150.0;

/// Maximum memory that Redis uses per host, in bytes.
const BYTES: f64 = 700.0;

struct Meter<'a>(&'a Node);

impl Meter<'_> {
    async fn read(&self, section: &'static str, figure: &str) -> f64 {
        let answers: Vec<String> = self.0.redis().everywhere("INFO", &[section]).await;
        let line = answers[0].lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).expect("a figure")
    }

    async fn commands(&self) -> f64 {
        self.read("stats", "total_commands_processed").await
    }

    /// Returns the CPU time that the server has used, in µs.
    async fn cpu(&self) -> f64 {
        let (system, user) = (self.read("cpu", "used_cpu_sys").await, self.read("cpu", "used_cpu_user").await);
        (system + user) * 1e6
    }
}

/// Spawns a task that renews a node's lease periodically until the task is aborted.
fn beat(node: &Node) -> tokio::task::JoinHandle<()> {
    let redis = node.redis().clone();
    tokio::spawn(async move {
        let mut heartbeats = tokio::time::interval(HEARTBEAT);
        loop {
            heartbeats.tick().await;
            redis.heartbeat().await.unwrap();
        }
    })
}

async fn each<F: Future<Output = ()>>(what: impl Iterator<Item = F>) {
    futures_util::stream::iter(what).buffer_unordered(64).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_with_a_hundred_thousand_hosts_are_cheap() {
    Setup::on(Kind::Redis7, async |setup| {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(setup.node().await);
        }
        let beating: Vec<_> = nodes.iter().map(beat).collect();
        let (dying, living) = nodes.split_first().unwrap();
        let hosts: Vec<Vec<HostUuid>> = (0..NODES).map(|_| (0..HOSTS).map(|_| a_host()).collect()).collect();
        let meter = Meter(&living[0]);

        let (before, began) = (meter.read("memory", "used_memory").await, std::time::Instant::now());
        let (commands, cpu) = (meter.commands().await, meter.cpu().await);
        each(nodes.iter().zip(&hosts).map(|(node, hosts)| async move {
            each(hosts.iter().map(|host| node.enter(*host))).await;
        }))
        .await;
        let count = (NODES * HOSTS) as f64;
        let bytes = (meter.read("memory", "used_memory").await - before) / count;
        let (came, cost) = ((meter.commands().await - commands) / count, (meter.cpu().await - cpu) / count);
        println!(
            "{count} hosts came within {:.1} s: {came:.1} commands and {cost:.0} µs of Redis each, {bytes:.0} bytes each",
            began.elapsed().as_secs_f64()
        );

        // The entries of all hosts have been written, so the nodes are idle from here on.
        for node in &nodes {
            node.renew_and_keep().await;
        }
        let (commands, cpu, until) = (meter.commands().await, meter.cpu().await, tokio::time::Instant::now() + SPAN);
        each(nodes.iter().map(|node| async move {
            let mut keeps = tokio::time::interval(KEEP);
            let resting = async {
                loop {
                    keeps.tick().await;
                    node.upkeep().keep().await.unwrap();
                }
            };
            let _over = tokio::time::timeout_at(until, resting).await;
        }))
        .await;
        let rate = (meter.commands().await - commands) / SPAN.as_secs_f64();
        let share = (meter.cpu().await - cpu) / SPAN.as_micros() as f64;
        println!("at rest: {rate:.0} commands a second, {:.2} % of a core of Redis", share * 100.0);

        beating[0].abort();
        dying.expire_lease().await;
        let (commands, cpu, began) = (meter.commands().await, meter.cpu().await, std::time::Instant::now());
        each(living.iter().map(|node| async move {
            node.make_uninterrupted().await;
            node.upkeep().keep().await.unwrap();
        }))
        .await;
        let took = began.elapsed();
        assert_eq!(living[0].keys_of(dying).await, Vec::<String>::new());
        println!(
            "a node of {HOSTS} hosts is dead: looked after within {:.2} s, {:.1} commands and {:.0} µs of Redis each",
            took.as_secs_f64(),
            (meter.commands().await - commands) / HOSTS as f64,
            (meter.cpu().await - cpu) / HOSTS as f64
        );

        let (commands, began) = (meter.commands().await, std::time::Instant::now());
        living[0].redis().lose_lease();
        living[0].renew_and_keep().await;
        let (again, took) = ((meter.commands().await - commands) / HOSTS as f64, began.elapsed());
        println!("a node says {HOSTS} hosts again within {:.2} s, {again:.1} commands each", took.as_secs_f64());
        beating.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(rate < AT_REST && bytes < BYTES);
    })
    .await;
}
