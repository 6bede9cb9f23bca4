//! The house rules that no compiler checks: floors, owned crates, who sees secrets, the size of files.
//!
//! Reads the sources as text. A rule that fails names the file and line, and the rule.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::excessive_nesting,
    reason = "a test that cannot read the sources has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `folder`, by its path from the root, without its comments and doc comments.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                let code: Vec<_> = text
                    .lines()
                    .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
                    .collect();
                found.insert(name, code.join("\n"));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// The part of a file that ships.
fn shipped(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// The room a file is in: `lifecycle`, `edge/store`, `daemon`, …
fn room(file: &str) -> String {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts = inside.split('/');
    let first = parts.next().unwrap();
    match (first, parts.next()) {
        ("edge", Some("mod")) => "edge".into(),
        ("edge", Some(second)) => format!("edge/{second}"),
        _ => first.into(),
    }
}

fn floor(room: &str) -> u8 {
    match room {
        "seal" | "secret" | "time" => 0,
        "lifecycle" => 1,
        "engine" | "config" => 2,
        "lib" => 5,
        "daemon" | "cli" | "main" => 4,
        edge if edge.starts_with("edge") => 3,
        other => panic!("{other} is on no floor: add it to the map of the house"),
    }
}

/// The rooms that a file names by `crate::…` (or `grantd::…`), with the lines.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for part in line.split("crate::").skip(1) {
            let path: String =
                part.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            let mut names = path.split("::");
            let first = names.next().unwrap_or("").to_owned();
            let room = match (first.as_str(), names.next()) {
                ("edge", Some(second)) if !second.is_empty() => format!("edge/{second}"),
                _ => first,
            };
            if !room.is_empty() {
                found.push((number + 1, room));
            }
        }
    }
    found
}

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (file, code) in sources("src") {
        let here = room(&file);
        if here == "lib" {
            continue;
        }
        for (line, there) in uses(&code) {
            let known = ["secret", "seal", "time", "lifecycle", "engine", "config", "edge", "daemon", "cli"];
            if !known.contains(&there.split('/').next().unwrap()) {
                continue;
            }
            let sibling = here.starts_with("edge/") && there.starts_with("edge/") && here != there;
            let level =
                floor(&here) == floor(&there) && here != there && floor(&here) > 0 && floor(&here) < 4;
            if floor(&there) > floor(&here) || sibling || level {
                wrong.push(format!("{file}:{line}: {here} must not use {there}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_core_has_no_clock_no_chance_and_no_world() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "tokio",
        "reqwest",
        "hyper",
        "axum",
        "aws_sdk",
        "aws_config",
        "SystemTime",
        "Instant",
        "rand::",
        "async ",
        "println!",
        "tracing",
    ];
    for (file, code) in sources("src/lifecycle") {
        for (number, line) in code.lines().enumerate() {
            for word in forbidden {
                assert!(!line.contains(word), "{file}:{}: the pure core must not use {word}", number + 1);
            }
        }
    }
}

#[test]
fn each_heavy_crate_has_an_owner() {
    let owners: &[(&str, &[&str])] = &[
        ("aws_config", &["src/edge/store/", "src/edge/claim/"]),
        ("aws_sdk_", &["src/edge/store/", "src/edge/claim/"]),
        ("aws_smithy_", &["src/edge/store/", "src/edge/claim/"]),
        ("oauth2::", &["src/edge/provider/"]),
        ("reqwest", &["src/edge/provider/"]),
        ("jsonwebtoken", &["src/edge/provider/"]),
        ("tokio_cron_scheduler", &["src/edge/schedule.rs"]),
        ("croner", &["src/config/values.rs"]),
        ("sd_notify", &["src/edge/systemd.rs"]),
        ("listenfd", &["src/edge/systemd.rs"]),
        ("tracing_subscriber", &["src/edge/telemetry.rs"]),
        ("clap", &["src/cli/"]),
        ("axum", &["src/edge/web/", "src/edge/socket/", "src/cli/demo/"]),
        ("askama", &["src/edge/web/"]),
        ("tokio_rustls", &["src/edge/web/", "src/edge/provider/api_tests.rs"]),
        ("rustix::mm", &["src/edge/hardening.rs"]),
        ("nix::", &["src/edge/socket/", "src/edge/surroundings.rs"]),
        ("toml::", &["src/config/", "src/cli/"]),
    ];
    let mut wrong = Vec::new();
    for (file, code) in sources("src") {
        for (number, line) in shipped(&code).lines().enumerate() {
            for (name, places) in owners {
                let named = line.contains(&format!("use {name}"))
                    || line.contains(&format!(" {name}::"))
                    || (name.ends_with("::") && line.contains(&format!("use {name}")));
                if named && !places.iter().any(|place| file.starts_with(place)) {
                    wrong.push(format!("{file}:{}: {name} belongs to {places:?}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn secrets_are_exposed_in_few_files() {
    // Each of these puts a secret on a wire, seals it, or compares it. Another one needs a good reason.
    let allowed: BTreeSet<&str> = EXPOSING.iter().copied().collect();
    let mut exposing = BTreeSet::new();
    for (file, code) in sources("src") {
        let test_only = TEST_FILES.contains(&file.as_str());
        if !test_only && shipped(&code).contains("expose_secret") {
            exposing.insert(file);
        }
    }
    let exposing: BTreeSet<&str> = exposing.iter().map(String::as_str).collect();
    let more: Vec<_> = exposing.difference(&allowed).collect();
    assert!(more.is_empty(), "these files expose secrets and are not on the list: {more:?}");
    let fewer: Vec<_> = allowed.difference(&exposing).collect();
    assert!(fewer.is_empty(), "these files no longer expose secrets, take them off the list: {fewer:?}");
}

#[test]
fn secrets_have_no_forbidden_traits() {
    let code = std::fs::read_to_string(root().join("src/secret.rs")).unwrap();
    for word in ["derive(", "impl fmt::Display", "Serialize for", "PartialEq for", "Clone for"] {
        assert!(!code.contains(word), "src/secret.rs: {word}");
    }
}

#[test]
fn files_stay_small_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        if !root().join(folder).exists() {
            continue;
        }
        for file in sources(folder).keys() {
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            let lines = text.lines().count();
            if lines > 600 {
                wrong.push(format!("{file}: {lines} lines, 600 at most"));
            }
            if !text.starts_with("//!") {
                wrong.push(format!("{file}: does not open with `//!`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_command_line_prints() {
    for (file, code) in sources("src") {
        for macro_name in ["println!", "eprintln!", "print!(", "eprint!(", "dbg!"] {
            assert!(
                !code.contains(macro_name),
                "{file}: {macro_name} belongs to cli/terminal.rs, which writes"
            );
        }
    }
}

#[test]
fn there_is_no_drawer() {
    for name in ["common", "util", "utils", "helpers", "types", "constants", "misc"] {
        for file in sources("src").keys() {
            let path = Path::new(file);
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            assert!(!parts.iter().any(|part| part == name || *part == format!("{name}.rs")), "{file}");
        }
    }
}

#[test]
fn the_shipped_program_holds_no_known_bad_variant() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("[features]"), "what ships is built in one way only");
    for (file, code) in sources("src") {
        for word in ["cfg(feature", "cfg!(feature", "Variant::", "abotage"] {
            assert!(!code.contains(word), "{file}: {word} belongs to tests/simulation");
        }
    }
}

#[test]
fn each_row_of_the_tables_names_a_test_that_exists() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let code: BTreeMap<String, String> = sources("src").into_iter().chain(sources("tests")).collect();
    for (section, last) in [("## The machine", "test"), ("## After a crash", "tested by")] {
        let rows = rows_of(&page, section, last);
        assert!(rows.len() > 20, "{section}: the table is not where it was");
        let mut wrong = Vec::new();
        for row in rows {
            let named: Vec<&str> =
                row.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
            if named.is_empty() {
                wrong.push(format!("no test is named: {row}"));
            }
            wrong.extend(
                named.iter().filter(|name| !is_test(&code, name)).map(|name| format!("no test {name}")),
            );
        }
        assert!(wrong.is_empty(), "{section}\n{}", wrong.join("\n"));
    }
}

/// The last cells of a section's table, whose head ends with `last`. Rows that only divide the table are left out.
fn rows_of<'a>(page: &'a str, section: &str, last: &str) -> Vec<&'a str> {
    let text = page.split_once(&format!("\n{section}\n")).unwrap().1;
    let text = text.split("\n## ").next().unwrap();
    let table = text.split_once(&format!("| {last} |\n")).unwrap().1;
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let last = |row: &'a str| row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or("");
    rows.filter(|row| !row.starts_with("| **")).map(last).collect()
}

/// A name with a module is one of `tests/it`.
fn is_test(code: &BTreeMap<String, String>, name: &str) -> bool {
    let (file, function) = match name.split_once("::") {
        Some((module, function)) => (format!("tests/it/{module}.rs"), function),
        None => (String::new(), name),
    };
    let head = format!("#[test] fn {function}()");
    let is_there = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&head);
    code.iter().any(|(path, text)| (file.is_empty() || *path == file) && is_there(text))
}

/// Files below `src` that are built for tests alone.
const TEST_FILES: &[&str] = &[
    "src/edge/socket/control_tests.rs",
    "src/edge/web/staff.rs",
    "src/edge/web/testing.rs",
    "src/engine/proxy_tests.rs",
    "src/lifecycle/imports.rs",
    "src/lifecycle/outages.rs",
    "src/lifecycle/revocations.rs",
    "src/lifecycle/rows.rs",
    "src/lifecycle/world.rs",
];

const EXPOSING: &[&str] = &[
    "src/edge/provider/account.rs",
    "src/edge/provider/api.rs",
    "src/edge/provider/assertion.rs",
    "src/edge/provider/brokered.rs",
    "src/edge/provider/client.rs",
    "src/edge/provider/device.rs",
    "src/edge/provider/discovery.rs",
    "src/edge/provider/machine.rs",
    "src/edge/provider/requests.rs",
    "src/edge/provider/sign_in.rs",
    "src/edge/provider/static_key.rs",
    "src/edge/socket/orders.rs",
    "src/edge/spool/cell.rs",
    "src/edge/store/aws.rs",
    "src/edge/store/preflight.rs",
    "src/edge/store/sealed.rs",
    "src/edge/web/api.rs",
    "src/edge/web/sessions.rs",
    "src/engine/board.rs",
    "src/lifecycle/consent.rs",
    "src/lifecycle/debt.rs",
    "src/lifecycle/id_token.rs",
    "src/lifecycle/device.rs",
    "src/lifecycle/import.rs",
    "src/lifecycle/outcome.rs",
    "src/lifecycle/record.rs",
    "src/lifecycle/sealed.rs",
    "src/lifecycle/state.rs",
    "src/seal.rs",
    "src/secret.rs",
];
