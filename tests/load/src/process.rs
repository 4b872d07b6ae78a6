//! CPU time and memory of local processes, as read from `/proc`.

use std::fs;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// Processes whose usage is summed. On the command line, a group has the form `nodes=12,34`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) pids: Vec<u32>,
}

impl FromStr for Group {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected NAME=PID,PID…";
        let (name, pids) = text.split_once('=').ok_or(wrong)?;
        let pids = pids.split(',').map(|pid| pid.parse().map_err(|_| wrong)).collect::<Result<Vec<_>, _>>()?;
        if name.is_empty() { Err(wrong) } else { Ok(Self { name: name.to_owned(), pids }) }
    }
}

/// CPU time that a group has used so far, and memory that it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time of all threads in user space, in microseconds.
    pub(crate) user_us: u64,
    /// CPU time of all threads in the kernel, in microseconds.
    pub(crate) system_us: u64,
    /// Resident memory in KiB.
    pub(crate) rss_kib: u64,
    /// Highest resident memory in KiB since [`Group::reset_peak`], summed over the processes.
    pub(crate) peak_kib: u64,
    /// Proportional resident memory in KiB, in which a shared page counts in equal parts for each of its users. `None`
    /// if this program may not read it.
    pub(crate) pss_kib: Option<u64>,
}

impl Usage {
    pub(crate) fn cpu_us(&self) -> u64 {
        self.user_us + self.system_us
    }
}

impl Group {
    /// Sets the peak of each process to its current memory. Without permission, the peak remains that since the start
    /// of the process.
    pub(crate) fn reset_peak(&self) {
        for pid in &self.pids {
            let _without_permission = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Reads the current usage of the group.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        let mut sum = Usage { pss_kib: Some(0), ..Usage::default() };
        for pid in &self.pids {
            let one = usage_of(&pid.to_string())
                .ok_or_else(|| Failure::new(format!("process {pid} of {} cannot be read in /proc", self.name)))?;
            sum.user_us += one.user_us;
            sum.system_us += one.system_us;
            sum.rss_kib += one.rss_kib;
            sum.peak_kib += one.peak_kib;
            sum.pss_kib = sum.pss_kib.zip(one.pss_kib).map(|(sum, one)| sum + one);
        }
        Ok(sum)
    }
}

/// Returns the usage of this process.
pub(crate) fn own_usage() -> Usage {
    usage_of("self").unwrap_or_default()
}

fn usage_of(pid: &str) -> Option<Usage> {
    let (user_us, system_us) = cpu(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, tick_us())?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (rss_kib, peak_kib) = (kib(&status, "VmRSS:")?, kib(&status, "VmHWM:")?);
    let pss_kib = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| kib(&text, "Pss:"));
    Some(Usage { user_us, system_us, rss_kib, peak_kib, pss_kib })
}

/// Returns the CPU time that all processes of this machine have used, in microseconds. `None` if it cannot be read.
pub(crate) fn machine_cpu_us() -> Option<u64> {
    busy(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| ticks * tick_us())
}

/// Returns the busy ticks from the first line of `/proc/stat`: user, nice, system, irq and softirq. Idle and iowait are
/// not included. Returns `None` if the line is invalid.
fn busy(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().try_fold(0, |sum, &at| Some(sum + ticks.get(at)?))
}

fn tick_us() -> u64 {
    1_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// Returns the user and system times from fields 14 and 15 of `/proc/PID/stat`, in microseconds, or `None` if the
/// fields are invalid. Fields are counted after the program name, which may contain spaces and parentheses.
fn cpu(stat: &str, tick_us: u64) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? * tick_us, ticks()? * tick_us))
}

fn kib(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_whatever_the_name_of_the_program() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 3143 0 0 0 250 75 0 0 20 0 9 0 4711 1 2 3";
        assert_eq!(cpu(stat, 10_000), Some((2_500_000, 750_000)));
        assert_eq!(cpu("42 (short) S 1", 10_000), None);
    }

    #[test]
    fn memory_is_read_by_key() {
        let status = "Name:\tpintalk\nVmPeak:\t  900 kB\nVmHWM:\t 5678 kB\nVmRSS:\t   1234 kB\n";
        assert_eq!((kib(status, "VmRSS:"), kib(status, "VmHWM:")), (Some(1234), Some(5678)));
        assert_eq!(kib(status, "Pss:"), None);
    }

    #[test]
    fn busy_time_excludes_idle_and_iowait() {
        assert_eq!(busy("cpu  100 20 3 9999 888 4 5 0 0 0\ncpu0 1 2 3 4"), Some(132));
        assert_eq!(busy("intr 1 2 3"), None);
    }

    #[test]
    fn peak_starts_at_the_memory_of_a_process() {
        let group = Group { name: "self".into(), pids: vec![std::process::id()] };
        drop(vec![1_u8; 64 << 20]);
        let before = group.usage().unwrap();
        group.reset_peak();
        let after = group.usage().unwrap();
        assert!(before.rss_kib > 0 && before.peak_kib > after.peak_kib && after.peak_kib >= after.rss_kib);
    }

    #[test]
    fn group_is_a_name_and_its_processes() {
        assert_eq!("nodes=12,34".parse(), Ok(Group { name: "nodes".into(), pids: vec![12, 34] }));
        for wrong in ["nodes", "nodes=", "=12", "nodes=12,", "nodes=x"] {
            assert!(wrong.parse::<Group>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn missing_process_is_named() {
        let gone = Group { name: "nodes".into(), pids: vec![u32::MAX] };
        assert!(gone.usage().unwrap_err().sentence.contains("of nodes"));
    }
}
