//! How many connections there may be: in all, and for each user, so that no user can shut the others out.
//!
//! Taken and given back once for a connection, never on the way of a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections a socket takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In all.
    pub(super) all: usize,
    /// For one user.
    pub(super) each: usize,
}

/// The places that are taken on one socket.
#[derive(Debug)]
pub(super) struct Seats {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_uid: BTreeMap<u32, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
    pub(super) welcome: Welcome,
}

/// What a connection that found a place may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// It is served.
    Served,
    /// Its user has too many: it is told so, and ends.
    TurnedAway,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// Takes a place. `None`: there is none, not even to be told so.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut taken = self.taken();
        let mine = taken.by_uid.get(&uid).copied().unwrap_or(0);
        if taken.all >= self.limits.all || mine >= self.limits.each.saturating_add(TOLD_AT_ONCE) {
            return None;
        }
        taken.all += 1;
        taken.by_uid.insert(uid, mine + 1);
        let welcome = if mine < self.limits.each { Welcome::Served } else { Welcome::TurnedAway };
        Some(Seat { seats: Arc::clone(self), uid, welcome })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(mine) = taken.by_uid.get_mut(&self.uid) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

/// How many connections of one user may be told at once that they are too many; further ones are closed.
const TOLD_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::{Limits, Seat, Seats, TOLD_AT_ONCE, Welcome};
    use std::sync::Arc;

    fn welcome(seat: Option<&Seat>) -> Option<Welcome> {
        seat.map(|seat| seat.welcome)
    }

    #[test]
    fn a_user_with_too_many_is_told_so_and_then_shut_out_and_others_are_served() {
        let seats = Seats::new(Limits { all: 100, each: 2 });
        let _two = [seats.take(1).unwrap(), seats.take(1).unwrap()];
        let told: Vec<_> = (0..TOLD_AT_ONCE).map(|_| seats.take(1).unwrap()).collect();
        assert!(told.iter().all(|seat| seat.welcome == Welcome::TurnedAway));
        assert_eq!(welcome(seats.take(1).as_ref()), None);
        assert_eq!(welcome(seats.take(2).as_ref()), Some(Welcome::Served));
    }

    #[test]
    fn all_users_together_have_a_limit() {
        let seats = Seats::new(Limits { all: 2, each: 2 });
        let _two = [seats.take(1).unwrap(), seats.take(2).unwrap()];
        assert_eq!(welcome(seats.take(3).as_ref()), None);
    }

    #[test]
    fn a_place_is_given_back() {
        let seats = Seats::new(Limits { all: 1, each: 1 });
        for _ in 0..3 {
            assert_eq!(welcome(seats.take(1).as_ref()), Some(Welcome::Served));
        }
        let taken = Arc::clone(&seats);
        assert!(taken.taken().by_uid.is_empty());
    }
}
