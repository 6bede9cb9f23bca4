//! `grantd policy`: what it prints is enough for grantd's whole work and for nothing more, and each format is well formed.

use crate::world::{Aws, Config, World, eventually, grantd, ministack, oidc, peers_home, run};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn the_printed_policy_is_enough_and_no_more() {
    let mut world = World::with("policy", ministack(), oidc(), 3600);
    let config = world.config();
    let policy = printed(&world, &config);
    world.keys = world.aws.make_user(&world.name, &policy);
    let daemon = world.start(&config);
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    eventually("the rotated token is stored", || (daemon.status()["stored"] == true).then_some(()));
    assert_eq!(daemon.cli(&["revoke", World::INTEGRATION]).code, 0);
    eventually("the record is cleared", || {
        (world.aws.record(&world.secret())?["status"] == "revoked").then_some(())
    });
    assert_no_more(&world);
}

#[test]
fn the_printed_policy_of_create_mode_makes_its_secrets_only() {
    let mut world = World::with("policy-create", ministack(), oidc(), 3600);
    let config = Config { store: world.store_keys("create"), ..world.config() };
    world.keys = world.aws.make_user(&world.name, &printed(&world, &config));
    let daemon = world.start(&config);
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    eventually("the rotated token is stored", || (daemon.status()["stored"] == true).then_some(()));
    assert_no_more(&world);
}

#[test]
fn the_printed_policies_of_an_assumed_role_work_together() {
    let mut world = World::with("policy-role", ministack(), oidc(), 3600);
    let role = format!("{}-role", world.name);
    let assume = format!(
        "{}assume_role = {{ arn = \"arn:aws:iam::{ACCOUNT}:role/{role}\", external_id = \"the-external-id\" }}\n",
        world.store_keys("update-only")
    );
    let config = Config { store: assume, ..world.config() };
    let all = printed(&world, &config);
    let document = |name: &str| {
        let policies = all["Policies"].as_array().unwrap();
        let found = policies.iter().find(|policy| policy["Name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {all:#}"))["PolicyDocument"].clone()
    };
    let trust = &document(&format!("{role}-trust"))["Statement"][0];
    assert_eq!(trust["Condition"]["StringEquals"]["sts:ExternalId"], "the-external-id");
    world.keys = world.aws.make_user(&world.name, &document("grantd"));
    let made = world.aws.make_role(&role, "the-external-id", &document(&format!("grantd-for-{role}")));
    assert_eq!(made, format!("arn:aws:iam::{ACCOUNT}:role/{role}"));
    let daemon = world.start(&config);
    let _page = daemon.connect();
    assert!(world.aws.record(&world.secret()).is_some());
    let bare = world.aws.with_keys(world.keys.clone());
    assert!(bare.value(&world.secret(), "AWSCURRENT").is_none(), "without the role there is no way");
}

#[test]
fn every_format_is_well_formed_and_says_the_same() {
    let world = World::new("policy-formats");
    let config = wide(&world);
    world.write_config(&config);
    let iam: Value = serde_json::from_str(&policy(&world, &["--account", ACCOUNT])).unwrap();
    let hcl = policy(&world, &["--format", "terraform"]);
    let formation = policy(&world, &["--format", "cloudformation"]);
    for document in iam["Policies"].as_array().unwrap() {
        let records = document["PolicyDocument"].to_string().matches("-??????").count();
        assert!(records > 0 || document["Name"].as_str().unwrap().ends_with("-trust"), "{document:#}");
    }
    for secret in ["/sym/acme/first", "/sym/globex/second"] {
        for text in [&iam.to_string(), &hcl, &formation] {
            assert!(text.contains(&format!("secret:{secret}-??????")), "{secret} is not in {text}");
        }
    }
    assert!(formation.contains("${AWS::Partition}") && formation.contains("${AWS::AccountId}"));
    lint(&world, &formation);
    parse_hcl(&world, &hcl);
    assert_formatted(&hcl);
}

#[test]
fn sealed_files_need_nothing_of_aws() {
    let world = World::new("policy-sealed");
    world.write_config(&world.sealed_config());
    let path = world.config_path().display().to_string();
    for format in ["iam", "terraform", "cloudformation"] {
        let ran = grantd(&world, &["policy", "--config", &path, "--format", format]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(World::INTEGRATION) && ran.stderr.contains("sealed file"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stdout.contains("secretsmanager"), "{}", ran.stdout);
    }
    let wrong = grantd(&world, &["policy", "--config", &path, "--account", "12"]);
    assert_eq!(wrong.code, 64, "{}", wrong.stderr);
}

/// With the daemon's own keys: other secrets can be neither read, written, made nor deleted, and its own not deleted.
#[track_caller]
fn assert_no_more(world: &World) {
    let other = format!("/sym/{}/other", world.name);
    world.aws.make_secret(&other);
    world.aws.put(&other, "not for grantd");
    let bare = world.aws.with_keys(world.keys.clone());
    assert!(bare.exists(&world.secret()), "its own secret is in reach");
    assert!(!bare.exists(&other), "another secret was described");
    assert!(bare.value(&other, "AWSCURRENT").is_none(), "another secret was read");
    assert!(bare.try_put(&other, "overwritten").is_err(), "another secret was written");
    assert!(bare.try_make(&format!("{other}-new")).is_err(), "another secret was made");
    assert!(bare.try_delete(&other).is_err(), "another secret was deleted");
    assert!(bare.try_delete(&world.secret()).is_err(), "its own secret was deleted");
    assert!(world.aws.exists(&world.secret()));
}

/// Two organizations, a key, a role, a client secret that AWS keeps.
fn wide(world: &World) -> Config {
    let store = "kind = \"aws-secrets-manager\"\nregion = \"eu-west-1\"\nmode = \"create\"\nkms_key_id = \"alias/grantd\"\n";
    let globex = "[[organization]]\nid = \"globex\"\nstore = { assume_role = { arn = \"arn:aws:iam::222222222222:role/teams/grantd\", external_id = \"a\\\"b${c}\" } }\n";
    let integration = |id: &str, organization: &str| {
        format!(
            "[[integration]]\nid = \"{id}\"\norganization = \"{organization}\"\nprovider = \"idp\"\nscopes = [\"openid\"]\nsecret = \"/sym/{organization}/{id}\"\n\n"
        )
    };
    let good = world.config();
    let (before, _) = good.providers.split_once("client_secret = ").unwrap();
    let (_, after) = good.providers.split_once("}\n").unwrap();
    Config {
        store: store.into(),
        more: good.more + globex,
        providers: format!("{before}client_secret = {{ secret = \"/sym/apps/idp#client_secret\" }}\n{after}"),
        integrations: integration("first", "acme") + &integration("second", "globex"),
        bindings: String::new(),
        ..good
    }
}

/// What `grantd policy` prints for a configuration at ministack's account.
#[track_caller]
fn printed(world: &World, config: &Config) -> Value {
    world.write_config(config);
    serde_json::from_str(&policy(world, &["--account", ACCOUNT])).unwrap()
}

#[track_caller]
fn policy(world: &World, arguments: &[&str]) -> String {
    let path = world.config_path().display().to_string();
    let mut all = vec!["policy", "--config", &path];
    all.extend(arguments);
    let ran = grantd(world, &all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// cfn-lint takes the template without a word.
#[track_caller]
fn lint(world: &World, template: &str) {
    let file = world.home.path().join("template.json");
    std::fs::write(&file, template).unwrap();
    let linted = run(Command::new(python()).arg("-c").arg(LINT).arg(&file));
    let said =
        String::from_utf8_lossy(&linted.stdout).into_owned() + &String::from_utf8_lossy(&linted.stderr);
    assert!(linted.status.success(), "{said}\n{template}");
}

/// python-hcl2 reads it, and each policy in it is an object with statements.
#[track_caller]
fn parse_hcl(world: &World, text: &str) {
    let file = world.home.path().join("main.tf");
    std::fs::write(&file, text).unwrap();
    let parsed = run(Command::new(python()).arg("-c").arg(PARSE).arg(&file));
    assert!(parsed.status.success(), "{}\n{text}", String::from_utf8_lossy(&parsed.stderr));
    let tree: Value = serde_json::from_slice(&parsed.stdout).unwrap();
    let text = tree.to_string();
    for resource in ["aws_iam_policy", "aws_iam_role", "aws_iam_role_policy_attachment"] {
        assert!(text.contains(resource), "{resource} is not in {tree:#}");
    }
}

/// `terraform fmt` has nothing to change, where Terraform is; everywhere, its two rules are checked: two spaces a bracket, and one
/// column for the `=` of neighbours that are one line each.
#[track_caller]
fn assert_formatted(text: &str) {
    assert_laid_out(text);
    let mut child = match Command::new("terraform")
        .args(["fmt", "-check", "-diff", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(_missing) => return eprintln!("SKIPPED: terraform is not there, its fmt is not asked"),
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

fn assert_laid_out(text: &str) {
    let (mut depth, mut neighbours): (usize, Vec<(usize, usize)>) = (0, Vec::new());
    let close = |run: &mut Vec<(usize, usize)>| {
        let longest = run.iter().map(|(name, _)| *name).max().unwrap_or(0);
        assert!(run.iter().all(|(_, column)| *column == longest), "not aligned: {run:?}\n{text}");
        run.clear();
    };
    for line in text.lines() {
        let trimmed = line.trim_start();
        assert_eq!(line, line.trim_end(), "white space at the end");
        let closing = trimmed.starts_with([']', '}']);
        depth = depth.saturating_sub(usize::from(closing));
        if !trimmed.is_empty() {
            assert_eq!(line.len() - trimmed.len(), depth * 2, "indented otherwise: {line}");
        }
        let opening = line.ends_with(['[', '{']);
        match trimmed.split_once(" = ").filter(|_| !opening && !trimmed.starts_with('#')) {
            Some((name, _)) => neighbours.push((name.trim_end().len(), name.len())),
            None => close(&mut neighbours),
        }
        depth += usize::from(opening);
    }
    close(&mut neighbours);
}

fn python() -> PathBuf {
    peers_home().join("python/bin/python")
}

const ACCOUNT: &str = Aws::ACCOUNT;
const LINT: &str = "import sys; from cfnlint.runner import main; main()";
const PARSE: &str = "import json, sys, hcl2; print(json.dumps(hcl2.load(open(sys.argv[1]))))";
