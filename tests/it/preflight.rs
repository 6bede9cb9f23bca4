//! What a consent needs is looked at before it begins, and by `grantd check`; each finding has a remedy, and the remedy works.
//!
//! Remedies are pasted as a person would: commands of the AWS CLI become the calls that the CLI makes, statements become policies.

use crate::world::{Aws, Config, Daemon, Ran, Trouble, Vault, World, grantd, ministack, moto, oidc};
use http::Method;
use serde_json::{Value, json};

#[test]
fn a_missing_secret_is_found_before_consent_and_its_remedy_makes_it() {
    let mut world = World::with("pre-missing", ministack(), oidc(), 3600);
    let config = world.config();
    world.write_config(&config);
    let policy = printed(&world);
    world.keys = world.aws.make_user(&world.name, &policy);
    let daemon = Daemon::start(&world);
    let refused = start(&daemon);
    let found = only(&refused);
    assert!(found["what"].as_str().unwrap().contains(&world.secret()), "{found}");
    let ran = daemon.cli(&["connect", World::INTEGRATION]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("preflight_failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("aws secretsmanager create-secret --name"), "{}", ran.stderr);
    paste(&world, found["fix"].as_str().unwrap().lines().next().unwrap());
    assert!(world.aws.exists(&world.secret()));
    let _page = daemon.connect();
}

#[test]
fn a_missing_permission_is_found_before_consent_and_its_remedy_grants_it() {
    let mut world = World::with("pre-denied", ministack(), oidc(), 3600);
    world.aws.make_secret(&world.secret());
    let statement = |actions: &[&str]| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Resource": Aws::arn(&format!("{}-??????", world.secret())),
            "Action": actions.iter().map(|action| format!("secretsmanager:{action}")).collect::<Vec<_>>(),
        }] })
    };
    let (bare, reading) = (statement(&["GetSecretValue"]), statement(&["DescribeSecret", "GetSecretValue"]));
    world.keys = world.aws.make_user(&world.name, &bare);
    world.write_config(&world.config());
    let daemon = Daemon::start(&world);
    let found = only(&start(&daemon));
    // ministack does not show whether the secret is there; AWS does.
    assert!(found["what"].as_str().unwrap().contains("may not describe it"), "{found}");
    let (_, if_it_exists) = found["fix"].as_str().unwrap().split_once('\n').unwrap();
    paste(&world, if_it_exists);
    let _page = daemon.connect();
    // What grantd wrote can be written again: a lost permission is found without a new version.
    let current = world.aws.stages(&world.secret())["AWSCURRENT"].clone();
    world.aws.set_policy(&world.name, &reading);
    let found = only(&start(&daemon));
    assert!(found["what"].as_str().unwrap().contains("secretsmanager:PutSecretValue"), "{found}");
    let checked = check(&world);
    assert_eq!(checked.code, 69, "{}", checked.stderr);
    assert_eq!(findings(&checked)[0]["what"], found["what"]);
    paste(&world, found["fix"].as_str().unwrap());
    assert_eq!(check(&world).code, 0);
    // ministack drops AWSPREVIOUS at a repeat, which AWS ignores: see the tests against moto and the fake.
    assert_eq!(world.aws.stages(&world.secret())["AWSCURRENT"], current);
}

#[test]
fn a_look_makes_no_version_and_says_what_it_cannot_prove() {
    let world = World::with("pre-proof", moto(), oidc(), 3600);
    world.aws.make_secret(&world.secret());
    world.aws.put(&world.secret(), "a placeholder");
    let daemon = world.start(&world.config());
    let checked = check(&world);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("not proved before the first write"), "{}", checked.stdout);
    assert!(checked.stdout.contains("AWS identity: arn:aws:"), "{}", checked.stdout);
    let _page = daemon.connect();
    let before = world.aws.stages(&world.secret());
    let checked = check(&world);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(!checked.stdout.contains("not proved"), "{}", checked.stdout);
    assert_eq!(world.aws.stages(&world.secret()), before);
}

#[test]
fn a_disabled_key_is_found_by_its_name_before_consent() {
    let (world, vault) = (World::new("pre-key"), Vault::start());
    let daemon = world.start(&at(&world, &vault));
    let _page = daemon.connect();
    let versions = vault.versions();
    for (kind, message) in [
        (
            "DecryptionFailure",
            "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
        ),
        ("InvalidRequestException", "The KMS key is disabled."),
    ] {
        vault.fail("GetSecretValue", kind, message);
        let found = only(&start(&daemon));
        let (what, fix) = (found["what"].as_str().unwrap(), found["fix"].as_str().unwrap());
        assert!(what.contains(Vault::KEY) && what.contains("disabled"), "{found}");
        assert_eq!(
            fix,
            format!(
                "aws kms enable-key --key-id {} --region eu-west-1 --endpoint-url http://127.0.0.1:{}",
                Vault::KEY,
                vault.port
            )
        );
        let checked = check(&world);
        assert_eq!((checked.code, &findings(&checked)[0]["what"]), (69, &found["what"]));
        vault.heal();
    }
    vault.fail("GetSecretValue", "AccessDeniedException", "Access to KMS is not allowed");
    let found = only(&start(&daemon));
    let allowed = statement(found["fix"].as_str().unwrap());
    assert_eq!(allowed["Resource"], json!([Vault::KEY]));
    assert_eq!(
        allowed["Condition"]["StringEquals"]["kms:ViaService"],
        "secretsmanager.eu-west-1.amazonaws.com"
    );
    assert!(found["fix"].as_str().unwrap().contains("arn:aws:iam::111111111111:role/grantd-host"), "{found}");
    vault.heal();
    let puts = vault.calls("PutSecretValue");
    assert_eq!(check(&world).code, 0);
    assert_eq!(vault.calls("PutSecretValue"), puts + 2, "each time the write is proved by repeating it");
    assert_eq!(vault.versions(), versions, "a look made a version");
}

#[test]
fn a_foreign_record_and_a_lost_secret_are_told_apart() {
    let (world, vault) = (World::new("pre-foreign"), Vault::start());
    vault.plant(r#"{"schema":"grantd/1","integration":"other","organization":"acme","provider":"idp","generation":1,"refresh_token":"x","status":"connected","written_at":"2026-11-25T10:00:00Z"}"#);
    let daemon = world.start(&at(&world, &vault));
    let found = only(&start(&daemon));
    assert!(found["what"].as_str().unwrap().contains("not this integration's"), "{found}");
    for (kind, message, fix) in [
        (
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
            "restore-secret --secret-id",
        ),
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret.",
            "create-secret --name",
        ),
        ("ThrottlingException", "Rate exceeded", "try again"),
        (
            "InvalidSignatureException",
            "Signature expired: 20261125T100000Z is now earlier",
            "timedatectl set-ntp true",
        ),
    ] {
        vault.fail("DescribeSecret", kind, message);
        let found = only(&start(&daemon));
        assert!(found["fix"].as_str().unwrap().contains(fix), "{kind}: {found}");
        vault.heal();
    }
}

#[test]
fn a_missing_client_secret_is_found_and_its_remedy_makes_it() {
    let mut world = World::with("pre-client", ministack(), oidc(), 3600);
    let name = format!("/sym/apps/{}", world.name);
    let good = world.config();
    let (before, _) = good.providers.split_once("client_secret = ").unwrap();
    let (_, after) = good.providers.split_once("}\n").unwrap();
    let reference = format!("client_secret = {{ secret = \"{name}#client_secret\" }}\n");
    world.write_config(&Config { providers: format!("{before}{reference}{after}"), ..good.clone() });
    let policy = printed(&world);
    world.keys = world.aws.make_user(&world.name, &policy);
    world.aws.make_secret(&world.secret());
    let daemon = Daemon::start(&world);
    let found = only(&start(&daemon));
    assert!(found["what"].as_str().unwrap().contains(&name), "{found}");
    assert!(found["where"].as_str().unwrap().contains("client_secret"), "{found}");
    let command = found["fix"].as_str().unwrap().lines().next().unwrap();
    assert!(command.contains("'{\"client_secret\":\"CLIENT_SECRET\"}'"), "{command}");
    world.aws.make_secret(&name);
    world.aws.put(&name, r#"{"another": "member"}"#);
    let found = only(&start(&daemon));
    assert!(found["what"].as_str().unwrap().contains("has no text under"), "{found}");
    let filled = found["fix"].as_str().unwrap().replace("CLIENT_SECRET", &world.client.secret);
    paste(&world, &filled);
    let _page = daemon.connect();
}

#[test]
fn a_provider_that_does_not_answer_is_found_and_gets_no_credentials() {
    let world = World::new("pre-provider");
    let daemon = world.start(&world.config());
    let before = world.idp.taken();
    assert_eq!(start(&daemon).status, 200);
    assert_eq!(world.idp.taken(), before + 1, "the token endpoint's host was tried, once");
    world.idp.set(Trouble::Refuse);
    let found = only(&start(&daemon));
    assert!(found["what"].as_str().unwrap().contains("Acme ID does not answer"), "{found}");
    assert!(found["fix"].as_str().unwrap().contains("curl"), "{found}");
    let checked = check(&world);
    assert_eq!((checked.code, &findings(&checked)[0]["what"]), (69, &found["what"]));
    world.idp.set(Trouble::None);
    assert_eq!(start(&daemon).status, 200);
}

#[test]
fn check_names_all_that_is_missing_for_every_integration() {
    let world = World::with("pre-check", moto(), oidc(), 3600);
    let good = world.config();
    let more = world.integration("acme-another", World::PROVIDER);
    let schedule = "schedule = \"0 0 3 * * *\"\n".to_owned();
    world.write_config(&Config {
        integrations: good.integrations.clone() + &more,
        rotation: schedule,
        ..good
    });
    let checked = check(&world);
    assert_eq!(checked.code, 69, "{}{}", checked.stdout, checked.stderr);
    let told = findings(&checked).iter().map(Value::to_string).collect::<String>();
    assert!(told.contains("acme-idp") && told.contains("acme-another"), "{told}");
    assert!(checked.stdout.contains("\"nextFirings\":[\""), "{}", checked.stdout);
    let path = world.config_path().display().to_string();
    let plain = grantd(&world, &["check", "--config", &path]);
    assert_eq!(plain.code, 69);
    assert_eq!(plain.stderr.matches("missing: ").count(), 2, "{}", plain.stderr);
    assert_eq!(plain.stderr.matches("aws secretsmanager create-secret").count(), 2, "{}", plain.stderr);
    let offline = grantd(&world, &["check", "--offline", "--config", &path]);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    assert!(!world.state().exists(), "a check made the state directory");
}

#[test]
fn without_an_identity_nothing_else_is_blamed() {
    let mut world = World::with("pre-nobody", ministack(), oidc(), 3600);
    world.keys.id = "AKIANOBODY0000000000".into();
    world.write_config(&world.config());
    let checked = check(&world);
    assert_eq!(checked.code, 69, "{}", checked.stdout);
    let findings = findings(&checked);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0]["what"].as_str().unwrap().contains("credentials"), "{findings:?}");
}

#[test]
fn a_role_that_is_not_given_is_named_with_both_statements() {
    let mut world = World::with("pre-role", ministack(), oidc(), 3600);
    let nothing = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Deny", "Action": "secretsmanager:*", "Resource": "*" }] });
    let arn = world.aws.make_role(&world.name, "the-external-id", &nothing);
    world.keys = world.aws.make_user(&world.name, &nothing);
    let role = format!(
        "{}assume_role = {{ arn = \"{arn}\", external_id = \"the-external-id\" }}\n",
        world.store_keys("update-only")
    );
    world.write_config(&Config { store: role, ..world.config() });
    let daemon = Daemon::start(&world);
    let found = only(&start(&daemon));
    let fix = found["fix"].as_str().unwrap();
    assert!(found["what"].as_str().unwrap().contains("is not given to"), "{found}");
    assert!(
        fix.contains("\"sts:AssumeRole\"") && fix.contains("\"sts:ExternalId\":\"the-external-id\""),
        "{fix}"
    );
    assert!(fix.contains(&format!("user/{}", world.name)), "{fix}");
}

#[test]
fn sealed_files_need_a_disk_that_takes_writes() {
    let world = World::new("pre-sealed");
    world.write_config(&world.sealed_config());
    let daemon = Daemon::start(&world);
    assert_eq!(start(&daemon).status, 200);
    assert_eq!(check(&world).code, 0);
}

/// A configuration whose records are in the fake.
fn at(world: &World, vault: &Vault) -> Config {
    let store = format!(
        "kind = \"aws-secrets-manager\"\nregion = \"eu-west-1\"\nendpoint_url = \"http://127.0.0.1:{}\"\n",
        vault.port
    );
    Config { store, ..world.config() }
}

fn start(daemon: &Daemon<'_>) -> crate::world::Answer {
    let body = json!({ "integration": World::INTEGRATION });
    daemon.operate(Method::POST, "/v1/integrations/oauth/start", Some(&body))
}

/// The one thing that is missing.
#[track_caller]
fn only(answer: &crate::world::Answer) -> Value {
    assert_eq!((answer.status, answer.code().as_str()), (409, "preflight_failed"), "{}", answer.text());
    let missing = answer.json()["missing"].as_array().unwrap().clone();
    assert_eq!(missing.len(), 1, "{missing:?}");
    missing[0].clone()
}

fn check(world: &World) -> Ran {
    let path = world.config_path().display().to_string();
    let text = grantd(world, &["check", "--config", &path]);
    let json = grantd(world, &["check", "--json", "--config", &path]);
    assert_eq!(text.code, json.code, "{}\n{}", text.stderr, json.stderr);
    Ran { stdout: text.stdout + &json.stdout, ..json }
}

#[track_caller]
fn findings(checked: &Ran) -> Vec<Value> {
    let json = checked.stdout.lines().last().unwrap();
    let said: Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("no JSON: {json}"));
    assert_eq!(said["ok"], false);
    said["findings"].as_array().unwrap().clone()
}

fn printed(world: &World) -> Value {
    let path = world.config_path().display().to_string();
    let ran = grantd(world, &["policy", "--account", Aws::ACCOUNT, "--config", &path]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The statement that a remedy has on a line of its own.
#[track_caller]
fn statement(fix: &str) -> Value {
    let line =
        fix.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no statement: {fix}"));
    serde_json::from_str(line).unwrap()
}

/// Does what a remedy says, with an administrator's keys.
#[track_caller]
fn paste(world: &World, fix: &str) {
    if !fix.starts_with("aws ") {
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement(fix)] });
        return world.aws.set_policy(&world.name, &policy);
    }
    let words = words(fix);
    assert_eq!(words[1], "secretsmanager", "{fix}");
    let mut body = json!({ "ClientRequestToken": uuid::Uuid::new_v4().to_string() });
    for pair in words[3..].chunks(2) {
        let [flag, value] = pair else { panic!("{fix}") };
        match flag.as_str() {
            "--region" => assert_eq!(value, Aws::REGION),
            "--endpoint-url" => assert_eq!(*value, format!("http://127.0.0.1:{}", world.store.port())),
            "--tags" => {
                let (key, value) = value.split_once(',').unwrap();
                let tag = json!({ "Key": key.trim_start_matches("Key="), "Value": value.trim_start_matches("Value=") });
                body["Tags"] = json!([tag]);
            }
            flag => body[camel(flag.trim_start_matches("--"))] = json!(value),
        }
    }
    world.aws.secrets(&camel(&words[2]), &body).unwrap();
}

fn camel(kebab: &str) -> String {
    kebab.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The words of a command, with quotes as a shell reads them.
fn words(command: &str) -> Vec<String> {
    let split =
        std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]).output().unwrap();
    String::from_utf8(split.stdout).unwrap().lines().map(str::to_owned).collect()
}
