//! What grantd is built of: one TLS stack, no OpenSSL, known licences, one source, no crate twice where twice would hurt.
//!
//! The same rules stand in `deny.toml` for `cargo deny`; this test needs nothing installed.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot ask cargo has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

struct Crate {
    name: String,
    version: String,
    license: String,
}

/// The crates that are built for this platform, with the features that are switched on.
fn built() -> Vec<Crate> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let crates: Vec<Crate> = lines
        .into_iter()
        .filter_map(|line| {
            let (package, license) = line.split_once('|')?;
            let mut words = package.split(' ');
            Some(Crate {
                name: words.next()?.to_owned(),
                version: words.next()?.to_owned(),
                license: license.to_owned(),
            })
        })
        .collect();
    assert!(crates.len() > 100, "only {} crates were found", crates.len());
    crates
}

#[test]
fn one_tls_stack_and_no_openssl() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in built() {
        versions.entry(one.name).or_default().insert(one.version);
    }
    for gone in ["openssl", "openssl-sys", "native-tls", "ring", "rsa", "async-std"] {
        assert!(!versions.contains_key(gone), "{gone} must not be built");
    }
    for single in [
        "aws-lc-rs",
        "axum",
        "h2",
        "http",
        "hyper",
        "hyper-util",
        "reqwest",
        "rustls",
        "tokio",
        "tower",
        "url",
    ] {
        assert_eq!(versions.get(single).map(BTreeSet::len), Some(1), "{single}: {:?}", versions.get(single));
    }
}

#[test]
fn licences_are_known_and_crates_come_from_one_registry() {
    let allowed = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Unicode-3.0",
        "Zlib",
        "0BSD",
        "CC0-1.0",
        "MIT-0",
        "Unlicense",
        "CDLA-Permissive-2.0",
        "BSL-1.0",
        "OpenSSL",
    ];
    let mut wrong = Vec::new();
    for one in built() {
        let license = one.license.replace(['(', ')'], " ").replace('/', " OR ");
        let holds =
            license.split(" AND ").all(|all| all.split(" OR ").any(|any| allowed.contains(&any.trim())));
        if !holds {
            wrong.push(format!("{} {} has licence {:?}", one.name, one.version, one.license));
        }
    }
    let lock = include_str!("../Cargo.lock");
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    wrong.extend(sources.filter(|source| !source.starts_with("\"registry+")).map(str::to_owned));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
