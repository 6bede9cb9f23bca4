//! The known-bad variants: each breaks one rule on purpose, and the oracle must catch every one of them.
//!
//! None of this is in the shipped program: what is broken is the model of an edge, or what goes between the core and the world
//! (`sabotage.rs`). The core itself knows nothing of it.

use crate::disk::Flaw;
use crate::report::say;
use crate::world::World;
use std::fmt;
use std::time::{Duration, Instant};

/// A known-bad variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The disk: what was written is believed to be there.
    SkipsTheSync,
    /// The disk: a sync that failed is repeated on the same descriptor, and believed.
    TrustsTheDescriptor,
    /// The disk: the older answer is scrubbed before the newer one is durable.
    ReplacesFirst,
    /// An answer that cannot be parsed is not sealed: it counts as lost.
    ParsesBeforeSealing,
    /// The core goes on before the seal is durable.
    PublishesBeforeSealing,
    /// Nothing is noted on disk before a spend.
    IntendsNothing,
    /// The slot is free again before the store has the record.
    ScrubsBeforeStored,
    /// A write that is repeated has another write id.
    RenamesRetries,
    /// Whatever is current in the store is overwritten, a stranger's value too.
    OverwritesStrangers,
    /// The record with the label `AWSCURRENT` is taken for the newest.
    TrustsCurrent,
    /// After a restart a generation below the high-water mark is as good as any.
    ForgetsTheMark,
    /// "Invalid grant" clears the record.
    DropsOnInvalidGrant,
    /// A token in doubt is presented again at once, whatever the provider punishes.
    RetriesAtOnce,
    /// A server's error counts as "invalid grant".
    TakesErrorsForRefusals,
    /// The provider's wish to wait is not heard.
    IgnoresRetryAfter,
    /// Whoever asks for a refresh gets one of their own.
    SpendsTwiceAtOnce,
    /// A stop cuts off what is in flight.
    CancelsOnShutdown,
    /// A lease is served for a minute more than it lives.
    ServesPastTheEnd,
    /// The lease stays on the board when the grant is revoked.
    ServesRevoked,
    /// The provider is told of the token that was presented last, not of the newest.
    RevokesTheOldToken,
    /// A provider that did not answer to a revocation counts as told.
    TellsOnce,
    /// After a restart nobody knows what a provider must still be told of.
    ForgetsDebts,
    /// A revocation leaves no mark on the disk.
    ForgetsRevocations,
    /// A person is told "stored" when the record is only sealed.
    SaysStoredTooSoon,
}

impl Variant {
    pub(crate) const ALL: [Self; 24] = [
        Self::SkipsTheSync,
        Self::TrustsTheDescriptor,
        Self::ReplacesFirst,
        Self::ParsesBeforeSealing,
        Self::PublishesBeforeSealing,
        Self::IntendsNothing,
        Self::ScrubsBeforeStored,
        Self::RenamesRetries,
        Self::OverwritesStrangers,
        Self::TrustsCurrent,
        Self::ForgetsTheMark,
        Self::DropsOnInvalidGrant,
        Self::RetriesAtOnce,
        Self::TakesErrorsForRefusals,
        Self::IgnoresRetryAfter,
        Self::SpendsTwiceAtOnce,
        Self::CancelsOnShutdown,
        Self::ServesPastTheEnd,
        Self::ServesRevoked,
        Self::RevokesTheOldToken,
        Self::TellsOnce,
        Self::ForgetsDebts,
        Self::ForgetsRevocations,
        Self::SaysStoredTooSoon,
    ];

    /// The one that `GRANTD_VARIANT` names, for a replay.
    pub(crate) fn chosen() -> Option<Self> {
        let name = std::env::var("GRANTD_VARIANT").ok()?;
        Self::ALL.into_iter().find(|variant| format!("{variant:?}") == name)
    }

    pub(crate) const fn of_the_disk(self) -> Flaw {
        match self {
            Self::SkipsTheSync => Flaw::SkipsTheSync,
            Self::TrustsTheDescriptor => Flaw::TrustsTheDescriptor,
            Self::ReplacesFirst => Flaw::ReplacesFirst,
            _ => Flaw::None,
        }
    }

    pub(crate) fn overwrites(self) -> bool {
        self == Self::OverwritesStrangers
    }

    pub(crate) fn cancels_on_shutdown(self) -> bool {
        self == Self::CancelsOnShutdown
    }

    /// The rules of which one at least must catch it: anything else would be luck.
    const fn rules(self) -> &'static [&'static str] {
        match self {
            Self::SkipsTheSync | Self::TrustsTheDescriptor => &["3", "B7"],
            Self::ReplacesFirst | Self::ScrubsBeforeStored => &["B7"],
            Self::ParsesBeforeSealing | Self::PublishesBeforeSealing => &["3"],
            Self::IntendsNothing | Self::RetriesAtOnce => &["2"],
            Self::RenamesRetries | Self::SaysStoredTooSoon => &["3"],
            Self::OverwritesStrangers => &["11"],
            Self::TrustsCurrent | Self::ForgetsTheMark => &["2", "11", "B7"],
            Self::DropsOnInvalidGrant => &["4"],
            Self::TakesErrorsForRefusals | Self::IgnoresRetryAfter => &["6"],
            Self::SpendsTwiceAtOnce | Self::CancelsOnShutdown => &["1"],
            Self::ServesPastTheEnd | Self::ServesRevoked | Self::ForgetsRevocations => &["5"],
            Self::RevokesTheOldToken => &["B7"],
            Self::TellsOnce | Self::ForgetsDebts => &["7"],
        }
    }
}

/// How a variant was caught.
struct Caught {
    variant: Variant,
    seed: u64,
    rule: &'static str,
    what: String,
    took: Duration,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, seed, rule, what, took } = self;
        write!(f, "{variant:?}: rule {rule} at seed {seed}, {} ms: {what}", took.as_millis())
    }
}

/// Runs seeds until the variant breaks a rule that it is there to break, in a run that is honest without it.
fn catch(variant: Variant) -> Option<Caught> {
    let start = Instant::now();
    (0..MOST_SEEDS).find_map(|seed| {
        let failure = World::run(seed, Some(variant), false).failure?;
        let expected = variant.rules().contains(&failure.rule);
        let honest = || World::run(seed, None, false).failure.is_none();
        let (rule, what) = (failure.rule, failure.what);
        (expected && honest()).then(|| Caught { variant, seed, rule, what, took: start.elapsed() })
    })
}

#[test]
fn every_known_bad_variant_is_caught() {
    let mut at_large = Vec::new();
    for variant in Variant::ALL {
        match catch(variant) {
            Some(caught) => say(&caught),
            None => at_large.push(variant),
        }
    }
    assert!(at_large.is_empty(), "not caught within {MOST_SEEDS} seeds: {at_large:?}");
}

/// A few seconds' worth: a variant that lives longer is not caught.
const MOST_SEEDS: u64 = 2000;
