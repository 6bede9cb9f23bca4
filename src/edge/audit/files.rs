//! The numbered files of the trail, and the one that is written to.
//!
//! A batch of lines is written, synced and sealed by the head, in that order. What a crash left half written is moved aside at the
//! next start; what was changed while nobody watched is left as it is, and the chain goes on in a new file from what the head says.
//! A file whose sync failed is not written to again.

use super::head::{Head, HeadKey, Headless};
use super::line::{self, Link, MOST_OF_A_LINE};
use crate::lifecycle::AuditEvent;
use crate::time::Timestamp;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// An event, and when it was recorded.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) event: AuditEvent,
    pub(super) at: Timestamp,
}

/// The trail, open for writing.
pub(super) struct Files {
    directory: PathBuf,
    key: HeadKey,
    limit: u64,
    number: u32,
    /// How many bytes of the current file count.
    length: u64,
    link: Link,
    file: Option<File>,
    /// The head is behind what is written.
    owed: bool,
}

/// What a start found that must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// A line that was half written was moved aside.
    Torn,
    /// So many lines follow the head.
    Unsealed(u64),
    /// The trail is not as it was left.
    Broken(&'static str),
}

/// How a file of the trail is named.
pub(super) fn name(number: u32) -> String {
    format!("trail-{number:06}.jsonl")
}

/// The numbers of the files in a directory, in order.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        found.extend(entry?.file_name().to_str().and_then(number_of));
    }
    found.sort_unstable();
    Ok(found)
}

/// The number in the name of a file of the trail.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_prefix("trail-")?.strip_suffix(".jsonl")?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

impl Files {
    /// Makes the directory, or finds where the trail in it ends. A file has `limit` bytes at most.
    pub(super) fn open(directory: &Path, key: HeadKey, limit: u64) -> io::Result<(Self, Vec<Finding>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let numbers = numbers(directory)?;
        let head = Head::read(directory, &key);
        let mut files = Self {
            directory: directory.into(),
            key,
            limit,
            number: 1,
            length: 0,
            link: Link::start(),
            file: None,
            owed: false,
        };
        let findings = match (head, numbers.last()) {
            (Ok(head), last) => files.resume(head, last.copied())?,
            (Err(Headless::Missing), None) => {
                // A trail without a head is one that somebody took it from: so there is one before the first line.
                files.owed = true;
                let _owed_still = files.settle();
                Vec::new()
            }
            (Err(headless), last) => files.go_on_without(headless, last.copied().unwrap_or(0))?,
        };
        Ok((files, findings))
    }

    /// Appends what was noted: durable when this returns. After an error nothing of it counts, and it may be tried again.
    pub(super) fn append(&mut self, batch: &[Noted]) -> io::Result<()> {
        let (mut lines, mut link) = (Vec::new(), self.link.clone());
        for noted in batch {
            let (line, next) = line::write(&noted.event, noted.at, &link);
            lines.extend_from_slice(&line);
            link = next;
        }
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.length > 0 && self.length.saturating_add(added) > self.limit {
            self.turn_over();
        }
        let file = self.writable()?;
        if let Err(error) = file.write_all(&lines) {
            // The next try cuts off what got in.
            self.file = None;
            return Err(error);
        }
        if let Err(error) = file.sync_data() {
            self.abandon();
            return Err(error);
        }
        (self.length, self.link, self.owed) = (self.length.saturating_add(added), link, true);
        Ok(())
    }

    /// Brings the head up to date. After an error it may be tried again.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.owed {
            let head = Head { link: self.link.clone(), file: name(self.number), length: self.length };
            head.write(&self.directory, &self.key)?;
            self.owed = false;
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(name(number))
    }

    /// The current file, open at its end, without anything after what counts.
    fn writable(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let path = self.path(self.number);
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                if file.metadata()?.len() != self.length {
                    file.set_len(self.length)?;
                }
                File::open(&self.directory)?.sync_all()?;
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn turn_over(&mut self) {
        (self.number, self.length, self.file) = (self.number.saturating_add(1), 0, None);
    }

    /// Leaves a file whose sync failed, as it was before.
    fn abandon(&mut self) {
        let cut = self.file.take().map(|file| file.set_len(self.length));
        if !matches!(cut, Some(Ok(()))) {
            tracing::error!(
                file = %self.path(self.number).display(),
                "lines of the audit trail may stand twice: the disk takes neither them nor their removal"
            );
        }
        self.turn_over();
    }

    /// Goes on from the head.
    fn resume(&mut self, head: Head, last: Option<u32>) -> io::Result<Vec<Finding>> {
        let number = number_of(&head.file).unwrap_or(1);
        let last = last.unwrap_or(0).max(number);
        (self.number, self.length, self.link) = (number, head.length, head.link);
        if let Some(why) = self.spoilt()? {
            (self.number, self.length) = (last.saturating_add(1), 0);
            return Ok(vec![Finding::Broken(why)]);
        }
        let mut findings = Vec::new();
        let mut unsealed = 0_u64;
        loop {
            let (more, torn) = self.walk_on()?;
            unsealed = unsealed.saturating_add(more);
            if torn {
                self.move_aside()?;
                findings.push(Finding::Torn);
            }
            if self.number >= last {
                break;
            }
            self.turn_over();
        }
        if unsealed > 0 {
            findings.push(Finding::Unsealed(unsealed));
        }
        Ok(findings)
    }

    /// Whether the line that the head names is not there any more.
    fn spoilt(&self) -> io::Result<Option<&'static str>> {
        let mut file = match File::open(self.path(self.number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((self.length > 0).then_some("removed"));
            }
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.length {
            return Ok(Some("cut"));
        }
        if self.length == 0 {
            return Ok(None);
        }
        let from = self.length.saturating_sub(MOST_OF_A_LINE);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(self.length.saturating_sub(from)).read_to_end(&mut end)?;
        let sealed = end.strip_suffix(b"\n").and_then(|end| end.rsplit(|byte| *byte == b'\n').next());
        let holds =
            sealed.and_then(|sealed| line::read(sealed).ok()).is_some_and(|placed| placed.link == self.link);
        Ok((!holds).then_some("changed"))
    }

    /// Takes in the whole lines after what counts: how many, and whether something else follows them.
    fn walk_on(&mut self) -> io::Result<(u64, bool)> {
        let mut file = match File::open(self.path(self.number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, false)),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.length))?;
        let mut reader = BufReader::new(file);
        let (mut taken, mut text) = (0_u64, Vec::new());
        loop {
            let read = line::next(&mut reader, &mut text)?;
            let placed = text.strip_suffix(b"\n").and_then(|whole| line::read(whole).ok());
            let Some(placed) = placed.filter(|placed| placed.follows(&self.link)) else {
                return Ok((taken, read > 0));
            };
            self.link = placed.link;
            self.length = self.length.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            taken = taken.saturating_add(1);
        }
    }

    /// Keeps what is after the lines that count in a file of its own, and cuts it off.
    fn move_aside(&self) -> io::Result<()> {
        let path = self.path(self.number);
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.seek(SeekFrom::Start(self.length))?;
        let aside = self.directory.join(format!("torn-{:06}-{}", self.number, self.length));
        let kept = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut copy| io::copy(&mut file, &mut copy).and_then(|_length| copy.sync_all()));
        if let Err(error) = kept {
            tracing::warn!(error = %error.kind(), "a torn line of the audit trail is dropped: no copy can be made");
        }
        file.set_len(self.length)?;
        file.sync_all()
    }

    /// Goes on in a new file behind the last line that can be read, since no head says which one it is.
    fn go_on_without(&mut self, headless: Headless, last: u32) -> io::Result<Vec<Finding>> {
        let why = match headless {
            Headless::Missing => "head_missing",
            Headless::Forged => "head_forged",
            Headless::Unreadable(kind) => return Err(kind.into()),
        };
        if last > 0 {
            let mut reader = BufReader::new(File::open(self.path(last))?);
            let mut text = Vec::new();
            while line::next(&mut reader, &mut text)? > 0 {
                let placed = text.strip_suffix(b"\n").and_then(|whole| line::read(whole).ok());
                self.link = placed.map_or_else(|| self.link.clone(), |placed| placed.link);
            }
        }
        self.number = last.saturating_add(1);
        Ok(vec![Finding::Broken(why)])
    }
}
