//! Floor 3: each file or folder names one outside thing. No edge imports a sibling.

pub mod audit;
pub mod claim;
pub mod clock;
pub mod entropy;
pub mod hardening;
pub mod provider;
pub mod schedule;
pub mod socket;
pub mod spool;
pub mod store;
pub mod surroundings;
pub mod systemd;
pub mod telemetry;
pub mod web;
