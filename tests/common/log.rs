//! Init's lines, as they come.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::SOON;

/// One line of init's: `kios: [s.mmm] text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since power-on.
    pub at: u64,
    /// What follows the time.
    pub text: String,
}

impl Line {
    /// Reads a line. None when it is not of that form, to the letter.
    pub fn parse(line: &str) -> Option<Line> {
        let (time, text) = line.strip_prefix("kios: [")?.split_once("] ")?;
        let (seconds, millis) = time.split_once('.')?;
        let plain = millis.len() == 3 && millis.bytes().chain(seconds.bytes()).all(|byte| byte.is_ascii_digit());
        let at = seconds.parse::<u64>().ok()? * 1_000 + millis.parse::<u64>().ok()?;
        (plain && !text.is_empty()).then(|| Line { at, text: text.into() })
    }

    /// The number between `before` and `after`, such as a pid or a time.
    pub fn number(&self, before: &str, after: &str) -> u64 {
        let found = self.text.split_once(before).and_then(|(_, rest)| rest.split_once(after)?.0.parse().ok());
        found.unwrap_or_else(|| panic!("no number between {before:?} and {after:?}: {}", self.text))
    }
}

#[derive(Default)]
struct Shared {
    lines: Mutex<(Vec<Line>, bool)>,
    news: Condvar,
}

/// All lines read so far. A thread reads them, so that a pipe never is full.
pub struct Log {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads from `source` until its end. A line that is not init's panics the reader, which [`Log::end`] passes on.
    pub fn new(source: BufReader<impl Read + Send + 'static>) -> Log {
        let shared = Arc::new(Shared::default());
        let to = shared.clone();
        let reader = std::thread::spawn(move || {
            for line in source.lines() {
                let Ok(line) = line else { break };
                println!("{line}");
                let parsed = Line::parse(&line);
                let mut lines = to.lines.lock().unwrap();
                lines.0.push(parsed.unwrap_or_else(|| Line { at: 0, text: format!("NOT A LINE OF INIT: {line}") }));
                drop(lines);
                to.news.notify_all();
            }
            to.lines.lock().unwrap().1 = true;
            to.news.notify_all();
        });
        Log { shared, reader: Some(reader) }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lines.lock().unwrap().0.clone()
    }

    /// Whether a line so far has `text` in it.
    pub fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.text.contains(text))
    }

    /// Whether a line so far begins with `text`.
    pub fn begins(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.text.starts_with(text))
    }

    /// Waits for a line with `text` in it.
    pub fn expect(&self, text: &str) -> Line {
        self.expect_after(0, text).1
    }

    /// Waits for a line with `text` in it, at `from` or later; its place and itself.
    pub fn expect_after(&self, from: usize, text: &str) -> (usize, Line) {
        self.expect_within(SOON, from, text)
    }

    /// As [`Log::expect_after`], with another limit.
    pub fn expect_within(&self, limit: Duration, from: usize, text: &str) -> (usize, Line) {
        let end = Instant::now() + limit;
        let mut lines = self.shared.lines.lock().unwrap();
        loop {
            if let Some(at) = lines.0.iter().skip(from).position(|line| line.text.contains(text)) {
                return (from + at, lines.0[from + at].clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 {
                let seen: Vec<_> = lines.0.iter().map(|line| format!("{} {}", line.at, line.text)).collect();
                drop(lines);
                panic!("no line {text:?} after {from} within {limit:?}; seen:\n{}", seen.join("\n"));
            }
            lines = self.shared.news.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until nobody can write any more; then all lines.
    pub fn end(&mut self) -> Vec<Line> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reader of init's lines");
        }
        self.lines()
    }
}
