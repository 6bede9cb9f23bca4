//! What a form of ours sends: names and values, each once.
//!
//! Bounded by the guard. A repeated name counts as its first value, so that nothing can be laid over it.

use super::cookie::Window;
use crate::lifecycle::AccountChange;
use std::collections::BTreeMap;

/// The fields of a form, or of a query.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn of(body: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The token of the session.
    pub(super) fn token(&self) -> Option<&str> {
        self.get("csrf")
    }

    /// Whether the person ticked that another account may take the place of the present one.
    pub(super) fn account(&self) -> AccountChange {
        match self.get("replace") {
            Some("yes") => AccountChange::Allowed,
            Some(_) | None => AccountChange::Refused,
        }
    }

    /// In which window the flow goes on.
    pub(super) fn window(&self) -> Window {
        if self.get("popup") == Some("1") { Window::Popup } else { Window::Whole }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;
    use crate::lifecycle::AccountChange;

    #[test]
    fn the_first_value_counts_and_a_yes_is_spelled_out() {
        let form = Form::of(b"csrf=a&csrf=b&replace=yes");
        assert_eq!((form.token(), form.account()), (Some("a"), AccountChange::Allowed));
        assert_eq!(Form::of(b"replace=").account(), AccountChange::Refused);
        assert_eq!(Form::of(b"replace=no&replace=yes").account(), AccountChange::Refused);
    }
}
