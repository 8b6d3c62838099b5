//! The client of `bench/fanout`: follows many streams of one server, publishes to them, and writes down what came of it. The
//! same for every server: what differs between them is in [`dialect`]. It holds the servers to what was published: each
//! message once to each of its followers, in the order of publication.
//!
//!   fanout measure ...            one server, one shape; a line of CSV for each rate
//!   fanout report FILE [MEDIANS]  the medians of such lines, paylog beside the better of the others

mod book;
mod dialect;
mod follow;
mod measure;
mod parser;
mod process;
mod publish;
mod report;
mod row;

use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
enum Cli {
    Measure(measure::MeasureArgs),
    Report {
        /// What `measure` wrote.
        rows: PathBuf,
        /// Where to write the medians, as CSV.
        medians: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Measure(args) => measure::run(&args),
        Cli::Report { rows, medians } => report::run(&rows, medians.as_deref()),
    }
}
