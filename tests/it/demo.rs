//! `grantd demo --once`: the whole thing on this machine, with nothing installed.

use crate::world::{Stopwatch, World, grantd};
use std::time::Duration;

#[test]
fn the_demo_walks_to_its_end() {
    let world = World::new("demo");
    let watch = Stopwatch::start();
    let ran = grantd(&world, &["demo", "--once"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(watch.elapsed() < Duration::from_secs(45), "{:?}", watch.elapsed());
    let steps: Vec<_> =
        ran.stdout.lines().filter(|line| line.starts_with("ok ") || line.starts_with("failed ")).collect();
    assert_eq!(steps, ["ok connect", "ok read", "ok rotate", "ok revoke"], "{}", ran.stdout);
}
