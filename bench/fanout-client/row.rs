//! One measurement, as a line of CSV.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::dialect::Dialect;

macro_rules! row {
    ($($field:ident: $type:ty,)*) => {
        /// The columns are the fields, in this order.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Row { $(pub $field: $type,)* }

        impl Row {
            const HEADER: &[&str] = &[$(stringify!($field)),*];

            fn fields(&self) -> Vec<String> {
                vec![$(self.$field.to_string()),*]
            }

            fn of(mut fields: std::str::Split<'_, char>) -> anyhow::Result<Self> {
                Ok(Self { $($field: {
                    let text = fields.next().with_context(|| format!("there is no {}", stringify!($field)))?;
                    text.parse().with_context(|| format!("{} is {text:?}", stringify!($field)))?
                },)* })
            }
        }
    };
}

row! {
    server: String,
    shape: String,
    streams: u64,
    rate: u64,
    round: u32,
    expected: u64,
    delivered: u64,
    duplicated: u64,
    reordered: u64,
    broken: u64,
    // From when a publication was sent to when a follower had it.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    // To its answer: with paylog it is durable then.
    answer_p50_ms: f64,
    answer_p99_ms: f64,
    // How long after its time a publication was sent, at most.
    late_max_ms: f64,
    window_s: f64,
    cpu_s: f64,
    client_cpu_s: f64,
    before_kib: u64,
    idle_kib: u64,
    // Each stream, silent; and after what was told.
    stream_kib: f64,
    after_stream_kib: f64,
    event_bytes: f64,
}

impl Row {
    /// Was all told, once and, where that is promised, in order?
    pub fn is_whole(&self) -> bool {
        let server = Dialect::from_str(&self.server, false);
        let in_order = self.reordered == 0 || server.is_ok_and(|server| !server.keeps_channels_in_order());
        self.delivered == self.expected && self.duplicated == 0 && in_order && self.broken == 0
    }

    pub fn add(&self, file: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", file.display());
        let mut out = OpenOptions::new().create(true).append(true).open(file).with_context(context)?;
        if out.metadata()?.len() == 0 {
            writeln!(out, "{}", Self::HEADER.join(",")).with_context(context)?;
        }
        writeln!(out, "{}", self.fields().join(",")).with_context(context)
    }

    pub fn all(file: &Path) -> anyhow::Result<Vec<Self>> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut lines = text.lines();
        anyhow::ensure!(lines.next() == Some(&Self::HEADER.join(",")), "{} has other columns", file.display());
        lines.map(|line| Self::of(line.split(','))).collect()
    }

    pub fn told(&self) -> String {
        format!(
            "{:<16} {:<4} {:>5} streams {:>4}/s round {}: {} of {} told, {} twice, {} out of order, {} broken; p50 {:.2} ms, \
             p99 {:.2} ms (answers {:.2}, {:.2}); CPU {:.2} s in {:.1} s, client {:.2} s; {:.1} KiB a stream, {:.1} after",
            self.server,
            self.shape,
            self.streams,
            self.rate,
            self.round,
            self.delivered,
            self.expected,
            self.duplicated,
            self.reordered,
            self.broken,
            self.p50_ms,
            self.p99_ms,
            self.answer_p50_ms,
            self.answer_p99_ms,
            self.cpu_s,
            self.window_s,
            self.client_cpu_s,
            self.stream_kib,
            self.after_stream_kib,
        )
    }
}
