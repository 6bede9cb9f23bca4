//! `grantd check --offline`: every problem of a configuration in one go, each with its place and a remedy.

use crate::world::{Config, World, grantd};

#[test]
fn a_good_configuration_passes() {
    let world = World::new("check-good");
    for config in [world.config(), world.sealed_config()] {
        world.write_config(&config);
        let ran = check(&world);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    assert_eq!(world.store.taken() + world.idp.taken(), 0, "offline means offline");
}

#[test]
fn every_problem_is_named_at_once() {
    let world = World::new("check-bad");
    let good = world.config();
    let bad = Config {
        head: good.head.replace("listen =", "lissten ="),
        oauth: "state_expiry = \"5 fortnights\"\n".into(),
        rotation: "schedule = \"every day\"\n".into(),
        providers: good.providers.replace("token_url = \"http://127.0.0.1", "token_url = \"http://token.acme.example")
            + "[[provider]]\nid = \"github\"\nclient_id = \"Iv1.x\"\nclient_secret = { credential = \"not-passed\" }\n\n",
        integrations: good.integrations.clone()
            + &good.integrations.replace("id = \"acme-idp\"", "id = \"acme-twin\"")
            + &world.integration("acme-lost", "nobody"),
        bindings: "[[binding]]\nintegration = \"acme-nowhere\"\nuid = 1\n\n[[binding]]\nintegration = \"acme-idp\"\n".into(),
        ..good
    };
    world.write_config(&bad);
    let ran = check(&world);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for (problem, place) in [
        ("lissten", "lissten ="),
        ("5 fortnights", "state_expiry"),
        ("every day", "schedule"),
        ("http", "token_url"),
        ("not-passed", "client_secret = { credential"),
        ("share the secret", "secret = "),
        ("nobody", "provider = \"nobody\""),
        ("acme-nowhere", "integration = \"acme-nowhere\""),
        ("names nobody", "[[binding]]"),
    ] {
        assert!(said.contains(problem), "{problem:?} is not named:\n{said}");
        let lines: Vec<_> = bad
            .text()
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(place))
            .map(|(at, _)| at + 1)
            .collect();
        let named = lines.iter().any(|line| said.contains(&format!("grantd.toml:{line}:")));
        assert!(named, "{problem:?} has no place among lines {lines:?}:\n{said}");
    }
    assert!(said.contains('^'), "no caret:\n{said}");
    let run = grantd(&world, &["run", "--config", &world.config_path().display().to_string()]);
    assert_eq!(run.code, 78, "the daemon does not start with it: {}", run.stderr);
}

#[test]
fn json_names_the_same_problems() {
    let world = World::new("check-json");
    let good = world.config();
    world.write_config(&Config { oauth: "state_expiry = \"soon\"\nunknown = 1\n".into(), ..good });
    let path = world.config_path().display().to_string();
    let ran = grantd(&world, &["check", "--offline", "--json", "--config", &path]);
    assert_eq!(ran.code, 78);
    let said: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no JSON: {}", ran.stdout));
    let text = said.to_string();
    assert!(text.contains("soon") && text.contains("unknown") && text.contains("\"line\":"), "{text}");
}

#[test]
fn a_secret_in_the_file_itself_is_refused() {
    let world = World::new("check-secret");
    let good = world.config();
    let literal = "client_secret = \"a-secret-that-is-in-the-file\"";
    let file = world.home.path().join("client-secret");
    let reference = format!("client_secret = {{ file = \"{}\" }}", file.display());
    assert!(good.providers.contains(&reference));
    world.write_config(&Config { providers: good.providers.replace(&reference, literal), ..good });
    let ran = check(&world);
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("must not stand in the file"), "{}", ran.stderr);
}

fn check(world: &World) -> crate::world::Ran {
    grantd(world, &["check", "--offline", "--config", &world.config_path().display().to_string()])
}
