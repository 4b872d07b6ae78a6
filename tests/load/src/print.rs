//! Formats a report as text.

use std::fmt::{self, Display, Formatter};

use crate::report::{Report, Scenario};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = self.scenario.unit();
        writeln!(f, "{} on {} node{}", self.scenario, self.nodes, if self.nodes == 1 { "" } else { "s" })?;
        writeln!(f, "  {}\n", self.settings_text())?;
        match self.scenario {
            Scenario::Idle => writeln!(f, "  {} sockets, opened and held for {:.1} s", self.units, self.span_s)?,
            Scenario::Join => {
                writeln!(f, "  {} joins in {:.1} s: {:.0} per second", self.units, self.span_s, self.per_second)?;
            }
            Scenario::Saturated | Scenario::Paced | Scenario::Fanout => writeln!(
                f,
                "  {} messages, {} deliveries in {:.1} s: {:.0} {} per second",
                self.messages,
                self.deliveries,
                self.span_s,
                self.per_second,
                if unit == "message" { "messages" } else { "deliveries" }
            )?,
        }
        self.latencies(f)?;
        self.processes(f, unit)?;
        self.generator(f)?;
        self.faults(f)
    }
}

impl Report {
    fn latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.latency.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n  latency, ms {:>14} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for latency in &self.latency {
            writeln!(
                f,
                "  {:<16} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
                latency.name,
                latency.mean_ms,
                latency.p50_ms,
                latency.p90_ms,
                latency.p99_ms,
                latency.p999_ms,
                latency.max_ms
            )?;
        }
        Ok(())
    }

    fn processes(&self, f: &mut Formatter<'_>, unit: &str) -> fmt::Result {
        if self.processes.is_empty() || self.units == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "\n  {:<12} {:>10} {:>10} {:>16} {:>11} {:>11} {:>11}",
            "CPU, memory",
            "user s",
            "system s",
            format!("µs per {unit}"),
            "RSS KiB",
            "grown KiB",
            "PSS KiB"
        )?;
        for process in &self.processes {
            writeln!(
                f,
                "  {:<12} {:>10.2} {:>10.2} {:>16.2} {:>11} {:>11} {:>11}",
                process.name,
                process.user_us as f64 / 1e6,
                process.system_us as f64 / 1e6,
                (process.user_us + process.system_us) as f64 / self.units as f64,
                process.after.rss_kib,
                process.after.rss_kib as i64 - process.before.rss_kib as i64,
                process.after.pss_kib.map_or("-".to_owned(), |pss| pss.to_string())
            )?;
        }
        if self.scenario == Scenario::Idle {
            for process in &self.processes {
                let each = self.memory_kib(&process.name).unwrap_or_default();
                writeln!(f, "  {} grew by {each:.2} KiB per socket", process.name)?;
            }
        }
        Ok(())
    }

    fn generator(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let own = &self.generator;
        write!(f, "\n  load generator: {:.0} % of a core", own.cores * 100.0)?;
        match self.scenario {
            Scenario::Idle | Scenario::Join => writeln!(f),
            Scenario::Saturated | Scenario::Paced | Scenario::Fanout => {
                let (p99, max) = (own.late_p99_ms, own.late_max_ms);
                writeln!(f, "; delay of sending: {p99:.2} ms (p99), {max:.2} ms at most")
            }
        }
    }

    fn faults(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(doubt) = self.doubt() {
            writeln!(f, "  busy machine: {doubt}")?;
        }
        let verdict = &self.verdict;
        if verdict.is_clean() {
            writeln!(f, "  lost, duplicated, reordered, misrouted: 0")?;
        } else {
            writeln!(
                f,
                "  WRONG: {} lost, {} duplicated, {} reordered, {} misrouted, {} with a number that does not increase",
                verdict.lost, verdict.doubled, verdict.reordered, verdict.misrouted, verdict.unsequenced
            )?;
        }
        for fault in &self.faults {
            writeln!(f, "  WRONG: {fault}")?;
        }
        for (code, count) in &self.closed {
            match code {
                0 => writeln!(f, "  WRONG: {count} sockets did not open")?,
                code => writeln!(f, "  WRONG: {count} sockets closed by the server with {code} ({})", meaning(*code))?,
            }
        }
        Ok(())
    }
}

/// Returns the meaning of a close code (SPEC 4).
fn meaning(code: u16) -> &'static str {
    match code {
        1000 => "room was closed",
        1002 => "protocol violation",
        1005 => "no code",
        1006 => "connection lost",
        1009 => "frame too large",
        1012 => "node is shutting down",
        1013 => "too slow, or the server is overloaded",
        4000 => "invalid message",
        4001 => "login has ended",
        4003 => "wrong origin, or not this host's room",
        4004 => "no such room",
        4009 => "room is closed",
        4029 => "too many sockets",
        _ => "unknown",
    }
}
