//! Medians over the rounds, and paylog beside the better of the others, measure by measure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

use crate::dialect::Dialect;
use crate::row::Row;

const OURS: [Dialect; 2] = [Dialect::Paylog, Dialect::PaylogInMemory];
const PEERS: [Dialect; 2] = [Dialect::Nchan, Dialect::Centrifuge];

struct Measure {
    name: &'static str,
    /// Less is better, in all of them.
    of: fn(&Row) -> f64,
    /// Is it of anything where nobody follows?
    needs_streams: bool,
}

const MEASURES: [Measure; 6] = [
    Measure { name: "p50_ms", of: |row| row.p50_ms, needs_streams: true },
    Measure { name: "p99_ms", of: |row| row.p99_ms, needs_streams: true },
    Measure { name: "answer_p50_ms", of: |row| row.answer_p50_ms, needs_streams: false },
    Measure { name: "answer_p99_ms", of: |row| row.answer_p99_ms, needs_streams: false },
    Measure { name: "cpu_s", of: |row| row.cpu_s, needs_streams: false },
    Measure { name: "stream_kib", of: |row| row.stream_kib, needs_streams: true },
];

/// What is compared: shape, streams, rate.
type Case = (String, u64, u64);

struct Line {
    case: Case,
    measure: &'static str,
    /// By round.
    ours: [Vec<f64>; 2],
    peers: [Vec<f64>; 2],
}

/// Fails if any server did not tell all of it, once and in order.
pub fn run(rows: &Path, medians: Option<&Path>) -> anyhow::Result<()> {
    let rows = Row::all(rows)?;
    let lines = lines(&rows);
    print!("{}", table(&lines));
    if let Some(path) = medians {
        std::fs::write(path, csv(&lines)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let wrong: Vec<&Row> = rows.iter().filter(|row| !row.is_whole()).collect();
    for row in &wrong {
        println!("NOT WHOLE: {}", row.told());
    }
    anyhow::ensure!(wrong.is_empty(), "{} measurements were not whole", wrong.len());
    Ok(())
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let cases: BTreeSet<Case> = rows.iter().map(case).collect();
    let mut lines = Vec::new();
    for case in cases {
        let measures = MEASURES.iter().filter(|measure| case.1 > 0 || !measure.needs_streams);
        lines.extend(measures.map(|measure| line(rows, &case, measure.name, &measure.of)));
        let alone = ("none".to_owned(), 0, case.2);
        if case != alone && rows.iter().any(|row| self::case(row) == alone) {
            let fan_out = |row: &Row| row.cpu_s - median(&of(rows, &row.server, &alone, &|row| row.cpu_s));
            lines.push(line(rows, &case, "cpu_s less publications alone", &fan_out));
        }
    }
    lines
}

fn case(row: &Row) -> Case {
    (row.shape.clone(), row.streams, row.rate)
}

fn line(rows: &[Row], case: &Case, measure: &'static str, value: &dyn Fn(&Row) -> f64) -> Line {
    let values = |server: Dialect| of(rows, server.name(), case, value);
    Line { case: case.clone(), measure, ours: OURS.map(values), peers: PEERS.map(values) }
}

/// A server's values in the order of the rounds.
fn of(rows: &[Row], server: &str, case: &Case, value: &dyn Fn(&Row) -> f64) -> Vec<f64> {
    let mut rows: Vec<&Row> = rows.iter().filter(|row| row.server == server && self::case(row) == *case).collect();
    rows.sort_by_key(|row| row.round);
    rows.into_iter().map(value).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

impl Line {
    /// Each of ours to the better of the others; below 1 it is better than both.
    fn ratios(&self) -> [f64; 2] {
        let best = self.peers.iter().map(|peer| median(peer)).fold(f64::NAN, f64::min);
        self.ours.each_ref().map(|ours| median(ours) / best)
    }

    fn servers(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
        let values = self.ours.iter().chain(&self.peers);
        OURS.iter().chain(&PEERS).zip(values).map(|(server, values)| (server.name(), values.as_slice()))
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let (shape, streams, rate) = &line.case;
        let what = format!("{shape} {streams} {rate}/s {}", line.measure);
        let _ = write!(text, "{what:<52}");
        for (server, values) in line.servers().filter(|(_, values)| !values.is_empty()) {
            let _ = write!(text, " {server} {}", shown(values));
        }
        let _ = write!(text, " ratio");
        for ratio in line.ratios().iter().filter(|ratio| !ratio.is_nan()) {
            let _ = write!(text, " {ratio:.2}");
        }
        text.push('\n');
    }
    text
}

/// The median, and each round's.
fn shown(values: &[f64]) -> String {
    let rounds: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    format!("{:.2} [{}]", median(values), rounds.join(" "))
}

fn csv(lines: &[Line]) -> String {
    let mut text = "shape,streams,rate,measure,paylog,paylog_in_memory,nchan,centrifuge,paylog_to_the_better,\
                    paylog_in_memory_to_the_better\n"
        .to_owned();
    for line in lines {
        let (shape, streams, rate) = &line.case;
        let medians = line.servers().map(|(_, values)| median(values)).chain(line.ratios());
        let medians: Vec<String> = medians.map(|value| value.to_string()).collect();
        let _ = writeln!(text, "{shape},{streams},{rate},{},{}", line.measure, medians.join(","));
    }
    text
}
