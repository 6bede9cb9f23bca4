//! The known-bad variants: each breaks one rule on purpose, in the core or in the model of the edges, and must be caught.

use crate::disk::Flaw;
use crate::mood::Role;
use grantd::lifecycle::Integration;

/// A known-bad variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Disk(Flaw),
    OverwritesStrangers,
    CancelsOnShutdown,
}

impl Variant {
    pub(crate) const fn of_the_disk(self) -> Flaw {
        match self {
            Self::Disk(flaw) => flaw,
            Self::OverwritesStrangers | Self::CancelsOnShutdown => Flaw::None,
        }
    }

    pub(crate) fn overwrites(self) -> bool {
        self == Self::OverwritesStrangers
    }

    pub(crate) fn cancels_on_shutdown(self) -> bool {
        self == Self::CancelsOnShutdown
    }

    pub(crate) fn integration(self, role: &Role) -> Integration {
        Integration::new(role.identity.clone(), role.terms.clone())
    }
}
