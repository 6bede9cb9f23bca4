//! Reload: a wrong configuration is refused whole, a good one takes effect without dropping a connection.

use crate::world::{Config, World, binding, eventually, own_uid, token_path};

#[test]
fn a_wrong_configuration_is_refused_and_the_old_one_stays() {
    let world = World::new("reload-wrong");
    let config = world.sealed_config();
    let daemon = world.start(&config);
    let _page = daemon.connect();
    let wrong =
        Config { oauth: "state_expiry = \"never\"\n".into(), bindings: String::new(), ..config.clone() };
    let ran = daemon.reload(&wrong);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("never") && ran.stderr.contains("grantd.toml"), "{}", ran.stderr);
    assert_eq!(daemon.token().status, 200, "the binding is still there");
    assert_eq!(daemon.reload(&config).code, 0);
}

#[test]
fn a_binding_that_goes_bites_on_the_next_request_of_an_open_connection() {
    let world = World::new("reload-binding");
    let config = world.sealed_config();
    let daemon = world.start(&config);
    let _page = daemon.connect();
    let mut app = daemon.app();
    let path = token_path(World::INTEGRATION);
    assert_eq!(app.get(&path).status, 200);
    let without = Config { bindings: binding(World::INTEGRATION, own_uid() + 1), ..config.clone() };
    let ran = daemon.reload(&without);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let refused = app.get(&path);
    assert_eq!((refused.status, refused.code().as_str()), (403, "binding_missing"));
    assert_eq!(daemon.reload(&config).code, 0);
    assert_eq!(app.get(&path).status, 200, "and on the same connection it is back");
}

#[test]
fn an_integration_that_comes_is_there_and_one_that_stays_is_undisturbed() {
    let world = World::new("reload-more");
    let config = world.sealed_config();
    let daemon = world.start(&config);
    let _page = daemon.connect();
    let before = daemon.token().json();
    let mut app = daemon.app();
    let mut more = config.clone();
    more.integrations.push_str(&world.integration("acme-second", World::PROVIDER));
    more.bindings.push_str(&binding("acme-second", own_uid()));
    let id = daemon.id();
    assert_eq!(daemon.reload(&more).code, 0);
    assert_eq!(daemon.id(), id);
    assert_eq!(app.get(&token_path(World::INTEGRATION)).json(), before);
    eventually("the store is asked for the new one", || {
        (app.get(&token_path("acme-second")).code() == "integration_pending").then_some(())
    });
    let link = daemon.cli(&["connect", "acme-second"]).stdout;
    assert_eq!(crate::world::Browser::new().connect(link.trim()).status(), 200);
    assert_eq!(app.get(&token_path("acme-second")).status, 200);
    let ambiguous = app.get(&token_path(World::PROVIDER));
    assert_eq!((ambiguous.status, ambiguous.code().as_str()), (409, "ambiguous_integration"));
    assert_eq!(daemon.reload(&config).code, 0);
    assert_eq!(app.get(&token_path("acme-second")).code(), "binding_missing");
    assert_eq!(app.get(&token_path(World::PROVIDER)).json(), before, "a provider's name is enough again");
}

#[test]
fn a_client_secret_that_rotates_takes_effect_without_a_restart() {
    let world = World::new("reload-secret");
    let config = world.sealed_config();
    let daemon = world.start(&config);
    let _page = daemon.connect();
    let file = world.write_secret("wrong-secret", "a-client-secret-that-is-wrong");
    let wrong = config
        .providers
        .replace(&world.home.path().join("client-secret").display().to_string(), &file.display().to_string());
    assert_eq!(daemon.reload(&Config { providers: wrong, ..config.clone() }).code, 0);
    assert_ne!(daemon.refresh().status, 401, "the client is at fault, not the grant");
    let status = daemon.status();
    assert_eq!(status["status"], "warning", "{status}");
    assert!(status["actions"].to_string().contains("configure"), "{status}");
    assert_eq!(daemon.token().status, 200);
    assert_eq!(daemon.reload(&config).code, 0);
    let healed = daemon.refresh();
    assert_eq!(healed.status, 200, "{}", healed.text());
    assert_eq!(daemon.status()["status"], "connected");
}

#[test]
fn of_two_client_secrets_either_is_enough_and_a_rotation_costs_nothing() {
    let world = World::new("two-secrets");
    let config = world.sealed_config();
    let right = world.home.path().join("client-secret").display().to_string();
    let gone = world.write_secret("gone-secret", "a-client-secret-that-has-ended").display().to_string();
    let both = |one: &str, next: &str| {
        let next =
            format!("client_secret = {{ file = \"{one}\" }}\nclient_secret_next = {{ file = \"{next}\" }}\n");
        let one = format!("client_secret = {{ file = \"{right}\" }}\n");
        Config { providers: config.providers.replace(&one, &next), ..config.clone() }
    };
    let daemon = world.start(&both(&gone, &right));
    let _page = daemon.connect();
    for _time in 0..3 {
        assert_eq!(daemon.refresh().status, 200);
    }
    assert_eq!(daemon.status()["status"], "connected");
    let refused = world.client.requests("token").iter().filter(|entry| entry.status == Some(401)).count();
    assert_eq!(refused, 1, "the one that was taken comes first from then on");
    assert_eq!(daemon.reload(&both(&right, &gone)).code, 0);
    assert_eq!(daemon.refresh().status, 200);
    assert_eq!(daemon.reload(&both(&gone, &right)).code, 0);
    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert!(ran.code == 0 && ran.stderr.contains("the provider confirmed"), "{}", ran.stderr);
    world.client.assert_no_reuse();
}
