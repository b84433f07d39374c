//! What the report says on the screen while it goes on: which case, how far that is, and how long the rest takes.
//!
//! On a terminal, one line that changes; elsewhere, a line for each case.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing is said again before this time has passed.
const EVERY: Duration = Duration::from_millis(200);

static CURRENT: Mutex<Option<Progress>> = Mutex::new(None);

struct Progress {
    is_terminal: bool,
    begun: Instant,
    said: Instant,
    /// How long each case takes, in numbers that only count beside each other.
    weights: Vec<f64>,
    /// The case that goes on.
    case: usize,
    name: String,
}

impl Progress {
    /// How long the rest takes if it goes on like this; `part` of the current case is done.
    fn left(&self, part: f64) -> Option<Duration> {
        let done = self.weights[..self.case].iter().sum::<f64>() + self.weights[self.case] * part;
        let all = self.weights.iter().sum::<f64>();
        let left = self.begun.elapsed().as_secs_f64() * (all - done) / done;
        (done > 0.0).then(|| Duration::try_from_secs_f64(left).ok())?
    }

    fn say(&mut self, what: &str, part: f64) {
        self.said = Instant::now();
        let left = self.left(part).map_or(String::new(), |left| {
            format!(", about {} left", humantime::format_duration(Duration::from_secs(left.as_secs() + 1)))
        });
        let line = format!("[{}/{}] {}{what}{left}", self.case + 1, self.weights.len(), self.name);
        let mut screen = io::stderr().lock();
        // Nobody may be reading: no reason to stop.
        let _ = if self.is_terminal { write!(screen, "\r\x1b[K{line}") } else { writeln!(screen, "{line}") };
    }
}

fn with(act: impl FnOnce(&mut Progress)) {
    if let Some(progress) = &mut *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) {
        act(progress);
    }
}

/// Begins to report on cases of these weights: how long each takes, beside the others.
pub fn begin(weights: Vec<f64>) {
    let now = Instant::now();
    let is_terminal = io::stderr().is_terminal();
    let progress = Progress { is_terminal, begun: now, said: now, weights, case: 0, name: String::new() };
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
}

/// Says that the case with this index begins.
pub fn case(index: usize, name: &str) {
    with(|progress| {
        progress.case = index;
        progress.name = name.into();
        progress.say("", 0.0);
    });
}

/// Says, now and then, that so many rounds of the current case are done.
pub fn round(done: usize, all: usize) {
    with(|progress| {
        if progress.is_terminal && progress.said.elapsed() > EVERY {
            progress.say(&format!(", round {done} of {all}"), done as f64 / all as f64);
        }
    });
}

/// Says, now and then, that so many of `all` are done of something besides the rounds of the current case.
pub fn step(what: &str, done: usize, all: usize) {
    with(|progress| {
        if progress.is_terminal && progress.said.elapsed() > EVERY {
            progress.say(&format!(", {what} {done} of {all}"), 0.0);
        }
    });
}

/// Says something that stays on the screen.
pub fn note(text: &str) {
    let erase = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|it| it.is_terminal);
    eprintln!("{}{text}", if erase { "\r\x1b[K" } else { "" });
}

/// Takes the line off the screen.
pub fn end() {
    if CURRENT.lock().unwrap_or_else(PoisonError::into_inner).take().is_some_and(|progress| progress.is_terminal) {
        eprint!("\r\x1b[K");
    }
}
