//! Floor 3: each file or folder names one outside thing. No edge imports a sibling.

pub mod claim;
pub mod provider;
pub mod spool;
pub mod store;
