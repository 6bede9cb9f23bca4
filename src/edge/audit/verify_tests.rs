//! Each kind of tampering is found, at its place.

use super::ledger_tests::{Home, event, key};
use super::line::{Link, read, write};
use super::verify::{End, Fault, Verified, verify};
use crate::engine::Trail as _;
use crate::lifecycle::AuditEvent;
use crate::secret::SealKey;
use crate::time::Timestamp;

const WORDS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// A trail of five lines, in one file or in files of two lines each.
fn trail(largest: u64) -> Home {
    let home = Home::new();
    let ledger = home.open(largest);
    for what in WORDS {
        ledger.record(event(what));
        ledger.flush();
    }
    home
}

fn whole() -> Home {
    trail(1024 * 1024)
}

fn lines(home: &Home) -> Vec<String> {
    let text = std::fs::read_to_string(home.file(1)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn put(home: &Home, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(home.file(1), text).unwrap();
}

/// The line that an attacker without the key would write after `line`.
fn forged(event: &AuditEvent, line: &str) -> String {
    let before = read(line.as_bytes()).unwrap().link;
    let (text, _) = write(event, Timestamp::EPOCH, &before);
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// What the chain alone says, and what the head says too.
fn both(home: &Home) -> (Result<Verified, Fault>, Result<End, Fault>) {
    (verify(&home.files(), None), home.end())
}

#[test]
fn an_untouched_trail_holds() {
    let home = whole();
    let verified = |end| Verified { lines: 5, first: 1, last: 5, end };
    assert_eq!(both(&home), (Ok(verified(End::Unchecked)), Ok(End::Sealed)));
    let home = trail(800);
    assert_eq!(home.files().len(), 3);
    assert_eq!(both(&home), (Ok(verified(End::Unchecked)), Ok(End::Sealed)));
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let home = whole();
    let good = std::fs::read(home.file(1)).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(home.file(1), &changed).unwrap();
        let line = 1 + good[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        match verify(&home.files(), None) {
            Err(Fault::Changed { line: found, .. } | Fault::NotALine { line: found, .. }) => {
                assert_eq!(found, line, "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn a_changed_line_with_a_fitting_hash_is_found_at_the_next() {
    let home = whole();
    let mut lines = lines(&home);
    lines[2] = forged(&event("nothing"), &lines[1]);
    put(&home, &lines);
    assert_eq!(verify(&home.files(), None), Err(Fault::Unchained { file: home.file(1), line: 4 }));
}

#[test]
fn a_removed_line_is_found() {
    let home = whole();
    let mut lines = lines(&home);
    lines.remove(1);
    put(&home, &lines);
    let fault = Fault::Removed { file: home.file(1), line: 2, count: 1, found: 3 };
    assert_eq!(both(&home), (Err(fault.clone()), Err(fault)));
}

#[test]
fn swapped_lines_are_found() {
    let home = whole();
    let mut lines = lines(&home);
    lines.swap(1, 2);
    put(&home, &lines);
    assert_eq!(
        verify(&home.files(), None),
        Err(Fault::Removed { file: home.file(1), line: 2, count: 1, found: 3 })
    );
    lines.swap(1, 2);
    lines.insert(3, lines[1].clone());
    put(&home, &lines);
    assert_eq!(
        verify(&home.files(), None),
        Err(Fault::Reordered { file: home.file(1), line: 4, found: 2, expected: 4 })
    );
}

#[test]
fn a_cut_end_is_found_with_the_key_and_only_with_it() {
    let home = whole();
    let lines = lines(&home);
    put(&home, &lines[..3]);
    let chain = verify(&home.files(), None).unwrap();
    assert_eq!((chain.last, chain.end), (3, End::Unchecked));
    assert_eq!(home.end(), Err(Fault::Cut { sealed: 5, found: 3 }));
    put(&home, &[]);
    assert_eq!(home.end(), Err(Fault::Cut { sealed: 5, found: 0 }));
    let home = trail(800);
    std::fs::remove_file(home.file(3)).unwrap();
    assert_eq!(home.end(), Err(Fault::Gone { file: home.file(3) }));
}

#[test]
fn a_forged_line_at_the_end_is_found_with_the_key() {
    let home = whole();
    let mut lines = lines(&home);
    lines.push(forged(&event("revoke_asked"), &lines[4]));
    put(&home, &lines);
    assert_eq!(home.end(), Err(Fault::Appended { file: home.file(1), line: 6 }));
}

#[test]
fn a_trail_that_was_written_anew_is_found_with_the_key() {
    let home = whole();
    let (mut link, mut anew) = (Link::start(), Vec::new());
    for what in WORDS {
        let (line, next) = write(&event(what), Timestamp::EPOCH, &link);
        anew.push(String::from_utf8(line).unwrap().trim_end().to_owned());
        link = next;
    }
    put(&home, &anew);
    assert!(verify(&home.files(), None).is_ok());
    assert_eq!(home.end(), Err(Fault::Rewritten { seq: 5 }));
}

#[test]
fn a_file_that_was_replaced_removed_or_misplaced_is_found() {
    let home = trail(800);
    let files = home.files();
    let other = whole();
    let theirs = lines(&other);
    // The lines of another trail, with the right numbers.
    let replaced: String = theirs[2..4].iter().map(|line| format!("{line}\n")).collect();
    let good = std::fs::read(home.file(2)).unwrap();
    let swapped = [files[0].clone(), files[2].clone(), files[1].clone()];
    assert!(matches!(verify(&swapped, None), Err(Fault::Removed { line: 1, count: 2, .. })));
    let changed = replaced.replace("2027", "2028");
    std::fs::write(home.file(2), changed).unwrap();
    assert!(matches!(verify(&files, None), Err(Fault::Changed { line: 1, .. })));
    std::fs::write(home.file(2), good).unwrap();
    let without = [files[0].clone(), files[2].clone()];
    assert!(matches!(verify(&without, None), Err(Fault::Removed { line: 1, count: 2, .. })));
    assert!(verify(&files, None).is_ok());
}

#[test]
fn older_files_alone_hold_and_say_where_the_end_is() {
    let home = trail(800);
    let key = super::HeadKey::derive(&key()).unwrap();
    let verified = verify(&home.files()[..2], Some((&home.directory(), &key))).unwrap();
    assert_eq!((verified.last, verified.end), (4, End::In("trail-000003.jsonl".into())));
    let verified = verify(&home.files()[1..], Some((&home.directory(), &key))).unwrap();
    assert_eq!((verified.first, verified.last, verified.end), (3, 5, End::Sealed));
}

#[test]
fn another_key_does_not_pass_for_the_one_that_sealed() {
    let home = whole();
    let key = super::HeadKey::derive(&SealKey::new([8; 32])).unwrap();
    let end = verify(&home.files(), Some((&home.directory(), &key)));
    assert_eq!(end, Err(Fault::ForgedHead { directory: home.directory() }));
}
