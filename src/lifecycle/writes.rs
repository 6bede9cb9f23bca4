//! How often a secret was written in the last day: AWS keeps about a hundred versions and removes none younger than that.
//!
//! Counted by the hour, so that the count is small enough to be kept with the mark, and survives a restart.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The writes of the last 24 hours, by the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Writes {
    /// The hour of the last write, counted from the epoch.
    hour: i64,
    /// Writes in that hour and in each of the 23 before it.
    counts: [u8; HOURS],
}

const HOURS: usize = 24;
const MILLIS: i64 = 3_600_000;

impl Writes {
    /// One more write.
    #[must_use]
    pub fn and_one(self, now: Timestamp) -> Self {
        let mut moved = self.moved_to(now);
        if let Some(first) = moved.counts.first_mut() {
            *first = first.saturating_add(1);
        }
        moved
    }

    /// How many there were in the last 24 hours, to the hour.
    #[must_use]
    pub fn of_the_day(self, now: Timestamp) -> u32 {
        self.moved_to(now).counts.iter().copied().map(u32::from).sum()
    }

    fn moved_to(self, now: Timestamp) -> Self {
        let hour = now.millis().div_euclid(MILLIS);
        // A clock that was set back counts into the newest hour that was seen.
        let Ok(passed) = usize::try_from(hour.saturating_sub(self.hour)) else { return self };
        let mut counts = [0; HOURS];
        for (count, old) in counts.iter_mut().skip(passed).zip(self.counts) {
            *count = old;
        }
        Self { hour, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::Writes;
    use crate::time::Timestamp;

    #[test]
    fn writes_count_for_a_day_and_then_no_more() {
        let at = |hour: i64| Timestamp::from_seconds(1_000_000 * 3600 + hour * 3600);
        let mut writes = Writes::default();
        for hour in 0..48 {
            writes = writes.and_one(at(hour)).and_one(at(hour));
            let expected = 2 * u32::try_from(hour + 1).unwrap().min(24);
            assert_eq!(writes.of_the_day(at(hour)), expected, "hour {hour}");
        }
        assert_eq!(writes.of_the_day(at(47 + 23)), 2);
        assert_eq!(writes.of_the_day(at(47 + 24)), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let late = Timestamp::from_seconds(10_000_000);
        let writes = Writes::default().and_one(late);
        assert_eq!(writes.of_the_day(Timestamp::EPOCH), 1);
        assert_eq!(writes.and_one(Timestamp::EPOCH).of_the_day(late), 2);
    }
}
