//! Process metrics from `/proc`. On systems without it they are absent.

use std::fs;

use crate::domain::metric;

/// Clock ticks per second in `/proc`: a fixed value in user space, independent of the kernel's own tick rate.
const USER_HZ: f64 = 100.0;

/// Updates the gauges. Takes some milliseconds with very many open files.
pub(super) fn observe() {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!(metric::RESIDENT_BYTES).set(bytes);
    }
    if let Some(open) = open_files() {
        metrics::gauge!(metric::OPEN_FDS).set(open);
    }
    if let Some(most) = max_files() {
        metrics::gauge!(metric::MAX_FDS).set(most);
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_files() -> Option<f64> {
    // Newer kernels report the count as the size of the directory; on older ones the entries are counted.
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    let open = if told > 0 { told } else { fs::read_dir("/proc/self/fd").ok()?.count() as u64 };
    Some(open as f64)
}

fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of this process in seconds. Rendered separately, because counters of the recorder are integers.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program name in parentheses, which may contain any characters.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let [user, system] = [fields.get(11)?, fields.get(12)?].map(|ticks| ticks.parse::<f64>());
    Some((user.ok()? + system.ok()?) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1e6));
        let (open, most) = (open_files().unwrap(), max_files().unwrap());
        assert!(open >= 3.0 && open <= most, "{open} of {most}");
        let held: Vec<fs::File> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open_files().unwrap() >= open + held.len() as f64 - 3.0);
        let (before, began) = (cpu_seconds().unwrap(), std::time::Instant::now());
        while cpu_seconds().unwrap() < before + 0.1 {
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "{before}");
        }
    }
}
