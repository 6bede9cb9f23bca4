//! Who may operate: a person that the company's identity provider vouches for, and the rule that makes them an administrator.
//!
//! Pure. The claims are those of a checked `id_token` or of the issuer's own userinfo, never of a request.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A signed-in person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `sub`: who it is, for good.
    pub subject: String,
    /// A name to show: e-mail, login or full name.
    pub name: String,
    claims: BTreeMap<String, Vec<String>>,
}

/// The rule of an organization (`admins`): the claim that it looks at, and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admins {
    /// The claim's name.
    pub claim: String,
    /// The claim itself, or one of its members, must be exactly this.
    pub contains: String,
}

impl Person {
    /// Reads checked claims; `None` where they name nobody.
    #[must_use]
    pub fn of(claims: &Map<String, Value>) -> Option<Self> {
        let mut kept: BTreeMap<String, Vec<String>> =
            claims.iter().map(|(name, value)| (name.clone(), texts(value))).collect();
        // An address that the issuer does not call verified says nothing about who this is (OIDC Core §5.7). Some write text.
        let verified = |said: &Value| *said == Value::Bool(true) || said.as_str() == Some("true");
        if claims.get("email_verified").is_some_and(|said| !verified(said)) {
            kept.remove("email");
        }
        let first = |name: &str| kept.get(name)?.first().filter(|text| !text.is_empty()).cloned();
        let subject = first("sub")?;
        let name = ["email", "preferred_username", "name"].into_iter().find_map(first);
        Some(Self { name: name.unwrap_or_else(|| subject.clone()), subject, claims: kept })
    }
}

impl Admins {
    /// Whether the rule makes this person an administrator.
    #[must_use]
    pub fn include(&self, person: &Person) -> bool {
        person.claims.get(&self.claim).is_some_and(|values| values.contains(&self.contains))
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(members) => members.iter().filter_map(text).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            text(value).into_iter().collect()
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Admins, Person};
    use serde_json::{Value, json};

    fn person(claims: &Value) -> Option<Person> {
        Person::of(claims.as_object().unwrap())
    }

    #[test]
    fn the_claim_is_the_value_or_holds_it_and_nothing_less() {
        let admins = Admins { claim: "groups".into(), contains: "secops".into() };
        for (groups, includes) in [
            (json!(["dev", "secops"]), true),
            (json!("secops"), true),
            (json!("not-secops"), false),
            (json!("dev secops"), false),
            (json!(["secops-guests"]), false),
            (json!([["secops"]]), false),
            (json!({ "secops": true }), false),
            (Value::Null, false),
        ] {
            let someone = person(&json!({ "sub": "1", "groups": groups })).unwrap();
            assert_eq!(admins.include(&someone), includes, "{groups}");
        }
        assert!(!admins.include(&person(&json!({ "sub": "secops" })).unwrap()));
    }

    #[test]
    fn a_person_has_a_subject_and_the_best_name_there_is() {
        let named = |claims| person(&claims).map(|person| person.name);
        assert_eq!(
            named(json!({ "sub": "1", "email": "a@acme.example", "name": "A" })).unwrap(),
            "a@acme.example"
        );
        assert_eq!(named(json!({ "sub": "1", "preferred_username": "ann" })).unwrap(), "ann");
        assert_eq!(named(json!({ "sub": "1" })).unwrap(), "1");
        assert_eq!(named(json!({ "email": "a@acme.example" })), None);
        assert_eq!(named(json!({ "sub": "" })), None);
    }

    #[test]
    fn an_unverified_address_makes_nobody_an_administrator() {
        let admins = Admins { claim: "email".into(), contains: "a@acme.example".into() };
        let with = |verified: Value| {
            person(&json!({ "sub": "1", "email": "a@acme.example", "email_verified": verified })).unwrap()
        };
        for good in [json!(true), json!("true")] {
            assert!(admins.include(&with(good)));
        }
        for bad in [json!(false), json!("false"), json!(0), Value::Null] {
            assert!(!admins.include(&with(bad.clone())), "{bad}");
        }
    }
}
