//! What happened, in order, as one number: two runs of a seed must agree in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A running digest; with `print` each event is also a line on standard error, so that two runs can be compared.
pub struct Trace {
    print: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    digest: DefaultHasher,
    events: u64,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace { print, state: Mutex::default() }
    }

    pub fn event(&self, what: &str, detail: &str) {
        self.add(what, detail, &[]);
    }

    pub fn bytes(&self, what: &str, bytes: &[u8]) {
        self.add(what, "", bytes);
    }

    fn add(&self, what: &str, detail: &str, bytes: &[u8]) {
        let now = simulated_time();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (now, what, detail, bytes).hash(&mut state.digest);
        state.events += 1;
        if self.print {
            let digest = state.digest.finish();
            eprintln!("{:>12} {digest:016x} {what} {detail} {} bytes", now.as_micros(), bytes.len());
        }
    }

    pub fn digest(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).digest.finish()
    }

    pub fn events(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).events
    }
}

fn simulated_time() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
