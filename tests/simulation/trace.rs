//! What happened, step by step, as a hash that two runs of one seed must agree on; and as text, for a person who repeats
//! one. Nothing random that the product mints (event ids, request ids) goes into it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// What was done to the system, counted.
pub type Faults = BTreeMap<&'static str, u64>;

#[derive(Default)]
pub struct Trace {
    hash: u64,
    /// Print each line.
    loud: bool,
    pub faults: Faults,
    pub lines: u64,
}

impl Trace {
    pub fn new(loud: bool) -> Self {
        Self { loud, ..Self::default() }
    }
}

struct Hashing(u64);

impl Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3); // FNV-1a
        }
        Ok(())
    }
}

impl Trace {
    pub fn line(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        self.lines += 1;
        if self.loud {
            println!("{:>13.6} {what}", at_us as f64 / 1e6);
        }
        let mut hashing = Hashing(self.hash ^ 0xcbf2_9ce4_8422_2325 ^ at_us);
        // Writing to a hash cannot fail.
        let _ = hashing.write_fmt(what);
        self.hash = hashing.0;
    }

    pub fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
