//! Report of a run. Its figures are printed, written as JSON and used in tables.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::check::Verdict;
use crate::latency::Distribution;
use crate::process::{self, Group, Usage};

/// Maximum CPU use of all other processes, in cores. A higher use slows down the servers and the generator.
const OTHERS_CORES: f64 = 0.1;
/// Maximum 99th percentile of the generator's delays, in milliseconds. Longer delays distort the latencies.
const LATE_MS: f64 = 1.0;

/// Scenario of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// `chat --in-flight`.
    Saturated,
    /// `chat --rate`.
    Paced,
    Fanout,
    Rooms,
    Idle,
    Join,
    Backlog,
}

impl Scenario {
    /// Returns the unit per which CPU time and memory are reported.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Saturated | Self::Paced | Self::Backlog => "message",
            Self::Fanout => "delivery",
            Self::Rooms => "room",
            Self::Idle => "visitor",
            Self::Join => "join",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Saturated => "chat, closed loop",
            Self::Paced => "chat, open loop",
            Self::Fanout => "fan-out",
            Self::Rooms => "new rooms",
            Self::Idle => "idle visitors",
            Self::Join => "join storm",
            Self::Backlog => "backlog of the archive",
        })
    }
}

/// Results of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: Scenario,
    /// Name of the run in tables.
    pub(crate) shape: String,
    /// Whether the nodes are the reference relay.
    pub(crate) relay: bool,
    /// Number of nodes.
    pub(crate) nodes: usize,
    /// Settings of the run, by the name of the flag.
    pub(crate) settings: BTreeMap<String, f64>,
    /// Duration of the measurement in seconds.
    pub(crate) span_s: f64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// Number of messages, deliveries, rooms, visitors or joins by which CPU time and memory are divided.
    pub(crate) units: u64,
    /// Acknowledged messages, deliveries, rooms or joins per second during the measurement.
    pub(crate) per_second: f64,
    pub(crate) latency: Vec<Distribution>,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    /// Rows per second that the archive wrote while it drained a backlog.
    pub(crate) archived_per_second: Option<f64>,
    pub(crate) verdict: Verdict,
    /// Number of closed sockets by close code. Code 0 counts sockets that did not open.
    pub(crate) closed: BTreeMap<u16, u64>,
}

/// Usage of a group of processes, from the start of the measurement until all its messages were processed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) before: Usage,
    pub(crate) after: Usage,
}

/// Usage and delays of this program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generator {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// CPU use in cores.
    pub(crate) cores: f64,
    /// 99th percentile of the time from the scheduled to the actual sending of a message, in milliseconds.
    pub(crate) late_p99_ms: f64,
    pub(crate) late_max_ms: f64,
}

impl Report {
    /// Creates the report of a run without figures of messages.
    pub(crate) fn new(scenario: Scenario, nodes: usize, measured: Measured) -> Self {
        Self {
            scenario,
            shape: String::new(),
            relay: false,
            nodes,
            settings: BTreeMap::new(),
            span_s: 0.0,
            messages: 0,
            deliveries: 0,
            units: 0,
            per_second: 0.0,
            latency: Vec::new(),
            measured,
            archived_per_second: None,
            verdict: Verdict::default(),
            closed: BTreeMap::new(),
        }
    }

    /// Returns whether the run had no errors.
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.closed.is_empty() && self.measured.faults.is_empty()
    }

    /// Returns the number of messages that did not arrive in their room, once and in order.
    pub(crate) fn misdelivered(&self) -> u64 {
        let Verdict { lost, doubled, reordered, misrouted, .. } = self.verdict;
        lost + doubled + reordered + misrouted
    }

    /// Formats the settings as text, such as `in-flight 400, rooms 100`.
    pub(crate) fn settings_text(&self) -> String {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        settings.join(", ")
    }

    /// Returns a warning if load on this machine may have distorted the figures.
    pub(crate) fn doubt(&self) -> Option<String> {
        let watched = !self.measured.processes.is_empty();
        let others = self.measured.others_cores.filter(|cores| watched && *cores > OTHERS_CORES);
        let late =
            Some(self.measured.generator.late_p99_ms).filter(|ms| self.scenario == Scenario::Paced && *ms > LATE_MS);
        match (others, late) {
            (None, None) => None,
            (Some(cores), None) => Some(format!("other processes used {cores:.2} cores")),
            (None, Some(ms)) => Some(format!("the generator was {ms:.2} ms late (p99)")),
            (Some(cores), Some(ms)) => {
                Some(format!("other processes used {cores:.2} cores, and the generator was {ms:.2} ms late (p99)"))
            }
        }
    }

    /// Returns the CPU time of a group in microseconds per unit. `None` if the group was not measured or there are no
    /// units.
    pub(crate) fn cpu_us(&self, group: &str) -> Option<f64> {
        let group = self.group(group)?;
        (self.units > 0).then(|| (group.user_us + group.system_us) as f64 / self.units as f64)
    }

    /// Returns the memory growth of a group until the end of the run, in KiB per unit. `None` if the group was not
    /// measured or there are no units.
    pub(crate) fn memory_kib(&self, group: &str) -> Option<f64> {
        let group = self.group(group)?;
        (self.units > 0).then(|| (group.after.rss_kib as f64 - group.before.rss_kib as f64) / self.units as f64)
    }

    /// Returns the highest memory growth of a group during the run, in KiB per unit. `None` if the group was not
    /// measured or there are no units.
    pub(crate) fn peak_kib(&self, group: &str) -> Option<f64> {
        let group = self.group(group)?;
        (self.units > 0).then(|| (group.after.peak_kib as f64 - group.before.rss_kib as f64) / self.units as f64)
    }

    fn group(&self, name: &str) -> Option<&Process> {
        self.measured.processes.iter().find(|process| process.name == name)
    }
}

/// Measurement of processes, from its start until it is finished.
pub(crate) struct Meter<'a> {
    groups: &'a [Group],
    before: Vec<Usage>,
    own: Usage,
    machine_us: Option<u64>,
    start: Instant,
}

/// Result of a measurement.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) processes: Vec<Process>,
    pub(crate) generator: Generator,
    /// CPU use of all other processes on this machine, in cores; `None` if it cannot be read.
    pub(crate) others_cores: Option<f64>,
    /// Errors and their effects on the figures, as sentences.
    pub(crate) faults: Vec<String>,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(groups: &'a [Group]) -> Result<Self, Failure> {
        groups.iter().for_each(Group::reset_peak);
        let before = groups.iter().map(Group::usage).collect::<Result<_, _>>()?;
        let (own, machine_us) = (process::own_usage(), process::machine_cpu_us());
        Ok(Self { groups, before, own, machine_us, start: Instant::now() })
    }

    /// Returns the seconds since the start, and the usage in that time.
    pub(crate) fn stop(self) -> (f64, Measured) {
        let (own, machine_us) = (process::own_usage(), process::machine_cpu_us());
        let wall = self.start.elapsed();
        let wall_us = wall.as_micros().max(1);
        let (mut processes, mut faults) = (Vec::new(), Vec::new());
        for (group, before) in self.groups.iter().zip(self.before) {
            match group.usage() {
                Ok(after) => processes.push(Process {
                    name: group.name.clone(),
                    user_us: after.user_us.saturating_sub(before.user_us),
                    system_us: after.system_us.saturating_sub(before.system_us),
                    before,
                    after,
                }),
                Err(error) => faults.push(format!("usage of {} is unknown: {}", group.name, error.sentence)),
            }
        }
        let own_us = own.cpu_us() - self.own.cpu_us();
        let known_us = own_us + processes.iter().map(|process| process.user_us + process.system_us).sum::<u64>();
        let others_us =
            machine_us.zip(self.machine_us).map(|(after, before)| (after - before).saturating_sub(known_us));
        let generator = Generator {
            user_us: own.user_us - self.own.user_us,
            system_us: own.system_us - self.own.system_us,
            cores: own_us as f64 / wall_us as f64,
            ..Generator::default()
        };
        let others_cores = others_us.map(|us| us as f64 / wall_us as f64);
        (wall.as_secs_f64(), Measured { processes, generator, others_cores, faults })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn process_that_ends_during_a_run_is_reported_as_a_fault() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let groups = [Group { name: "nodes".into(), pids: vec![child.id()] }];
        let meter = Meter::start(&groups).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, Measured { processes, faults, .. }) = meter.stop();
        assert!(processes.is_empty());
        assert!(faults[0].contains("usage of nodes is unknown"), "{faults:?}");
    }
}
