//! Sessions of signed-in operators, and sign-ins under way. In memory alone: a restart signs everybody out.
//!
//! A session is filed under the hash of its cookie, so that this table holds nothing that a browser could present.

use super::operator::Token;
use crate::engine::{Clock, Entropy};
use crate::lifecycle::{Frozen, Person};
use crate::secret::{StateToken, same_secret};
use crate::time::Timestamp;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// All sessions, and all sign-ins under way.
pub(super) struct Sessions {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    sessions: BTreeMap<Key, Session>,
    arrivals: BTreeMap<Key, Arrival>,
}

type Key = [u8; 32];

struct Session {
    person: Arc<Person>,
    token: Token,
    began: Timestamp,
    seen: Timestamp,
}

/// A sign-in under way.
pub(super) struct Arrival {
    /// What its request froze.
    pub(super) frozen: Frozen,
    /// Where to go afterwards, a path of ours.
    pub(super) next: String,
    cookie: Key,
    expires_at: Timestamp,
}

/// Whether a request counts as a sign of life. A page that polls by itself is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Life,
    None,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, tables: Mutex::default() }
    }

    /// Opens a session; gives the value of its cookie.
    pub(super) fn open(&self, person: Person) -> String {
        let (value, now) = (self.text(), self.clock.now());
        let session =
            Session { person: Arc::new(person), token: Token::new(self.text()), began: now, seen: now };
        let mut tables = self.tables(now);
        let oldest = tables.sessions.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key);
        if let Some(oldest) = oldest.filter(|_| tables.sessions.len() >= MOST) {
            tables.sessions.remove(&oldest);
        }
        tables.sessions.insert(key(&value), session);
        value
    }

    /// Who is signed in with a cookie, and the token that their forms carry.
    pub(super) fn find(&self, cookie: &str, sign: Sign) -> Option<(Arc<Person>, Token)> {
        let now = self.clock.now();
        let mut tables = self.tables(now);
        let session = tables.sessions.get_mut(&key(cookie))?;
        if sign == Sign::Life {
            session.seen = now;
        }
        Some((Arc::clone(&session.person), session.token.clone()))
    }

    /// Ends a session.
    pub(super) fn close(&self, cookie: &str) {
        self.tables(self.clock.now()).sessions.remove(&key(cookie));
    }

    /// Files a sign-in under its state; gives the value of the cookie that binds it to this browser.
    pub(super) fn expect(&self, state: &StateToken, frozen: Frozen, next: String) -> String {
        let (value, now) = (self.text(), self.clock.now());
        let arrival = Arrival { frozen, next, cookie: key(&value), expires_at: now.plus(Self::SIGN_IN) };
        let mut tables = self.tables(now);
        let oldest =
            tables.arrivals.iter().min_by_key(|(_, arrival)| arrival.expires_at).map(|(key, _)| *key);
        if let Some(oldest) = oldest.filter(|_| tables.arrivals.len() >= MOST) {
            tables.arrivals.remove(&oldest);
        }
        tables.arrivals.insert(key(state.expose_secret()), arrival);
        value
    }

    /// Takes a sign-in out, once, for the browser that began it. Another browser leaves it as it was.
    pub(super) fn arrive(&self, state: &StateToken, cookie: Option<&str>) -> Option<Arrival> {
        let mut tables = self.tables(self.clock.now());
        let state = key(state.expose_secret());
        let bound = tables.arrivals.get(&state).map(|arrival| arrival.cookie)?;
        if !cookie.is_some_and(|cookie| same_secret(&key(cookie), &bound)) {
            return None;
        }
        tables.arrivals.remove(&state)
    }

    /// How long a sign-in may take.
    pub(super) const SIGN_IN: Duration = Duration::from_secs(600);
    /// How long a session lasts at most.
    pub(super) const LIFE: Duration = Duration::from_secs(3600);

    /// A text of 192 random bits.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.entropy.random())
    }

    /// The tables, without what is over.
    fn tables(&self, now: Timestamp) -> MutexGuard<'_, Tables> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables
            .sessions
            .retain(|_, session| now < session.began.plus(Self::LIFE) && now < session.seen.plus(IDLE));
        tables.arrivals.retain(|_, arrival| now < arrival.expires_at);
        tables
    }
}

fn key(text: &str) -> Key {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    sum
}

/// How long a session outlives its last request.
const IDLE: Duration = Duration::from_secs(1200);
/// The oldest goes when there would be more.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{Sessions, Sign};
    use crate::edge::web::staff::{Counting, Moving, frozen, person};
    use crate::secret::StateToken;
    use std::sync::Arc;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sessions() -> (Sessions, Arc<Moving>) {
        let clock = Arc::new(Moving::default());
        (Sessions::new(clock.clone(), Arc::new(Counting::default())), clock)
    }

    #[test]
    fn a_session_ends_after_twenty_idle_minutes_and_after_an_hour() {
        let (sessions, clock) = sessions();
        let cookie = sessions.open(person("ann", &["secops"]));
        assert_eq!(cookie.len(), 32);
        for _ in 0..3 {
            clock.pass(19 * MINUTE);
            assert!(sessions.find(&cookie, Sign::Life).is_some());
        }
        clock.pass(3 * MINUTE);
        assert!(sessions.find(&cookie, Sign::Life).is_none());
        let cookie = sessions.open(person("ann", &[]));
        clock.pass(19 * MINUTE);
        assert!(sessions.find(&cookie, Sign::None).is_some());
        clock.pass(MINUTE);
        assert!(sessions.find(&cookie, Sign::Life).is_none());
    }

    #[test]
    fn each_session_has_its_own_token_and_ends_by_itself() {
        let (sessions, _clock) = sessions();
        let (one, two) = (sessions.open(person("ann", &[])), sessions.open(person("ann", &[])));
        let token = |cookie: &str| sessions.find(cookie, Sign::Life).unwrap().1;
        assert!(!token(&one).fits(token(&two).shown()) && token(&one).fits(token(&one).shown()));
        sessions.close(&one);
        assert!(sessions.find(&one, Sign::Life).is_none() && sessions.find(&two, Sign::Life).is_some());
        assert!(sessions.find("", Sign::Life).is_none());
    }

    #[test]
    fn a_sign_in_ends_once_and_in_its_own_browser() {
        let (sessions, clock) = sessions();
        let state = StateToken::new("state");
        let cookie = sessions.expect(&state, frozen(), "/activity".into());
        assert!(sessions.arrive(&state, None).is_none());
        assert!(sessions.arrive(&state, Some("other")).is_none());
        assert_eq!(sessions.arrive(&state, Some(&cookie)).unwrap().next, "/activity");
        assert!(sessions.arrive(&state, Some(&cookie)).is_none());
        let cookie = sessions.expect(&state, frozen(), "/".into());
        clock.pass(10 * MINUTE);
        assert!(sessions.arrive(&state, Some(&cookie)).is_none());
    }
}
