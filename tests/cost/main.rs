//! Limits the work per operation in units that do not depend on the speed of the machine: Redis commands, SQL statements,
//! allocations and instructions of a node.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod installation;
mod limits;
mod workload;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use installation::Installation;
use limits::{LIMITS, Path, Unit, exceeded};
use workload::{Client, Signals};

/// Cost per operation.
type Costs = BTreeMap<(Path, Unit), f64>;

#[test]
fn commands_statements_and_allocations_are_within_limits() {
    let (installation, runtime) = Installation::start();
    let costs = measure(&installation, &runtime);
    installation.stop(&runtime);
    assert_within_limits(&costs, &[Unit::RedisCommands, Unit::SqlStatements, Unit::Allocations]);
}

#[test]
fn instructions_are_within_limits() {
    let folder = tempfile::tempdir().expect("a folder");
    // The two patterns differ, because callgrind ignores a second option with the same pattern.
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*cost*collected*", "--dump-after=cost*collected*"])
        .arg(format!("--callgrind-out-file={}/out", folder.path().display()))
        .arg(std::env::current_exe().expect("the path of the program"))
        .args(["--exact", "commands_statements_and_allocations_are_within_limits", "--nocapture", "--test-threads=1"])
        .output()
        .expect("valgrind runs: tests/run installs it");
    // The test in the child process may exceed its limits, because the slow run contains more periodic work.
    let output = || String::from_utf8_lossy(&[run.stdout.as_slice(), &run.stderr].concat()).into_owned();
    let costs = (1..).zip(Path::ALL).map(|(number, path)| {
        let counted = instructions(&folder.path().join(format!("out.{number}")));
        let counted = counted.unwrap_or_else(|| panic!("{path:?} did not run: {}", output()));
        ((path, Unit::Instructions), counted / path.operations() as f64)
    });
    assert_within_limits(&costs.collect(), &[Unit::Instructions]);
}

/// Runs each path once and returns its costs.
fn measure(installation: &Installation, runtime: &Runtime) -> Costs {
    let mut costs = Costs::new();
    for path in Path::ALL {
        let (counts, allocations) = std::thread::scope(|scope| {
            let (prepared, until_prepared) = oneshot::channel();
            let (start, started) = mpsc::channel();
            let (done, until_done) = oneshot::channel();
            let signals = Signals { prepared, start: started, done };
            let client = scope.spawn(|| {
                let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
                client.block_on(async { Client::connect(installation).await.run(path, signals).await })
            });
            runtime.block_on(until_prepared).expect("the client prepares the path");
            start.send(()).expect("the client waits");
            let allocations = allocation_counter::measure(|| collected(runtime, until_done)).count_total;
            (client.join().expect("the client receives all frames"), allocations)
        });
        let per_operation = |count: u64| count as f64 / path.operations() as f64;
        costs.insert((path, Unit::RedisCommands), per_operation(counts.0));
        costs.insert((path, Unit::SqlStatements), per_operation(counts.1));
        costs.insert((path, Unit::Allocations), per_operation(allocations));
    }
    costs
}

/// Runs the node until the client is done. Callgrind selects this function by its name and counts its instructions.
#[inline(never)]
fn collected(runtime: &Runtime, until: oneshot::Receiver<()>) {
    runtime.block_on(until).expect("the client reports its end");
}

/// Returns the number of instructions in an output file of callgrind. `None` if the file does not exist.
fn instructions(file: &std::path::Path) -> Option<f64> {
    let written = std::fs::read_to_string(file).ok()?;
    written.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

fn assert_within_limits(costs: &Costs, units: &[Unit]) {
    let mut table = String::new();
    for limit in LIMITS.iter().filter(|limit| units.contains(&limit.1)) {
        table += &format!("{:?} {:?}: {:.3}, limit {}\n", limit.0, limit.1, costs[&(limit.0, limit.1)], limit.2);
    }
    println!("{table}");
    let exceeded = exceeded(costs, units);
    assert!(exceeded.is_empty(), "exceeded: {exceeded:?}\n{table}");
}

#[test]
fn every_path_has_a_limit_in_every_unit_and_a_doubled_cost_exceeds_it() {
    for path in Path::ALL {
        for unit in Unit::ALL {
            assert_eq!(
                LIMITS.iter().filter(|limit| (limit.0, limit.1) == (path, unit)).count(),
                1,
                "{path:?} {unit:?}"
            );
        }
    }
    let at = |factor: f64| LIMITS.iter().map(|limit| ((limit.0, limit.1), factor * limit.2)).collect::<Costs>();
    assert_eq!(exceeded(&at(1.0), &Unit::ALL), []);
    assert_eq!(exceeded(&at(2.0 / 1.5), &Unit::ALL).len(), LIMITS.iter().filter(|limit| limit.2 > 0.0).count());
}
