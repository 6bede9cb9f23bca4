//! The pure core under a simulated world: providers that punish, stores that fail, disks that tear, clocks that leap.
//!
//! One seed is one run. `GRANTD_SEEDS=n` runs n seeds; `GRANTD_SEED=n` replays one and prints its dialogue, with
//! `GRANTD_VARIANT=name` that of a known-bad variant.

#![expect(
    clippy::excessive_nesting,
    clippy::disallowed_methods,
    clippy::string_slice,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a model of the world is read in one piece, and stops where it does not know how to go on"
)]
#![expect(
    dead_code,
    reason = "the model holds more than the oracle asks for so far: the known-bad variants will need it"
)]

#[cfg(test)]
mod actors;
#[cfg(test)]
mod chance;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod mood;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod owed;
#[cfg(test)]
mod process;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod report;
#[cfg(test)]
mod sabotage;
#[cfg(test)]
mod store;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod variants;
#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use crate::report::{Tally, say};
    use crate::variants::Variant;
    use crate::world::World;

    #[test]
    fn honest_seeds_hold() {
        let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        if let Some(seed) = read("GRANTD_SEED") {
            let ended = World::run(seed, Variant::chosen(), true);
            for line in &ended.trace.lines {
                println!("{line}");
            }
            assert!(ended.failure.is_none());
            return;
        }
        let from = read("GRANTD_FROM").unwrap_or(0);
        let mut tally = Tally::default();
        let mut failed = 0;
        let many = read("GRANTD_SEEDS").unwrap_or(5000);
        let start = std::time::Instant::now();
        let mut rules = std::collections::BTreeMap::new();
        for seed in from..from + many {
            let ended = World::run(seed, None, false);
            tally.add(&ended.tally);
            if let Some(failure) = ended.failure {
                failed += 1;
                let key: String = failure.what.split(|c: char| c.is_ascii_digit()).collect();
                let entry =
                    rules.entry((failure.rule, key)).or_insert_with(|| (0, seed, failure.what.clone()));
                entry.0 += 1;
            }
        }
        for ((rule, _), (count, seed, what)) in rules {
            println!("{count:>5} x rule {rule}, first at seed {seed}: {what}");
        }
        say(&format_args!("{tally}\n{many} seeds in {:?}, {failed} failed", start.elapsed()));
        assert_eq!(failed, 0);
    }
}
