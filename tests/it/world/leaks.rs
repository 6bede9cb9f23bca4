//! Looks for secrets where none may be: in everything the daemon and its commands said at TRACE, and in every file of its state.

use base64::Engine as _;
use std::path::Path;

/// Fails at the first secret found, and names it by its kind alone.
pub fn assert_none(secrets: &[(String, String)], said: &str, state: &Path) {
    let files = files_below(state);
    for (what, value) in secrets {
        assert!(value.len() >= SHORTEST, "a {what} of {} characters proves nothing", value.len());
        for form in forms(value) {
            if let Some(line) = said.lines().find(|line| line.contains(&form)) {
                panic!("a {what} was logged: {}", line.replace(&form, "<SECRET>"));
            }
            for (name, text) in &files {
                assert!(!text.contains(&form), "a {what} is in clear in {name}");
            }
        }
    }
}

/// The ways in which a value may be written down.
fn forms(value: &str) -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(value);
    let mut forms = vec![value.to_owned(), base64];
    if encoded != value {
        forms.push(encoded);
    }
    forms
}

/// Every file with its bytes as text: what is no UTF-8 is replaced, and no secret is anything else.
fn files_below(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}

const SHORTEST: usize = 12;
