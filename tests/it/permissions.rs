//! Least privilege, against an AWS that checks resources: what the role may not do is not done, and the status says why.

use crate::world::{Aws, Config, Daemon, World, eventually, ministack, oidc};
use serde_json::{Value, json};

#[test]
fn update_only_works_with_the_least_privileges() {
    let world = world("update-only", &|prefix| json!([write(prefix)]));
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    let status = eventually("the rotated token is stored", || {
        Some(daemon.status()).filter(|status| status["stored"] == true)
    });
    assert_eq!(status["status"], "connected", "{status}");
    assert_eq!(world.aws.record(&world.secret()).unwrap()["generation"], status["generation"]);
    assert_eq!(daemon.cli(&["revoke", World::INTEGRATION]).code, 0);
    eventually("the record is cleared", || {
        (world.aws.record(&world.secret())?["status"] == "revoked").then_some(())
    });
}

#[test]
fn update_only_creates_nothing_and_says_what_is_missing() {
    let world = world("missing", &|prefix| json!([write(prefix)]));
    world.write_config(&world.config());
    let daemon = Daemon::start(&world);
    let status = eventually("the store was asked", || {
        let status = daemon.status();
        status["lastError"].as_str().is_some_and(|why| why == "missing" || why == "denied").then_some(status)
    });
    assert_eq!(status["status"], "pending", "{status}");
    assert!(status["actions"].to_string().contains("configure"), "{status}");
    assert!(!world.aws.exists(&world.secret()), "a secret was created");
    // The operator makes the secret, and everything heals by itself.
    world.aws.make_secret(&world.secret());
    eventually("the empty secret is found", || daemon.status()["lastError"].is_null().then_some(()));
    let _page = daemon.connect();
    assert!(world.aws.record(&world.secret()).is_some());
}

#[test]
fn update_only_creates_nothing_even_where_the_role_could() {
    let world = World::new("could-create");
    let daemon = world.start(&world.config());
    let mut browser = crate::world::Browser::new();
    let callback = browser.until_callback(&daemon.link());
    // Somebody deletes the secret while the person is at the provider.
    world.aws.delete(&world.secret());
    let page = browser.arrive(&callback);
    assert_eq!(page.code().as_deref(), Some("sealed"), "{}", page.text());
    assert_eq!(daemon.token().status, 200, "the grant is safe on this host meanwhile");
    assert_eq!(daemon.status()["lastError"], "missing");
    assert!(!world.aws.exists(&world.secret()), "a secret was created");
    world.aws.make_secret(&world.secret());
    eventually("the record is stored", || world.aws.record(&world.secret()));
}

#[test]
fn a_flow_does_not_begin_where_its_record_could_not_be_kept() {
    let world = World::new("preflight");
    world.write_config(&world.config());
    let daemon = Daemon::start(&world);
    let ran = daemon.cli(&["connect", World::INTEGRATION]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    for said in ["preflight_failed", "aws secretsmanager create-secret", world.secret().as_str()] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let asked = json!({ "integration": World::INTEGRATION });
    let refused = daemon.operate(::http::Method::POST, "/v1/integrations/oauth/start", Some(&asked));
    assert_eq!((refused.status, refused.code().as_str()), (409, "preflight_failed"));
    assert!(refused.text().contains(&world.secret()), "it names the secret: {}", refused.text());
    world.aws.make_secret(&world.secret());
    let _page = daemon.connect();
}

#[test]
fn another_secret_is_out_of_reach() {
    let world = world("elsewhere", &|prefix| json!([write(prefix)]));
    let elsewhere = format!("/elsewhere/{}", world.name);
    world.aws.make_secret(&elsewhere);
    let mut config = world.config();
    config.integrations = config.integrations.replace(&world.secret(), &elsewhere);
    let daemon = world.start(&config);
    let status = eventually("the store refused", || {
        Some(daemon.status()).filter(|status| status["lastError"] == "denied")
    });
    assert_eq!(status["status"], "pending", "{status}");
    assert_eq!(world.aws.value(&elsewhere, "AWSCURRENT"), None);
}

#[test]
fn create_mode_creates_below_its_prefix_only() {
    let world = world("create", &|prefix| json!([write(prefix), create(prefix), tag(prefix)]));
    let outside = format!("/outside/{}", world.name);
    let mut config = Config { store: world.store_keys("create"), ..world.config() };
    let second = world.integration("acme-outside", World::PROVIDER);
    let second = second.replace(&format!("/sym/{}/acme-outside", world.name), &outside);
    config.integrations.push_str(&second);
    let daemon = world.start(&config);
    assert!(!world.aws.exists(&world.secret()));
    let _page = daemon.connect();
    let record = eventually("the secret is made and written", || world.aws.record(&world.secret()));
    assert_eq!(record["status"], "connected");
    assert_eq!(daemon.refresh().status, 200);
    eventually("the rotated token is stored", || (daemon.status()["stored"] == true).then_some(()));

    let link = daemon.cli(&["connect", "acme-outside"]).stdout;
    let page = crate::world::Browser::new().connect(link.trim());
    assert_ne!(page.code().as_deref(), Some("token_validation_failed"), "{}", page.text());
    assert!(!world.aws.exists(&outside), "a secret was created outside the prefix");
}

#[test]
fn a_role_is_assumed_with_its_external_id() {
    let mut world = world("role", &|_prefix| json!([]));
    let arn = world.aws.make_role(&world.name, "the-external-id", &policy(&json!([write(&world.name)])));
    let may_assume = policy(&json!([{ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn }]));
    let user = world.aws.make_user(&format!("{}-assuming", world.name), &may_assume);
    let role = |id: &str| format!("assume_role = {{ arn = \"{arn}\", external_id = \"{id}\" }}\n");
    let store = world.store_keys("update-only");
    world.keys = user;
    let daemon = world.start(&Config { store: format!("{store}{}", role("wrong")), ..world.config() });
    eventually("the role is not given", || (daemon.status()["lastError"] == "denied").then_some(()));
    drop(daemon);
    let daemon =
        world.start(&Config { store: format!("{store}{}", role("the-external-id")), ..world.config() });
    let _page = daemon.connect();
    assert!(world.aws.record(&world.secret()).is_some());
}

/// A world at ministack whose daemon has a user with exactly these statements.
fn world(name: &str, statements: &dyn Fn(&str) -> Value) -> World {
    let mut world = World::with(name, ministack(), oidc(), 3600);
    let keys = world.aws.make_user(&world.name, &policy(&statements(&world.name)));
    world.keys = keys;
    world
}

fn policy(statements: &Value) -> Value {
    let mut all = statements.as_array().unwrap().clone();
    if all.is_empty() {
        all.push(json!({ "Effect": "Deny", "Action": "*", "Resource": "*" }));
    }
    json!({ "Version": "2012-10-17", "Statement": all })
}

/// Update-only, as `facts` and `grantd policy` spell it.
fn write(prefix: &str) -> Value {
    json!({
        "Sid": "Write", "Effect": "Allow",
        "Action": ["secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage",
            "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
        "Resource": Aws::arn(&format!("/sym/{prefix}/*-??????")),
    })
}

/// ministack knows no `secretsmanager:Name`, so the prefix is the resource's alone.
fn create(prefix: &str) -> Value {
    json!({
        "Sid": "Create", "Effect": "Allow", "Action": "secretsmanager:CreateSecret",
        "Resource": Aws::arn(&format!("/sym/{prefix}/*")),
        "Condition": { "StringEquals": { "aws:RequestTag/managed-by": "grantd" } },
    })
}

fn tag(prefix: &str) -> Value {
    json!({
        "Sid": "TagOnCreate", "Effect": "Allow", "Action": "secretsmanager:TagResource",
        "Resource": Aws::arn(&format!("/sym/{prefix}/*")),
    })
}
