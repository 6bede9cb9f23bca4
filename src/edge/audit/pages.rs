//! Reads the trail back: the events after a number, without reading what is before them.
//!
//! Takes no lock: lines are only ever added, and a line counts once it has its line feed. What is no line is passed over here;
//! `verify.rs` is who complains.

use super::files::{name, numbers};
use super::line;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::Path;

/// The events after `sequence`, the oldest first, `most` at most.
pub(super) fn after(directory: &Path, sequence: u64, most: usize) -> io::Result<Vec<Value>> {
    let mut events = Vec::new();
    for number in from(directory, sequence)? {
        let mut file = BufReader::new(File::open(directory.join(name(number)))?);
        seek_behind(&mut file, sequence)?;
        let mut text = Vec::new();
        while events.len() < most {
            line::next(&mut file, &mut text)?;
            let Some(whole) = text.strip_suffix(b"\n") else { break };
            if line::seq(whole).is_some_and(|seq| seq > sequence) {
                events.extend(serde_json::from_slice::<Value>(whole).ok());
            }
        }
    }
    Ok(events)
}

/// The files from the one in which the line after `sequence` may stand.
fn from(directory: &Path, sequence: u64) -> io::Result<Vec<u32>> {
    let numbers = numbers(directory)?;
    let mut begin = 0;
    for (index, number) in numbers.iter().enumerate().rev() {
        let mut first = Vec::new();
        line::next(&mut BufReader::new(File::open(directory.join(name(*number)))?), &mut first)?;
        if line::seq(&first).is_some_and(|seq| seq <= sequence.saturating_add(1)) {
            begin = index;
            break;
        }
    }
    Ok(numbers.get(begin..).unwrap_or_default().to_vec())
}

/// Moves to a line that is not far before the first one after `sequence`, by halves.
fn seek_behind(file: &mut BufReader<File>, sequence: u64) -> io::Result<()> {
    let (mut low, mut high) = (0, file.get_ref().metadata()?.len());
    while high.saturating_sub(low) > CLOSE {
        let middle = low.midpoint(high);
        file.seek(SeekFrom::Start(middle))?;
        let mut text = Vec::new();
        let skipped = line::next(file, &mut text)?;
        line::next(file, &mut text)?;
        match line::seq(&text) {
            Some(seq) if seq <= sequence => {
                low = middle.saturating_add(u64::try_from(skipped).unwrap_or(u64::MAX));
            }
            Some(_) | None => high = middle,
        }
    }
    file.seek(SeekFrom::Start(low))?;
    Ok(())
}

/// From here on the lines are read one by one.
const CLOSE: u64 = 64 * 1024;
