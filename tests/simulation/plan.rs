//! What one seed does: how large the system is, which faults it meets and how often, what the provider promises. Each seed
//! leaves out about half of the kinds of faults, so that none hides behind the others.

use std::time::Duration;

use paylog::gateway::Terms;

use crate::random::Random;

/// The simulation's time 0, in microseconds since 1970: 2026-03-01.
pub const ORIGIN_US: i64 = 1_772_323_200_000_000;

pub const SECOND_US: u64 = 1_000_000;
pub const MINUTE_US: u64 = 60 * SECOND_US;
pub const HOUR_US: u64 = 60 * MINUTE_US;

/// When the broker aborts a transaction that is not ended.
pub const TRANSACTION_TIMEOUT_US: u64 = 10 * SECOND_US;
/// When a member that does not show up is put out of the group.
pub const SESSION_TIMEOUT_US: u64 = 10 * SECOND_US;
/// A clock may be wrong by this much and still be believed.
pub const SKEW_MAX_US: u64 = 30 * SECOND_US;

#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    pub partitions: u32,
    pub processes: usize,
    pub payments: usize,
    /// Steps of the scheduler while there are faults.
    pub steps: usize,
    /// Faults never end: then only safety is judged.
    pub endless: bool,
    pub rates: Rates,
    pub provider: Promises,
}

/// How often, in a thousand occasions.
#[derive(Clone, Default)]
pub struct Rates {
    // the processes
    pub crash: u32,
    pub freeze: u32,
    pub old_store: u32,
    pub outage: u32,
    pub clock_hours: u32,
    // the group
    pub kick: u32,
    pub shuffle: u32,
    pub stale_news: u32,
    // appends of the API
    pub refused_append: u32,
    pub lost_append: u32,
    pub late_append: u32,
    // transactions
    pub failed_delivery: u32,
    pub in_doubt: u32,
    pub stray_end: u32,
    pub late_marker: u32,
    pub hanging: u32,
    pub repeated: u32,
    // reading
    pub slow_tail: u32,
    pub no_answer: u32,
    // the provider
    pub not_sent: u32,
    pub not_executed: u32,
    pub lost_request: u32,
    pub lost_answer: u32,
    pub late_request: u32,
    pub slow_charge: u32,
    pub stored_500: u32,
    /// A repeat is refused for the charge that its key has made: the payment method can be used once.
    pub used_up: u32,
    pub wrong_receipt: u32,
    pub lagging_list: u32,
    // people
    pub conflicting_body: u32,
    pub operator: u32,
}

/// What the provider promises, and how far it uses it.
#[derive(Clone, Copy)]
pub struct Promises {
    pub key_window_us: u64,
    pub has_inquiry: bool,
    pub request_delay_max_us: u64,
    pub charge_takes_max_us: u64,
    pub list_lag_max_us: u64,
}

impl Promises {
    pub fn not_found_final_after_us(&self) -> u64 {
        self.request_delay_max_us + self.charge_takes_max_us + self.list_lag_max_us + SECOND_US
    }

    pub fn terms(&self) -> Terms {
        let final_after = Duration::from_micros(self.not_found_final_after_us());
        Terms {
            key_window: Duration::from_micros(self.key_window_us),
            not_found_final_after: self.has_inquiry.then_some(final_after),
            calls_per_second_max: None,
        }
    }
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let rates = Rates::new(&mut random);
        Self {
            seed,
            partitions: *random.pick(&[1, 2, 2, 3]),
            processes: *random.pick(&[1, 2, 2, 3, 3]),
            payments: random.between(1, 10) as usize,
            steps: random.between(200, 1_200) as usize,
            endless: random.chance(200),
            rates,
            provider: Promises {
                key_window_us: *random.pick(&[1, 2, 24]) * HOUR_US,
                has_inquiry: !random.chance(100),
                request_delay_max_us: random.between(1, 120) * SECOND_US,
                charge_takes_max_us: random.between(1, 60) * SECOND_US,
                list_lag_max_us: random.between(0, 60) * SECOND_US,
            },
        }
    }

    /// A clock that is wrong in the usual way.
    pub fn small_skew(random: &mut Random) -> i64 {
        random.skewed(2 * SKEW_MAX_US) as i64 - SKEW_MAX_US as i64
    }
}

impl Rates {
    fn new(random: &mut Random) -> Self {
        // Half of all kinds of faults never happen in a seed; some of the others are frequent.
        let mut rate = |max: u32| {
            let some = u64::from(max);
            if random.chance(450) { 0 } else { random.between(some / 20, some) as u32 }
        };
        Self {
            // in a thousand steps
            crash: rate(12),
            freeze: rate(12),
            outage: rate(4),
            clock_hours: rate(5),
            kick: rate(8),
            hanging: rate(4),
            operator: rate(60),
            // in a thousand occasions
            old_store: rate(600),
            shuffle: rate(700),
            stale_news: rate(800),
            refused_append: rate(300),
            lost_append: rate(300),
            late_append: rate(300),
            failed_delivery: rate(400),
            in_doubt: rate(500),
            stray_end: rate(600),
            late_marker: rate(800),
            repeated: rate(200),
            slow_tail: rate(800),
            no_answer: rate(500),
            not_sent: rate(400),
            not_executed: rate(400),
            lost_request: rate(400),
            lost_answer: rate(600),
            late_request: rate(700),
            slow_charge: rate(500),
            stored_500: rate(200),
            used_up: rate(300),
            wrong_receipt: rate(150),
            lagging_list: rate(900),
            conflicting_body: rate(500),
        }
    }
}
