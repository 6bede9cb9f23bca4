//! The words for a consent that ended well: how far it got, and no further.
//!
//! Account names come from the provider: they are cleaned and cut here, and escaped by the template.

use super::pages::Mood;
use crate::engine::{Landed, Landing};
use crate::lifecycle::Account;

/// What a landing page says, and what a program is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// `stored`, `sealed` or `unverified`.
    pub(super) code: &'static str,
    /// The page's mood.
    pub(super) mood: Mood,
    /// One line; also the `message` of the JSON answer.
    pub(super) title: String,
    /// What happened.
    pub(super) happened: String,
    /// What to do next, if anything.
    pub(super) next: String,
    /// Who authorized it, if the provider said so.
    pub(super) account: Option<String>,
}

impl Words {
    /// Whether everything is done, so that nobody needs to stay on the page.
    pub(super) fn is_done(&self) -> bool {
        self.mood == Mood::Good
    }

    /// The words for a landing.
    pub(super) fn on(landing: &Landing) -> Self {
        let (provider, integration) = (&landing.provider_name, &landing.identity.integration);
        match &landing.landed {
            Landed::Stored { account } => Self {
                code: "stored",
                mood: Mood::Good,
                title: format!("{provider} is connected"),
                happened: stored(account).into(),
                next: format!("You can close this page. Operators see the integration with `grantd status {integration}`."),
                account: shown(account),
            },
            Landed::Sealed { account, why } => Self {
                code: "sealed",
                mood: Mood::Wait,
                title: format!("{provider} is connected, but not stored yet"),
                happened: format!(
                    "The grant is good. It is sealed on this host's disk, and apps get their tokens from now on. The store has not taken the record yet: {}. grantd keeps trying.",
                    because(why)
                ),
                next: format!(
                    "There is nothing more for you to do. Please tell your operator: `grantd status {integration}` says what is wrong with the store."
                ),
                account: shown(account),
            },
            Landed::Unverified => Self {
                code: "unverified",
                mood: Mood::Wait,
                title: format!("{provider} has not confirmed the account yet"),
                happened: "The provider issued a token, but did not say whose it is. It is sealed on this host's disk, and no app gets it before the right account is confirmed. grantd keeps asking.".into(),
                next: format!("You can close this page. `grantd status {integration}` shows how it ends."),
                account: None,
            },
        }
    }
}

fn stored(account: &Account) -> &'static str {
    if *account == Account::default() {
        "The record is stored, and apps get their tokens from now on. The provider did not say whose account it is."
    } else {
        "The provider confirmed the account, the record is stored, and apps get their tokens from now on."
    }
}

/// The store's stable words (`StoreFault::word`, and the engine's own) as the end of a sentence.
fn because(why: &str) -> &'static str {
    match why {
        "denied" => "grantd's role may not write the secret",
        "throttled" => "the store asks to slow down",
        "unreachable" => "the store does not answer",
        "quota" => "the secret has too many versions",
        "missing" => "the secret does not exist",
        "key" => "the store's encryption key cannot be used",
        "deleted" => "the secret is marked for deletion",
        _ => "the store refuses the write",
    }
}

/// An account as one line: a name, and what tells it from another of the same name.
pub(super) fn shown(account: &Account) -> Option<String> {
    let Account { id, name, username, email } = account;
    let mut given = [name, username, email, id]
        .into_iter()
        .flatten()
        .map(|text| clean(text))
        .filter(|text| !text.is_empty());
    let first = given.next()?;
    Some(match given.find(|other| *other != first) {
        Some(other) => format!("{first} ({other})"),
        None => first,
    })
}

/// Without control characters and marks that turn the direction of text; at most 80 characters.
pub(super) fn clean(text: &str) -> String {
    let turns = |sign: char| matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut signs = text.chars().filter(|sign| !sign.is_control() && !turns(*sign));
    let mut cleaned: String = signs.by_ref().take(80).collect();
    if signs.next().is_some() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::{because, clean, shown};
    use crate::lifecycle::{Account, StoreFault};
    use std::collections::BTreeSet;

    #[test]
    fn each_reason_of_the_store_has_its_own_words() {
        use StoreFault::{Deleted, Denied, Key, Missing, Other, Quota, Throttled, Unreachable};
        let all = [Denied, Throttled, Unreachable, Quota, Missing, Key, Deleted, Other];
        let said: BTreeSet<_> = all.iter().map(|fault| because(fault.word())).collect();
        assert_eq!(said.len(), all.len());
    }

    #[test]
    fn an_account_is_one_clean_line() {
        let account = |name: &str, username: &str| Account {
            name: Some(name.into()),
            username: Some(username.into()),
            ..Account::default()
        };
        assert_eq!(shown(&account("Acme Bot", "acme-bot")).as_deref(), Some("Acme Bot (acme-bot)"));
        assert_eq!(shown(&account("acme-bot", "acme-bot")).as_deref(), Some("acme-bot"));
        assert_eq!(shown(&account("", "acme-bot")).as_deref(), Some("acme-bot"));
        assert_eq!(shown(&Account::default()), None);
        assert_eq!(clean("a\u{202e}b\nc"), "abc");
        assert_eq!(clean(&"x".repeat(100)).chars().count(), 81);
    }
}
