//! The mood of one run: who takes part, under which terms, and how hostile the world is to them. All of it drawn from the seed.

use crate::chance::Chance;
use crate::provider::{Habit, Provider, Trouble};
use grantd::lifecycle::{
    Dialect, ExpectedAccount, Identity, IntegrationId, OrganizationId, Outage, ProviderId, Rotation, Terms,
};
use std::time::Duration;

/// How hostile a world is. Times in milliseconds, probabilities from 0 to 1.
pub(crate) struct Mood {
    /// Until when things go wrong.
    pub(crate) hostile_until: i64,
    /// When the run ends.
    pub(crate) end: i64,
    /// The longest life of an access token.
    pub(crate) life: i64,
    /// That the process ends right before or after an effect is begun.
    pub(crate) crash_at_effect: f64,
    /// That a crash takes the power with it.
    pub(crate) power: f64,
    /// That somebody does something while an effect is under way.
    pub(crate) mischief: f64,
    /// That a single request goes wrong on an ordinary day.
    pub(crate) everyday: f64,
    /// That something takes long.
    pub(crate) slow: f64,
    pub(crate) crashes: u64,
    pub(crate) terminations: u64,
    pub(crate) suspends: u64,
    pub(crate) jumps: u64,
    pub(crate) provider_spells: u64,
    pub(crate) store_spells: u64,
    pub(crate) disk_spells: u64,
    pub(crate) userinfo_spells: u64,
    pub(crate) intrusions: u64,
    pub(crate) consents: u64,
    pub(crate) revocations: u64,
    pub(crate) admin_revokes: u64,
    pub(crate) refreshes: u64,
    pub(crate) app_asks: u64,
    pub(crate) reloads: u64,
    /// Cron's period; none where it is silent.
    pub(crate) cron: Option<i64>,
    pub(crate) copies_on_write: bool,
}

/// One integration of the run.
pub(crate) struct Role {
    pub(crate) identity: Identity,
    pub(crate) terms: Terms,
    pub(crate) provider: usize,
    /// Generations it had before the run begins; 0: never connected.
    pub(crate) history: u64,
    /// Whether this host's disk knows of them.
    pub(crate) remembered: bool,
    pub(crate) limited: bool,
}

impl Mood {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let life = match chance.below(10) {
            0 => chance.magnitude(15_000, 60_000),
            1 | 2 => chance.magnitude(60_000, 1_200_000),
            3..=7 => chance.magnitude(1_200_000, 14_400_000),
            _ => chance.magnitude(14_400_000, 259_200_000),
        };
        let hostile_until = life * chance.between(3, 14);
        let calm = chance.hit(0.08);
        let mut some = |most: u64| if calm || chance.hit(0.45) { 0 } else { 1 + chance.below(most) };
        let (crashes, terminations, suspends, jumps) = (some(4), some(3), some(2), some(3));
        let (provider_spells, store_spells, disk_spells) = (some(3), some(3), some(3));
        let (userinfo_spells, intrusions, revocations) = (some(2), some(3), some(2));
        let (admin_revokes, consents, refreshes) = (some(1), some(3), some(4));
        let (app_asks, reloads) = (some(6), some(2));
        let mut often = |of: &[f64]| if calm { 0.0 } else { chance.pick(of) };
        Self {
            hostile_until,
            end: hostile_until + 3 * life + 3 * HOUR + DAY,
            life,
            crash_at_effect: often(&[0.0, 0.0, 0.002, 0.01, 0.03]),
            power: often(&[0.0, 0.5, 1.0]),
            mischief: often(&[0.0, 0.01, 0.05]),
            everyday: often(&[0.0, 0.005, 0.05]),
            slow: often(&[0.0, 0.05, 0.3]),
            crashes,
            terminations,
            suspends,
            jumps,
            provider_spells,
            store_spells,
            disk_spells,
            userinfo_spells,
            intrusions,
            consents,
            revocations,
            admin_revokes: admin_revokes.min(u64::from(chance.hit(0.3))),
            refreshes,
            app_asks,
            reloads,
            cron: chance.hit(0.3).then(|| life * chance.between(1, 3)),
            copies_on_write: chance.hit(0.2),
        }
    }
}

/// Draws a provider, with what a configuration declares of it: the truth or less.
pub(crate) fn provider(chance: &mut Chance, life: i64) -> (Provider, Rotation) {
    let window = chance.pick(&[3_000, 10_000, 30_000, 60_000, 600_000]);
    let (habit, declared) = match chance.below(8) {
        0 => (Habit::Never, chance.pick(&[Rotation::None, Rotation::None, Rotation::Strict])),
        1 => (Habit::ReuseOk, chance.pick(&[Rotation::ReuseOk, Rotation::ReuseOk, Rotation::Strict])),
        2 | 3 => {
            let habit = Habit::Grace { window, same: chance.hit(0.5), kills: chance.hit(0.8) };
            let span = Duration::from_millis(window.unsigned_abs());
            (habit, chance.pick(&[Rotation::Grace(span), Rotation::Grace(span), Rotation::Strict]))
        }
        _ => (Habit::Strict { kills: chance.hit(0.85) }, Rotation::Strict),
    };
    let endless = chance.hit(0.04);
    let provider = Provider {
        habit,
        renewable: !chance.hit(0.03),
        life: (!endless).then_some(life),
        says_life: chance.hit(0.85),
        repeats: chance.hit(0.5),
        form_encoded: chance.hit(0.1),
        revokes: chance.hit(0.8),
        trouble: Trouble::Fine,
        userinfo_silent: false,
    };
    (provider, declared)
}

/// Draws an integration of a provider.
pub(crate) fn role(
    chance: &mut Chance,
    number: usize,
    at: usize,
    provider: &Provider,
    rotation: Rotation,
) -> Role {
    let identity = Identity {
        integration: IntegrationId::parse(&format!("app{number}")).unwrap(),
        organization: OrganizationId::parse(chance.pick(&["acme", "globex"])).unwrap(),
        provider: ProviderId::parse(&format!("idp{at}")).unwrap(),
    };
    let pinned = chance.hit(0.4).then(|| "bot".to_owned());
    let limited = provider.life.is_some_and(|life| life >= 2_400_000) && chance.hit(0.3);
    let terms = Terms {
        origin: grantd::lifecycle::Origin::Consent,
        refresh_at_permille: chance.pick(&[700, 700, 500, 900]),
        rotation,
        default_life: provider
            .life
            .filter(|_| !provider.says_life)
            .map(|life| Duration::from_millis(life.unsigned_abs())),
        expected_account: ExpectedAccount { username: pinned, ..ExpectedAccount::default() },
        outage: chance.pick(&[Outage::Hold, Outage::Hold, Outage::Spool]),
        write_budget: limited.then_some(90),
        scopes: vec!["repo".into()],
        dialect: Dialect::default(),
        can_try: chance.hit(0.7),
        validate_every: None,
    };
    let history = if chance.hit(0.25) { 0 } else { 1 + chance.below(9) };
    Role { identity, terms, provider: at, history, remembered: chance.hit(0.8), limited }
}

const HOUR: i64 = 3_600_000;
const DAY: i64 = 86_400_000;
