//! What was published, to whom, and what each follower was told of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// All follow one channel.
    One,
    /// Each follows a channel of its own, and they are published to in turn.
    Each,
    /// Nobody follows: what the publications alone cost.
    None,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Each => "each",
            Self::None => "none",
        }
    }
}

/// Who follows what, and when each publication was sent and answered. Publications have the numbers from 1 on.
pub struct Plan {
    pub shape: Shape,
    pub streams: u64,
    /// So many of them are followed; where nobody follows they are published to nonetheless.
    channels: u64,
    began: Instant,
    /// By number; 0 until it is known.
    sent_us: Vec<AtomicU64>,
    answered_us: Vec<AtomicU64>,
}

impl Plan {
    pub fn new(shape: Shape, streams: u64, channels: u64, publications: u64) -> Self {
        let times = || (0..=publications).map(|_| AtomicU64::new(0)).collect();
        Self { shape, streams, channels, began: Instant::now(), sent_us: times(), answered_us: times() }
    }

    pub fn channel_of_stream(&self, stream: u64) -> u64 {
        if self.shape == Shape::Each { stream } else { 0 }
    }

    pub fn channel_of(&self, number: u64) -> u64 {
        number % self.channels
    }

    /// How many are told of each publication.
    pub fn followers(&self) -> u64 {
        match self.shape {
            Shape::One => self.streams,
            Shape::Each => 1,
            Shape::None => 0,
        }
    }

    pub fn sends(&self, number: u64, at: Instant) {
        self.sent_us[number as usize].store(self.since_began(at), Ordering::Relaxed);
    }

    pub fn answered(&self, number: u64, at: Instant) {
        self.answered_us[number as usize].store(self.since_began(at), Ordering::Relaxed);
    }

    /// Had `first` been answered when `then` was sent? Only of such two is it known which came first.
    fn was_answered_before(&self, first: u64, then: u64) -> bool {
        let answered = self.answered_us[first as usize].load(Ordering::Relaxed);
        answered > 0 && answered < self.sent_us[then as usize].load(Ordering::Relaxed)
    }

    fn since_began(&self, at: Instant) -> u64 {
        at.duration_since(self.began).as_micros() as u64
    }

    fn latency_us(&self, number: u64, at: Instant) -> u32 {
        let sent = self.sent_us[number as usize].load(Ordering::Relaxed);
        u32::try_from(self.since_began(at).saturating_sub(sent)).unwrap_or(u32::MAX)
    }
}

/// What one stream was told: a bit for each publication of its channel.
#[derive(Default)]
pub struct Page {
    bits: Vec<u64>,
    last: u64,
}

#[derive(Default)]
pub struct Tally {
    pub ready: u64,
    pub delivered: u64,
    pub duplicated: u64,
    /// Told after one of the same channel that was sent when it had been answered.
    pub reordered: u64,
    pub bytes: u64,
    pub latencies_us: Vec<u32>,
    pub last_at: Option<Instant>,
    /// Streams that are no more, and why.
    pub broken: Vec<String>,
}

impl Tally {
    pub fn told(&mut self, plan: &Plan, stream: u64, page: &mut Page, number: u64, at: Instant) -> anyhow::Result<()> {
        anyhow::ensure!(number > 0 && number < plan.sent_us.len() as u64, "publication {number} was not made");
        anyhow::ensure!(
            plan.channel_of(number) == plan.channel_of_stream(stream),
            "publication {number} was not for stream {stream}"
        );
        let index = (number / plan.channels) as usize;
        let (word, bit) = (index / 64, 1 << (index % 64));
        if page.bits.len() <= word {
            page.bits.resize(word + 1, 0);
        }
        if page.bits[word] & bit != 0 {
            self.duplicated += 1;
            return Ok(());
        }
        page.bits[word] |= bit;
        self.reordered += u64::from(number < page.last && plan.was_answered_before(number, page.last));
        page.last = page.last.max(number);
        self.delivered += 1;
        self.latencies_us.push(plan.latency_us(number, at));
        self.last_at = Some(at);
        Ok(())
    }

    /// A new beginning, for the streams as they are.
    pub fn restart(&mut self) {
        let (ready, broken) = (self.ready, std::mem::take(&mut self.broken));
        *self = Self { ready, broken, ..Self::default() };
    }
}

/// In milliseconds, of what is sorted.
pub fn quantile_ms(sorted_us: &[u32], per_mille: usize) -> f64 {
    let index = (sorted_us.len() * per_mille / 1000).min(sorted_us.len().saturating_sub(1));
    sorted_us.get(index).map_or(f64::NAN, |us| Duration::from_micros(u64::from(*us)).as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Page, Plan, Shape, Tally, quantile_ms};

    #[test]
    fn each_publication_is_counted_once_for_each_follower_and_its_place_is_looked_at() {
        let plan = Plan::new(Shape::Each, 3, 3, 200);
        let (mut tally, mut page) = (Tally::default(), Page::default());
        let after = |ms| plan.began + Duration::from_millis(ms);
        plan.answered(7, after(10));
        plan.sends(199, after(20));
        plan.answered(10, after(30));
        for number in [1, 4, 199, 7, 10, 13, 4] {
            tally.told(&plan, 1, &mut page, number, Instant::now()).unwrap();
        }
        assert_eq!((tally.delivered, tally.duplicated), (6, 1));
        assert_eq!(tally.reordered, 1, "7 was answered before 199 was sent; 10 and 13 were under way with it");
        for (stream, number) in [(1, 2), (0, 0), (0, 201)] {
            assert!(tally.told(&plan, stream, &mut page, number, Instant::now()).is_err(), "{number}");
        }
    }

    #[test]
    fn a_quantile_is_a_latency_that_was_seen() {
        let sorted: Vec<u32> = (1..=1000).map(|n| n * 1000).collect();
        assert_eq!((quantile_ms(&sorted, 500), quantile_ms(&sorted, 990)), (501.0, 991.0));
        assert!(quantile_ms(&[], 500).is_nan() && quantile_ms(&[7000], 990) == 7.0);
    }
}
