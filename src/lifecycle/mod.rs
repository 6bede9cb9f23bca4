//! Floor 1, pure: what happens next to one integration.
//!
//! Read `event.rs` and `effect.rs` first (the vocabulary), then `machine.rs` (the behaviour). Nothing in
//! this room reads a clock, makes a random number or touches the world: time and seeds are arguments.

mod access;
mod answer;
mod api_path;
mod audit;
mod callback;
mod consent;
mod debt;
mod device;
mod doubt;
mod effect;
mod ending;
mod event;
mod fresh;
mod health;
mod id_token;
mod identity;
mod import;
mod keep;
mod life;
mod machine;
mod mint;
mod operator;
mod outcome;
mod policy;
mod portrait;
mod record;
mod recover;
mod refusal;
mod restore;
mod sealed;
mod set_back;
mod spend;
mod state;
mod terms;
mod unit;
mod validation;
mod view;
mod writes;

#[cfg(test)]
mod complaints;
#[cfg(test)]
mod deletions;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod mints;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod revocations;
#[cfg(test)]
mod rows;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod validations;
#[cfg(test)]
mod world;

pub use access::{
    Allow, Binding, Bindings, Caller, Grant, NOBODY, Standing as ReadStanding, Verdict, Who, binding_missing,
    judge_read,
};
pub use answer::{Answer, Spent, WireFault};
pub use api_path::{ApiPath, NotAPathRule, PathRule};
pub use audit::{Actor, AuditEvent};
pub use consent::{
    Bearer, Beginning, Begun, Callback, Confirmation, Consents, Invitation, Returned, check_issuer,
};
pub use effect::{ConsentEnd, Effect, Effects, Entry, Lease, Op, SlotFate};
pub use event::{
    AccountChange, Asker, Completion, Event, Exchange, Frozen, Loaded, Pace, Revocation, SpoolFault,
    StoreFault, Trial,
};
pub use health::{ApiAnswer, Heard};
pub use id_token::check as check_id_token;
pub use identity::{Identity, IntegrationId, NotAnIdentifier, OrganizationId, ProviderId};
pub use machine::Integration;
pub use operator::{Admins, Person};
pub use record::{Account, NotARecord, Record, RecordStatus};
pub use recover::Recovery;
pub use refusal::{Code, Missing, Refusal};
pub use sealed::{Doubted, Found, Intent, Mark, Purpose, Sealed, Standing};
pub use state::{FlowKeys, Random, cookie_suffix};
pub use terms::{Dialect, ExpectedAccount, IdTokenRules, Origin, Outage, Rotation, Terms};
pub use unit::{NotAUnitRule, UnitRule, is_of_a_user, is_unit};
pub use view::{Action, Status, View};
pub use writes::Writes;
