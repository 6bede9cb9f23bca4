//! Finds what was changed in a trail, without the daemon: a changed, a removed or a reordered line by the chain alone, and with the
//! key of the head also a cut end, a forged one, and a trail that was written anew as a whole.
//!
//! Reads, and never writes. The first fault is the one that is told.

use super::files::{name, numbers};
use super::head::{Head, HeadKey, Headless};
use super::line::{self, Link, MOST_OF_A_LINE, Spoilt};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// What was read and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many lines there are.
    pub lines: u64,
    /// The number of the first line. Above 1: what was before it was not looked at.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// Whether the end is known to be the end.
    pub end: End,
}

/// What is known about the end of what was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nothing: there was no key.
    Unchecked,
    /// It is where the head says.
    Sealed,
    /// The trail ends in this file, which was not among those that were read.
    In(String),
}

/// The first thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read.
    #[error("{file} cannot be read ({kind})")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// A line has another form.
    #[error("{file}:{line}: this is no line of an audit trail: it was overwritten, or does not belong here")]
    NotALine {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
    },
    /// The last line of a file has no end.
    #[error(
        "{file}:{line}: the line has no end: it was cut, or grantd was killed while it wrote; a start of grantd moves it aside"
    )]
    Torn {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
    },
    /// A line's hash is that of something else.
    #[error("{file}:{line}: the line was changed: its hash is that of another text")]
    Changed {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
    },
    /// Lines are missing before this one.
    #[error("{file}:{line}: {count} lines before this one (number {found}) were removed")]
    Removed {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// How many are missing.
        count: u64,
        /// The number of the line.
        found: u64,
    },
    /// A line stands where it does not belong.
    #[error("{file}:{line}: the line is out of order: its number is {found}, and {expected} comes next")]
    Reordered {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// The number of the line.
        found: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// A line does not follow the one before it.
    #[error("{file}:{line}: the line does not follow the one before it: one of the two was replaced")]
    Unchained {
        /// The file.
        file: PathBuf,
        /// The line in it, from 1.
        line: u64,
    },
    /// The trail ends before its head says.
    #[error("the end was cut off: the last line is number {found}, and grantd wrote number {sealed}")]
    Cut {
        /// The last number that the head knows.
        sealed: u64,
        /// The last number that was found.
        found: u64,
    },
    /// The trail goes on after its head.
    #[error(
        "{file}:{line}: grantd's head ends before this line: it was forged, or grantd was killed before it sealed it; a start of grantd says which lines those were"
    )]
    Appended {
        /// The file.
        file: PathBuf,
        /// The first line that the head does not know, from 1.
        line: u64,
    },
    /// The last line is not the one that the head knows.
    #[error("line number {seq} is not the one that grantd wrote: the trail was written anew")]
    Rewritten {
        /// The number of the last line that the head knows.
        seq: u64,
    },
    /// The file in which the trail ends is gone.
    #[error("{file} is gone, and the trail ends in it")]
    Gone {
        /// The file.
        file: PathBuf,
    },
    /// There is no head.
    #[error("{directory} has no head: it was removed, or this is no directory of an audit trail")]
    NoHead {
        /// The directory of the trail.
        directory: PathBuf,
    },
    /// The head was written with another key.
    #[error(
        "the head in {directory} was not written with this seal key: it was forged, or the key is another"
    )]
    ForgedHead {
        /// The directory of the trail.
        directory: PathBuf,
    },
}

/// The files of the trail in a directory, in order.
///
/// # Errors
/// [`Fault::Unreadable`].
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let numbers = numbers(directory).map_err(|error| unreadable(directory, &error))?;
    Ok(numbers.into_iter().map(|number| directory.join(name(number))).collect())
}

/// Reads files in their order; with the directory of the trail and its key, compares their end with the head.
///
/// # Errors
/// [`Fault`]: the first that is found.
pub fn verify(files: &[PathBuf], sealed: Option<(&Path, &HeadKey)>) -> Result<Verified, Fault> {
    let Some((directory, key)) = sealed else {
        return walk(files, None).map(|walk| walk.verified(End::Unchecked));
    };
    for _try in 1..TRIES {
        let end = compare(files, directory, key);
        // A daemon that writes meanwhile is a moment ahead of its head.
        if !matches!(end, Err(Fault::Appended { .. } | Fault::Torn { .. })) {
            return end;
        }
        std::thread::park_timeout(MOMENT);
    }
    compare(files, directory, key)
}

fn compare(files: &[PathBuf], directory: &Path, key: &HeadKey) -> Result<Verified, Fault> {
    let head = head_of(directory, key)?;
    walk(files, Some(&head))?.compare(&head, directory)
}

fn head_of(directory: &Path, key: &HeadKey) -> Result<Head, Fault> {
    Head::read(directory, key).map_err(|headless| match headless {
        Headless::Missing => Fault::NoHead { directory: directory.into() },
        Headless::Forged => Fault::ForgedHead { directory: directory.into() },
        Headless::Unreadable(kind) => Fault::Unreadable { file: directory.into(), kind },
    })
}

/// What a walk over the lines has come to.
#[derive(Default)]
struct Walk<'a> {
    head: Option<&'a Head>,
    lines: u64,
    first: u64,
    last: Option<Link>,
    /// Whether the line of the head's number was passed, and was the head's.
    passed: Option<bool>,
    /// The first line after the head's.
    beyond: Option<(PathBuf, u64)>,
    /// Whether the file that the head names was among those that were read.
    whole: bool,
}

fn walk<'a>(files: &[PathBuf], head: Option<&'a Head>) -> Result<Walk<'a>, Fault> {
    let mut walk = Walk { head, ..Walk::default() };
    for file in files {
        walk.whole |=
            file.file_name().is_some_and(|name| head.is_some_and(|head| name == head.file.as_str()));
        let mut reader = BufReader::new(File::open(file).map_err(|error| unreadable(file, &error))?);
        let (mut text, mut number) = (Vec::new(), 0_u64);
        loop {
            if line::next(&mut reader, &mut text).map_err(|error| unreadable(file, &error))? == 0 {
                break;
            }
            number = number.saturating_add(1);
            walk.step(file, number, &text)?;
        }
    }
    Ok(walk)
}

impl Walk<'_> {
    fn step(&mut self, file: &Path, line: u64, text: &[u8]) -> Result<(), Fault> {
        let at = || file.to_path_buf();
        let whole = text.strip_suffix(b"\n").ok_or_else(|| {
            let long = text.len() >= usize::try_from(MOST_OF_A_LINE).unwrap_or(usize::MAX);
            if long { Fault::NotALine { file: at(), line } } else { Fault::Torn { file: at(), line } }
        })?;
        let placed = line::read(whole).map_err(|spoilt| match spoilt {
            Spoilt::NotALine => Fault::NotALine { file: at(), line },
            Spoilt::Changed => Fault::Changed { file: at(), line },
        })?;
        let found = placed.link.seq;
        // What a trail begins with is known; what a later file begins with is not.
        let before = self.last.clone().or_else(|| (found == 1).then(Link::start));
        if let Some(before) = before {
            let expected = before.seq.saturating_add(1);
            if found > expected {
                return Err(Fault::Removed {
                    file: at(),
                    line,
                    count: found.saturating_sub(expected),
                    found,
                });
            }
            if found < expected {
                return Err(Fault::Reordered { file: at(), line, found, expected });
            }
            if placed.prev != before.hash {
                return Err(Fault::Unchained { file: at(), line });
            }
        }
        if let Some(head) = self.head {
            if found == head.link.seq {
                self.passed = Some(placed.link == head.link);
            }
            if found > head.link.seq && self.beyond.is_none() {
                self.beyond = Some((at(), line));
            }
        }
        if self.lines == 0 {
            self.first = found;
        }
        self.lines = self.lines.saturating_add(1);
        self.last = Some(placed.link);
        Ok(())
    }

    /// Compares the end with the head.
    fn compare(self, head: &Head, directory: &Path) -> Result<Verified, Fault> {
        let (sealed, found) = (head.link.seq, self.last.as_ref().map_or(0, |last| last.seq));
        if self.passed == Some(false) {
            return Err(Fault::Rewritten { seq: sealed });
        }
        if let Some((file, line)) = self.beyond {
            return Err(Fault::Appended { file, line });
        }
        if found == sealed {
            return Ok(self.verified(End::Sealed));
        }
        let end = directory.join(&head.file);
        if self.whole {
            return Err(Fault::Cut { sealed, found });
        }
        if end.exists() {
            Ok(self.verified(End::In(head.file.clone())))
        } else {
            Err(Fault::Gone { file: end })
        }
    }

    fn verified(&self, end: End) -> Verified {
        Verified {
            lines: self.lines,
            first: self.first,
            last: self.last.as_ref().map_or(0, |last| last.seq),
            end,
        }
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    Fault::Unreadable { file: file.into(), kind: error.kind() }
}

/// A running daemon is a quarter of a second behind at most.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);
const TRIES: usize = 5;
