//! Names of systemd units, and the rules that bindings write for them.
//!
//! Pure text: which unit a caller runs in, an edge asks the kernel. A rule is a whole name, or `template@*.service` for every
//! instance of a template; there is no other pattern, so that no rule fits more than its reader sees.

use std::fmt;

/// A unit, or every instance of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRule(String);

/// Why a text is no rule for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUnitRule {
    /// It does not end as a unit that runs programs does.
    #[error("a unit that runs programs is a `.service` or a `.scope`")]
    Kind,
    /// It has characters that no unit's name has, or is too long.
    #[error("no unit has such a name")]
    Name,
    /// A template itself, which never runs.
    #[error("a template never runs, its instances do")]
    Template,
    /// A star elsewhere than in an instance's place.
    #[error("`*` stands for a template's instance and for nothing else")]
    Star,
    /// Whatever a user runs.
    #[error("that is where a user's own programs run")]
    User,
}

impl NotAUnitRule {
    /// What to write instead.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Kind | Self::Name => {
                "write the unit's whole name as systemctl shows it: \"billing.service\""
            }
            Self::Template | Self::Star => {
                "name one instance, \"worker@1.service\", or all of them, \"worker@*.service\""
            }
            Self::User => "bind the user, or run the program as a service of the system",
        }
    }
}

impl UnitRule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`NotAUnitRule`].
    pub fn parse(text: &str) -> Result<Self, NotAUnitRule> {
        let stem = stem(text).ok_or(NotAUnitRule::Kind)?;
        let (template, instance) = stem.split_once('@').map_or((stem, None), |(of, one)| (of, Some(one)));
        if template.contains('*') || instance.is_some_and(|one| one != "*" && one.contains('*')) {
            return Err(NotAUnitRule::Star);
        }
        if instance == Some("") {
            return Err(NotAUnitRule::Template);
        }
        if template.is_empty() || !is_unit(&text.replace('*', "x")) {
            return Err(NotAUnitRule::Name);
        }
        if is_of_a_user(text) {
            return Err(NotAUnitRule::User);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the rule is for this unit.
    #[must_use]
    pub fn fits(&self, unit: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == unit,
            Some((template, suffix)) => {
                let instance = unit.strip_prefix(template).and_then(|rest| rest.strip_suffix(suffix));
                instance.is_some_and(|instance| !instance.is_empty())
            }
        }
    }
}

impl fmt::Display for UnitRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether a text is the name of a unit that runs programs (systemd.unit(5)).
#[must_use]
pub fn is_unit(name: &str) -> bool {
    let known = |character: char| character.is_ascii_alphanumeric() || ":-_.\\@".contains(character);
    name.len() <= LONGEST && name.chars().all(known) && stem(name).is_some_and(|stem| !stem.is_empty())
}

/// Whether a unit holds whatever some user runs: a user's manager, a session.
#[must_use]
pub fn is_of_a_user(unit: &str) -> bool {
    unit.starts_with("user@") || (unit.starts_with("session-") && unit.ends_with(".scope"))
}

fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".service").or_else(|| name.strip_suffix(".scope"))
}

/// systemd's own limit.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::{NotAUnitRule, UnitRule, is_unit};

    #[test]
    fn a_rule_fits_its_unit_alone() {
        let rule = UnitRule::parse("billing.service").unwrap();
        assert!(rule.fits("billing.service"));
        for other in ["billing.scope", "billing2.service", "a-billing.service", "Billing.service", "", "*"] {
            assert!(!rule.fits(other), "{other}");
        }
    }

    #[test]
    fn a_template_rule_fits_each_instance_and_no_other_unit() {
        let rule = UnitRule::parse("worker@*.service").unwrap();
        for instance in ["worker@1.service", "worker@a@b.service", "worker@x\\x2dy.service"] {
            assert!(rule.fits(instance), "{instance}");
        }
        for other in ["worker@.service", "worker.service", "my-worker@1.service", "worker@1.scope"] {
            assert!(!rule.fits(other), "{other}");
        }
        assert!(!UnitRule::parse("worker@1.service").unwrap().fits("worker@2.service"));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_reason() {
        for (text, why) in [
            ("billing", NotAUnitRule::Kind),
            ("system.slice", NotAUnitRule::Kind),
            ("billing.socket", NotAUnitRule::Kind),
            (".service", NotAUnitRule::Name),
            ("@1.service", NotAUnitRule::Name),
            ("a/b.service", NotAUnitRule::Name),
            ("a b.service", NotAUnitRule::Name),
            ("worker@.service", NotAUnitRule::Template),
            ("*.service", NotAUnitRule::Star),
            ("wo*er@1.service", NotAUnitRule::Star),
            ("worker@a*.service", NotAUnitRule::Star),
            ("user@1000.service", NotAUnitRule::User),
            ("user@*.service", NotAUnitRule::User),
            ("session-3.scope", NotAUnitRule::User),
        ] {
            assert_eq!(UnitRule::parse(text), Err(why), "{text}");
        }
        assert!(!is_unit(&format!("{}.service", "a".repeat(250))));
    }
}
