//! When to spend: the arithmetic of refreshing early, backing off, and presenting a token again that is in doubt.
//!
//! Pure: times in, a time out. Spread comes from a seed, so that what falls due together does not fire together.

use super::Rotation;
use crate::time::Timestamp;
use std::time::Duration;

/// When to refresh a token that lives from `from` to `end`: at `permille` thousandths of its life, less up to a twentieth of it.
#[must_use]
pub(super) fn refresh_at(from: Timestamp, end: Timestamp, permille: u16, seed: u64) -> Timestamp {
    let life = end.since(from);
    let at = scaled(life, u64::from(permille.min(1000)));
    let early = scaled(life, 50 * (seed % 1024) / 1024);
    from.plus(at.saturating_sub(early))
}

/// When a token in doubt may be presented as the last chance: shortly before the lease ends.
#[must_use]
pub(super) fn last_chance(from: Timestamp, end: Timestamp) -> Timestamp {
    end.minus((end.since(from) / 10).min(Duration::from_secs(60)))
}

/// How long to wait after `attempt` failures (from 1): doubling from `base` to `most`, of which up to half is taken off.
#[must_use]
pub(super) fn backoff(attempt: u32, base: Duration, most: Duration, seed: u64) -> Duration {
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = base.saturating_mul(factor.max(1)).min(most);
    full.saturating_sub(scaled(full, 500 * (mixed(seed, attempt) % 1024) / 1024))
}

/// A regular interval, less up to a tenth of it, so that those of many integrations drift apart.
#[must_use]
pub(super) fn nearly(every: Duration, seed: u64, count: u32) -> Duration {
    every.saturating_sub(scaled(every, 100 * (mixed(seed, count) % 1024) / 1024))
}

/// A place within a regular interval: for what a start finds, all at once.
#[must_use]
pub(super) fn somewhen(every: Duration, seed: u64) -> Duration {
    scaled(every, 1000 * (mixed(seed, 0) % 1024) / 1024)
}

/// A token in doubt: it was presented and nobody knows whether it was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubtful {
    /// When it was first presented.
    pub(super) since: Timestamp,
    /// How often it was presented.
    pub(super) attempts: u32,
    /// From when to when the lease that is served lives, if one is.
    pub(super) lease: Option<(Timestamp, Option<Timestamp>)>,
    /// Not before this time: the provider asked for it, or nothing could be sent.
    pub(super) not_before: Timestamp,
}

/// When a token in doubt is presented again (design §3, "In doubt").
///
/// Where the old token stays valid: with backoff. Within the provider's grace: after 0.5, 1, 2, 4 … s. Else held
/// while a lease lives, presented shortly before it ends, and after that, with nothing left to lose, ever more seldom.
/// `None`: not at all while the lease lives, which has no end.
#[must_use]
pub(super) fn present_again(
    rotation: Rotation,
    doubt: &Doubtful,
    now: Timestamp,
    seed: u64,
) -> Option<Timestamp> {
    let after = |wait| now.plus(wait).max(doubt.not_before);
    match rotation {
        Rotation::None | Rotation::ReuseOk => {
            Some(after(backoff(doubt.attempts, Duration::from_secs(1), SELDOM, seed)))
        }
        Rotation::Grace(window) => {
            let half = Duration::from_millis(500);
            let again = after(half.saturating_mul(1 << doubt.attempts.saturating_sub(1).min(16)));
            let in_time = is_graced(window, doubt.since, now) && is_graced(window, doubt.since, again);
            if in_time { Some(again) } else { held(doubt, now, seed) }
        }
        Rotation::Strict => held(doubt, now, seed),
    }
}

/// Whether a token in doubt may be presented at this very moment: its time came a while ago, and the disk may have been slow.
#[must_use]
pub(super) fn may_present(rotation: Rotation, doubt: &Doubtful, now: Timestamp) -> bool {
    let last = || match doubt.lease {
        Some((from, Some(end))) => now >= last_chance(from, end),
        Some((_, None)) => false,
        None => true,
    };
    match rotation {
        Rotation::None | Rotation::ReuseOk => true,
        Rotation::Grace(window) => is_graced(window, doubt.since, now) || last(),
        Rotation::Strict => last(),
    }
}

/// A clock that was set back says nothing about the grace: then there is none.
fn is_graced(window: Duration, since: Timestamp, at: Timestamp) -> bool {
    since <= at && at < since.plus(window)
}

fn held(doubt: &Doubtful, now: Timestamp, seed: u64) -> Option<Timestamp> {
    match doubt.lease {
        Some((_, None)) => None,
        Some((from, Some(end))) if now < last_chance(from, end) => {
            Some(last_chance(from, end).max(doubt.not_before))
        }
        Some(_) | None => {
            let wait = backoff(doubt.attempts, Duration::from_secs(5), HOUR, seed);
            Some(now.plus(wait).max(doubt.not_before))
        }
    }
}

/// A seed for one integration: the same on every start, another for each.
#[must_use]
pub(super) fn seed_of(name: &str) -> u64 {
    // FNV-1a: spread is all that is wanted.
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The longest that anything transient waits.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const SELDOM: Duration = Duration::from_secs(300);

fn scaled(span: Duration, permille: u64) -> Duration {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / 1000 * permille + millis % 1000 * permille / 1000)
}

fn mixed(seed: u64, attempt: u32) -> u64 {
    (seed ^ u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::{Doubtful, backoff, last_chance, may_present, present_again, refresh_at, seed_of};
    use crate::lifecycle::Rotation;
    use crate::time::Timestamp;
    use std::time::Duration;

    const T0: Timestamp = Timestamp::from_seconds(0);
    const END: Timestamp = Timestamp::from_seconds(3600);

    fn in_doubt(attempts: u32, lease: Option<(Timestamp, Option<Timestamp>)>) -> Doubtful {
        Doubtful { since: T0, attempts, lease, not_before: Timestamp::EPOCH }
    }

    fn seconds(at: Timestamp) -> i64 {
        at.millis() / 1000
    }

    #[test]
    fn refresh_falls_within_a_twentieth_before_its_share_of_life() {
        assert_eq!(seconds(refresh_at(T0, END, 700, 0)), 2520);
        for seed in 0..2000 {
            let at = seconds(refresh_at(T0, END, 700, seed));
            assert!((2340..=2520).contains(&at), "{at}");
        }
        assert_eq!(refresh_at(END, T0, 700, 5), END);
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_is_spread() {
        let wait = |attempt, seed| backoff(attempt, Duration::from_secs(1), Duration::from_secs(60), seed);
        for attempt in 1..40 {
            let full = Duration::from_secs(60).min(Duration::from_secs(1 << (attempt - 1).min(10)));
            for seed in [0, 1, 77, u64::MAX] {
                assert!(wait(attempt, seed) <= full && wait(attempt, seed) >= full / 2, "{attempt}");
            }
        }
        assert_ne!(wait(9, seed_of("a")), wait(9, seed_of("b")));
    }

    #[test]
    fn a_strict_token_in_doubt_is_held_until_shortly_before_the_lease_ends() {
        let doubt = in_doubt(1, Some((T0, Some(END))));
        let at = present_again(Rotation::Strict, &doubt, T0.plus(Duration::from_secs(10)), 0).unwrap();
        assert_eq!(at, last_chance(T0, END));
        assert_eq!(seconds(at), 3540);
    }

    #[test]
    fn beside_a_lease_without_an_end_a_strict_token_in_doubt_is_not_presented() {
        let doubt = in_doubt(1, Some((T0, None)));
        assert_eq!(present_again(Rotation::Strict, &doubt, END, 0), None);
        assert!(!may_present(Rotation::Strict, &doubt, END));
    }

    #[test]
    fn with_nothing_left_to_lose_it_is_presented_ever_more_seldom() {
        let late = END.plus(Duration::from_secs(1));
        let mut last = Duration::ZERO;
        for attempts in [1, 4, 8, 30] {
            let wait =
                present_again(Rotation::Strict, &in_doubt(attempts, None), late, 0).unwrap().since(late);
            assert!(wait > last && wait <= super::HOUR);
            last = wait;
        }
    }

    #[test]
    fn grace_is_used_while_it_lasts_and_not_after() {
        let grace = Rotation::Grace(Duration::from_secs(30));
        let doubt = |attempts| in_doubt(attempts, Some((T0, Some(END))));
        let again = |doubt: &Doubtful, now| present_again(grace, doubt, now, 0).unwrap();
        for (attempts, millis) in [(1, 500), (2, 1000), (3, 2000), (4, 4000)] {
            assert_eq!(again(&doubt(attempts), T0), Timestamp::from_millis(millis));
        }
        let outside = T0.plus(Duration::from_secs(29));
        assert_eq!(again(&doubt(3), outside), last_chance(T0, END));
        let asked = Doubtful { not_before: T0.plus(Duration::from_secs(40)), ..doubt(1) };
        assert_eq!(again(&asked, T0), last_chance(T0, END), "the provider's wish outlasts its grace");
        let set_back = T0.minus(Duration::from_secs(60));
        assert_eq!(again(&doubt(1), set_back), last_chance(T0, END), "the clock was set back");
        assert!(may_present(grace, &doubt(1), outside));
        assert!(!may_present(grace, &doubt(1), T0.plus(Duration::from_secs(30))));
    }
}
