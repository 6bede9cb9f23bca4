//! How a verb ends: a sentence for standard error and an exit code of `sysexits.h` (contract §1).

use crate::lifecycle::Code;
use std::process::ExitCode;

/// Usage.
pub(super) const USAGE: u8 = 64;
const REFUSED: u8 = 1;
const UNREACHABLE: u8 = 69;
const BUG: u8 = 70;
const AGAIN: u8 = 75;
const PERMISSION: u8 = 77;
const CONFIGURATION: u8 = 78;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Why a verb did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    code: u8,
    said: String,
}

impl End {
    /// The request was refused.
    pub(super) fn refused(said: impl Into<String>) -> Self {
        Self { code: REFUSED, said: said.into() }
    }

    /// The arguments do not fit together.
    pub(super) fn usage(said: impl Into<String>) -> Self {
        Self { code: USAGE, said: said.into() }
    }

    /// The daemon, or something else that is needed, does not answer.
    pub(super) fn unreachable(said: impl Into<String>) -> Self {
        Self { code: UNREACHABLE, said: said.into() }
    }

    /// A bug.
    pub(super) fn bug(said: impl Into<String>) -> Self {
        Self { code: BUG, said: said.into() }
    }

    /// Asking again may help.
    pub(super) fn again(said: impl Into<String>) -> Self {
        Self { code: AGAIN, said: said.into() }
    }

    /// The kernel does not allow it.
    pub(super) fn permission(said: impl Into<String>) -> Self {
        Self { code: PERMISSION, said: said.into() }
    }

    /// The configuration is wrong.
    pub(super) fn configuration(said: impl Into<String>) -> Self {
        Self { code: CONFIGURATION, said: said.into() }
    }

    /// The command that was to be run is not there (POSIX Shell §2.8.2).
    pub(super) fn not_found(said: impl Into<String>) -> Self {
        Self { code: NOT_FOUND, said: said.into() }
    }

    /// The command that was to be run cannot be (POSIX Shell §2.8.2).
    pub(super) fn not_executable(said: impl Into<String>) -> Self {
        Self { code: NOT_EXECUTABLE, said: said.into() }
    }

    /// As a refusal's code and HTTP status say.
    pub(super) fn of_refusal(code: &str, status: u16, detail: &str) -> Self {
        let said = format!("{detail} ({code})");
        if code == Code::NotAnAdmin.word() {
            Self::permission(said)
        } else if status == 503 || status == 429 {
            Self::again(said)
        } else {
            Self::refused(said)
        }
    }

    /// What is said.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// Whether asking again may help: the daemon is not there, or has no token yet.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self.code, AGAIN | UNREACHABLE)
    }

    /// Whether the daemon could not be asked at all.
    pub(super) const fn is_unreachable(&self) -> bool {
        self.code == UNREACHABLE
    }

    /// Says it on standard error.
    pub(super) fn report(self) -> ExitCode {
        super::terminal::complain(&self.said);
        ExitCode::from(self.code)
    }
}
