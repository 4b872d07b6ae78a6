//! Command `backlog`, which sends messages while the archive drains a backlog.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::args::{BacklogArgs, Writers};
use crate::chat;
use crate::progress::Bar;
use crate::queues::Queues;
use crate::report::{Meter, Report, Scenario};
use crate::setup::{Setup, joined};
use crate::talk::Pace;

/// Messages per second while the SQL server is stopped.
const FILL_RATE: f64 = 4000.0;
/// Ratio of the initial queue length to the length at which the backlog counts as drained. That length is not zero,
/// because live messages always wait for a moment.
const REST: u64 = 100;
/// Time between two reads of the queue lengths.
const POLL: Duration = Duration::from_millis(20);
/// Maximum time until the backlog has drained.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Creates a backlog while the SQL server is stopped, resumes the server, and measures while the backlog drains.
pub(crate) fn run(args: &BacklogArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.rooms * 2)?;
    let mut talk = chat::open_pairs(&setup, args.rooms, Writers::Both, args.span.size)?;
    let mut queues = Queues::connect(&args.redis)?;
    let pace = Pace::Rate(args.rate);
    talk.talk(pace, args.span.warm_up, &Bar::span("warm up", args.span.warm_up))?;
    talk.await_archive(Some(&mut queues))?;

    let stopped = Stopped::stop(args.sql)?;
    let fill = Duration::from_secs_f64(f64::from(args.backlog) / FILL_RATE);
    let backlog = talk.talk(Pace::Rate(FILL_RATE), fill, &Bar::span("fill", fill))?.messages;
    let meter = Meter::start(&args.measure.process)?;
    let waiting = queues.waiting()?;
    drop(stopped);
    let (phase, drained) = thread::scope(|scope| {
        let drain = scope.spawn(|| drain(&mut queues, waiting));
        let phase = talk.talk(pace, args.span.span, &Bar::span("measure", args.span.span));
        (phase, joined(drain))
    });
    let (phase, drained) = (phase?, drained?);
    let archived = talk.await_archive(Some(&mut queues));
    let (_, mut measured) = meter.stop();
    measured.faults.extend(archived.err().map(|failure| failure.sentence));
    measured.generator.late_p99_ms = phase.late.at_ms(99.0);
    measured.generator.late_max_ms = phase.late.at_ms(100.0);

    let mut settings = chat::settings(&args.span, pace);
    settings.insert("backlog".into(), f64::from(args.backlog));
    let report = Report::new(Scenario::Backlog, setup.nodes.len(), measured);
    let report = chat::with_messages(report, &talk, &phase, args.span.span.as_secs_f64());
    let live = args.rate * drained.min(args.span.span).as_secs_f64();
    let rows = backlog as f64 + live;
    Ok(Report { settings, archived_per_second: Some(rows / drained.as_secs_f64()), ..report })
}

/// Waits until the backlog has drained, and returns the time that this took.
fn drain(queues: &mut Queues, backlog: u64) -> Result<Duration, Failure> {
    let start = Instant::now();
    while queues.waiting()? > backlog / REST {
        if start.elapsed() > TIME_LIMIT {
            return Err(Failure::new(format!("the archive did not drain within {} s", TIME_LIMIT.as_secs())));
        }
        thread::sleep(POLL);
    }
    Ok(start.elapsed())
}

/// Process that is stopped by a signal. It is resumed on drop.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: i32) -> Result<Self, Failure> {
        let failed = |reason: &dyn std::fmt::Display| Failure::new(format!("--sql: process {pid}: {reason}"));
        let pid = Pid::from_raw(pid).ok_or_else(|| failed(&"is not a process id"))?;
        kill_process(pid, Signal::STOP).map_err(|error| failed(&error))?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Fails only if the process has ended, which the nodes report.
        let _ended = kill_process(self.0, Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn stopped_process_continues_on_drop() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let is_stopped = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
        let eventually = |stopped| {
            (0..1000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                is_stopped() == stopped
            })
        };
        let process = Stopped::stop(pid as i32).unwrap();
        assert!(eventually(true));
        drop(process);
        assert!(eventually(false));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Stopped::stop(pid as i32).is_err_and(|failure| failure.sentence.contains("--sql: process")));
    }
}
