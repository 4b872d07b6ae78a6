use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// Writer that blocks until the test permits a write. The test determines the result of each write.
struct Gate {
    permits: Receiver<io::Result<()>>,
    written: SyncSender<String>,
}

impl Write for Gate {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.permits.recv().unwrap_or_else(|_| Err(ErrorKind::BrokenPipe.into()))?;
        self.written.send(String::from_utf8_lossy(text).into_owned()).unwrap();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_gate() -> (Arc<Lines>, SyncSender<io::Result<()>>, Receiver<String>) {
    let lines = Arc::new(Lines::default());
    let (permit, permits) = sync_channel(0);
    let (sender, written) = sync_channel(64);
    let writer = lines.clone();
    std::thread::spawn(move || {
        writer.write_to(Gate { permits, written: sender }, |dropped| format!("dropped {dropped}\n").into_bytes());
    });
    (lines, permit, written)
}

#[test]
fn a_blocked_stream_drops_and_counts_lines_and_the_log_reports_the_number() {
    let (lines, permit, written) = start_gate();
    lines.push(b"first\n");
    // The writer thread is blocked from here on.
    let began = Instant::now();
    while !lines.buffer.lock().is_writing {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<u8>>();
    for _ in 0..1024 + 7 {
        lines.push(&line);
    }
    assert_eq!(lines.overflowed.load(Ordering::Relaxed), 7);
    assert!(lines.buffer.lock().text.capacity() <= 2 * CAPACITY);
    let began = Instant::now();
    lines.flush(Duration::from_millis(50));
    assert!(began.elapsed() < Duration::from_secs(5), "the end of the process waited for a blocked stream");
    for _ in 0..3 {
        permit.send(Ok(())).unwrap();
    }
    assert_eq!(written.recv().unwrap(), "first\n");
    assert_eq!(written.recv().unwrap().len(), CAPACITY);
    assert_eq!(written.recv().unwrap(), "dropped 7\n");
    lines.flush(Duration::from_secs(10));
    lines.push(b"second\n");
    permit.send(Ok(())).unwrap();
    assert_eq!(written.recv().unwrap(), "second\n");
}

#[test]
fn lines_that_the_stream_rejects_are_counted_and_reported_before_the_next_one() {
    let (lines, permit, written) = start_gate();
    lines.push(b"one\ntwo\n");
    // The first error drops the lines. The second error drops the report about these lines.
    permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
    permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
    lines.flush(Duration::from_secs(10));
    assert_eq!(lines.failed.load(Ordering::Relaxed), 2);
    lines.push(b"three\n");
    permit.send(Ok(())).unwrap();
    permit.send(Ok(())).unwrap();
    assert_eq!([written.recv().unwrap(), written.recv().unwrap()], ["dropped 2\n", "three\n"]);
}

#[test]
fn a_stream_that_is_not_ready_or_interrupted_is_written_to_again() {
    let (lines, permit, written) = start_gate();
    lines.push(b"line\n");
    permit.send(Err(ErrorKind::WouldBlock.into())).unwrap();
    permit.send(Err(ErrorKind::Interrupted.into())).unwrap();
    permit.send(Ok(())).unwrap();
    assert_eq!(written.recv().unwrap(), "line\n");
    lines.flush(Duration::from_secs(10));
    assert_eq!(lines.failed.load(Ordering::Relaxed), 0);
}
