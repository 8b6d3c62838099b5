//! The deterministic simulation (DESIGN.md 11): the lane, the fold, the projection, the API and the processor as they ship,
//! in several processes, over a model of the log and a model of the provider that do to them whatever a real one may do,
//! and more. Beside it, with the same tools, those who tell: the notifier, over a model of everybody's servers ([`telling`]).
//! One seed decides everything; the same seed always runs the same way.
//!
//! ```text
//! cargo test --test simulation                         some seeds
//! cargo test --test simulation -- --seeds 10000        many
//! cargo test --test simulation -- --seed 4711          one, with its trace
//! cargo test --test simulation -- --telling ...        of those who tell alone (or --charging)
//! cargo test --test simulation -- --planted            is every mistake seen that is made on purpose?
//! ```

mod client;
mod core;
mod door;
mod evidence;
mod gateway;
mod group;
mod history;
mod licence;
mod log;
mod operator;
mod plan;
mod planted;
mod process;
mod provider;
mod random;
mod run;
mod schedule;
mod telling;
mod trace;
mod transactions;
mod world;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use paylog::checker::Checker;
use paylog::schema::Codec;

use planted::Mistake;
use run::{Counts, Judges, Verdict};
use telling::Office;
use trace::Faults;

/// What a plain `cargo test` runs.
const SEEDS: u64 = 200;
/// A planted mistake must be seen in this many seeds.
const PLANTED_SEEDS_MAX: u64 = 2_000;
/// One seed in so many runs twice, and must run the same way.
const TWICE: u64 = 20;
/// Failures that are printed.
const SHOWN_MAX: usize = 20;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Charging,
    Telling,
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    of: Option<Of>,
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    planted: bool,
    mistake: Option<Mistake>,
    /// The harness of other tests was asked for something that is not here.
    nothing: bool,
}

impl Asked {
    /// Whatever `cargo test` passes on to other tests' harnesses is none of ours.
    fn read() -> Result<Self, String> {
        let mut asked = Self { seeds: None, ..Self::default() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64, String> {
                let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
                value.parse().map_err(|_| format!("{arg} needs a number, not {value}"))
            };
            match arg.as_str() {
                "--seeds" => asked.seeds = Some(number()?),
                "--from" => asked.from = number()?,
                "--seed" => asked.seed = Some(number()?),
                "--planted" => asked.planted = true,
                "--charging" => asked.of = Some(Of::Charging),
                "--telling" => asked.of = Some(Of::Telling),
                "--mistake" => {
                    let name = args.next().unwrap_or_default();
                    let found = Mistake::ALL.iter().find(|mistake| format!("{mistake:?}") == name);
                    asked.mistake = Some(*found.ok_or_else(|| format!("there is no planted mistake {name}"))?);
                }
                "--ignored" | "--list" => asked.nothing = true,
                "--test-threads" | "--skip" | "--format" | "--logfile" | "--color" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                filter => asked.nothing |= !"simulation".contains(filter),
            }
        }
        Ok(asked)
    }
}

fn main() -> ExitCode {
    let asked = match Asked::read() {
        Ok(asked) => asked,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    if asked.nothing {
        return ExitCode::SUCCESS;
    }
    // A panic is told as a violation, with its seed; where it was is told here, in a line.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    // Nothing runs on it: what is made for a process wants one.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O");
    let judges = Judges {
        codec: Arc::new(Codec::new().expect("our schemas are schemas")),
        checker: Checker::new().expect("our schemas are schemas"),
        office: Arc::new(Office::new(runtime.handle()).expect("keys and flags that we made")),
    };
    let all = [Of::Charging, Of::Telling].into_iter().filter(|of| asked.of.is_none_or(|asked| asked == *of));
    let good = match (asked.seed, asked.planted) {
        (Some(seed), _) => one(Of::by(asked.of, asked.mistake), seed, asked.mistake, &judges),
        (None, true) => all_planted(&judges),
        (None, false) => {
            // All of them, whatever comes of the first.
            let came: Vec<bool> = all.map(|of| many(of, asked.from, asked.seeds.unwrap_or(SEEDS), &judges)).collect();
            came.into_iter().all(|good| good)
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Of {
    fn by(asked: Option<Self>, mistake: Option<Mistake>) -> Self {
        let of = |mistake: Mistake| if mistake.is_of_telling() { Self::Telling } else { Self::Charging };
        mistake.map(of).or(asked).unwrap_or(Self::Charging)
    }

    fn run(self, seed: u64, mistake: Option<Mistake>, loud: bool, judges: &Judges) -> Verdict {
        match self {
            Self::Charging => run::run(seed, mistake, loud, judges),
            Self::Telling => telling::run(seed, mistake, loud, judges),
        }
    }
}

/// A panic is a verdict too.
fn tried(of: Of, seed: u64, mistake: Option<Mistake>, loud: bool, judges: &Judges) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| of.run(seed, mistake, loud, judges))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![format!("it panicked: {}", text.unwrap_or_default())];
        Verdict { seed, violations, hash: 0, faults: Faults::new(), counts: Counts::default() }
    })
}

fn again(of: Of, seed: u64, mistake: Option<Mistake>) -> String {
    let mistake = mistake.map(|mistake| format!(" --mistake {mistake:?}")).unwrap_or_default();
    let of = if of == Of::Telling { "--telling " } else { "" };
    format!("cargo test --test simulation -- {of}--seed {seed}{mistake}")
}

fn one(of: Of, seed: u64, mistake: Option<Mistake>, judges: &Judges) -> bool {
    let verdict = tried(of, seed, mistake, true, judges);
    print(of, &verdict, mistake);
    verdict.violations.is_empty()
}

fn print(of: Of, verdict: &Verdict, mistake: Option<Mistake>) {
    println!("seed {}: trace {:016x}, {} violations", verdict.seed, verdict.hash, verdict.violations.len());
    verdict.violations.iter().take(SHOWN_MAX).for_each(|violation| println!("  VIOLATION {violation}"));
    if !verdict.violations.is_empty() {
        println!("  again: {}", again(of, verdict.seed, mistake));
    }
}

#[derive(Default)]
struct Total {
    passed: u64,
    failed: u64,
    faults: Faults,
    counts: Counts,
    /// Where a payment stayed open for longest.
    longest_in: u64,
}

impl Total {
    fn add(&mut self, of: Of, verdict: &Verdict) {
        if verdict.violations.is_empty() {
            self.passed += 1;
        } else {
            self.failed += 1;
            if self.failed <= SHOWN_MAX as u64 {
                print(of, verdict, None);
            }
        }
        for (name, count) in &verdict.faults {
            *self.faults.entry(name).or_default() += count;
        }
        let (total, more) = (&mut self.counts, &verdict.counts);
        total.payments += more.payments;
        total.charges += more.charges;
        total.records += more.records;
        total.parked += more.parked;
        total.repeated_ends += more.repeated_ends;
        total.told += more.told;
        total.lines += more.lines;
        if more.longest_open_ms > total.longest_open_ms {
            (total.longest_open_ms, self.longest_in) = (more.longest_open_ms, verdict.seed);
        }
    }
}

fn many(of: Of, from: u64, seeds: u64, judges: &Judges) -> bool {
    let (next, total, began) = (AtomicU64::new(from), Mutex::new(Total::default()), Instant::now());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            let mut verdict = tried(of, seed, None, false, judges);
            if seed % TWICE == 0 && tried(of, seed, None, false, judges).hash != verdict.hash {
                verdict.violations.push("the same seed ran in two ways".to_owned());
            }
            total.lock().expect("nobody panics here").add(of, &verdict);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    let total = total.into_inner().expect("nobody panics here");
    println!("\n{of:?}, faults:");
    total.faults.iter().for_each(|(name, count)| println!("{count:>9}  {name}"));
    let Counts { payments, charges, records, parked, repeated_ends, told, longest_open_ms, lines } = &total.counts;
    println!(
        "\n{seeds} seeds in {:.1} s: {payments} payments, {charges} charges, {parked} parked, {told} told, \
         {records} records, {repeated_ends} repeated ends, {lines} things that happened; longest open after the faults {:.1} s (seed {})",
        began.elapsed().as_secs_f64(),
        *longest_open_ms as f64 / 1e3,
        total.longest_in,
    );
    println!("\n{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

/// Each must be seen.
fn all_planted(judges: &Judges) -> bool {
    let (mut passed, mut failed) = (0, 0);
    for mistake in Mistake::ALL {
        let of = Of::by(None, Some(*mistake));
        let next = AtomicU64::new(0);
        let first: Mutex<Option<Verdict>> = Mutex::new(None);
        let worker = || {
            while first.lock().expect("nobody panics here").is_none() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= PLANTED_SEEDS_MAX {
                    return;
                }
                let verdict = tried(of, seed, Some(*mistake), false, judges);
                // The seed must be clean without the mistake, or it shows nothing.
                if !verdict.violations.is_empty() && tried(of, seed, None, false, judges).violations.is_empty() {
                    first.lock().expect("nobody panics here").get_or_insert(verdict);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
        match first.into_inner().expect("nobody panics here") {
            Some(verdict) => {
                passed += 1;
                println!("seen in seed {:>4}: {mistake:?}: {}", verdict.seed, mistake.text());
                println!("                   {}", verdict.violations[0]);
            }
            None => {
                failed += 1;
                println!("NOT SEEN in {PLANTED_SEEDS_MAX} seeds: {mistake:?}: {}", mistake.text());
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    failed == 0
}
