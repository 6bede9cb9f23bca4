//! What a configuration comes to, judged by the structure of the documents.

use super::super::tests::check;
use super::{Document, Names, Policies, policies};
use serde_json::{Value, json};

fn of(store: &str, more: &str) -> Policies {
    let text = format!(
        "[server]\npublic_url = \"https://grantd.acme.example\"\n[store]\nkind = \"aws-secrets-manager\"\npath = \"/sym/{{organization}}/{{integration}}\"\n{store}\n{more}"
    );
    policies(&check(&text).unwrap_or_else(|problems| panic!("{problems}")).config)
}

fn json(document: &Document) -> Value {
    let filled = document.node().fill(&Names::stand_ins(Some("eu-west-1"), Some("111111111111")));
    serde_json::to_value(filled).unwrap()
}

/// The one statement with this id.
#[track_caller]
fn statement(document: &Value, sid: &str) -> Value {
    let statements = document["Statement"].as_array().unwrap();
    let mut found = statements.iter().filter(|statement| statement["Sid"] == sid);
    let one = found.next().unwrap_or_else(|| panic!("no {sid} in {document:#}")).clone();
    assert!(found.next().is_none(), "{sid} stands twice");
    one
}

fn sids(document: &Value) -> Vec<String> {
    let statements = document["Statement"].as_array().unwrap();
    statements.iter().map(|statement| statement["Sid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn secrets_stand_one_by_one_in_the_tight_form() {
    let policies = of(
        REGION,
        &(ORGANIZATION.to_owned()
            + &integration("github", "/sym/acme/github")
            + &integration("whole", "arn:aws:secretsmanager:eu-west-1:111111111111:secret:foo-AbCdEf")
            + &integration("part", "arn:aws:secretsmanager:eu-west-1:111111111111:secret:foo/bar")),
    );
    let document = json(&policies.own[0]);
    assert_eq!(policies.own.len(), 1);
    assert_eq!(sids(&document), ["Records", "Never"]);
    assert_eq!(
        statement(&document, "Records"),
        json!({
            "Sid": "Records", "Effect": "Allow",
            "Action": ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"],
            "Resource": [
                "arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/acme/github-??????",
                "arn:aws:secretsmanager:eu-west-1:111111111111:secret:foo-AbCdEf",
                "arn:aws:secretsmanager:eu-west-1:111111111111:secret:foo/bar-??????",
            ],
        })
    );
}

#[test]
fn what_grantd_never_does_is_denied() {
    let policies = of(REGION, &(ORGANIZATION.to_owned() + &integration("github", "/sym/acme/github")));
    let never = statement(&json(&policies.own[0]), "Never");
    assert_eq!((&never["Effect"], &never["Resource"]), (&json!("Deny"), &json!(["*"])));
    for action in
        ["DeleteSecret", "PutResourcePolicy", "ReplicateSecretToRegions", "RotateSecret", "UpdateSecret"]
    {
        assert!(never["Action"].as_array().unwrap().contains(&json!(format!("secretsmanager:{action}"))));
    }
}

#[test]
fn a_secret_may_be_deleted_only_where_the_operator_says_so() {
    let store = format!("{REGION}delete = \"delete-secret\"\n");
    let policies = of(&store, &(ORGANIZATION.to_owned() + &integration("github", "/sym/acme/github")));
    let document = json(&policies.own[0]);
    assert_eq!(sids(&document), ["Records", "Delete", "Never"]);
    let delete = statement(&document, "Delete");
    assert_eq!(delete["Action"], json!(["secretsmanager:DeleteSecret"]));
    assert_eq!(delete["Resource"], statement(&document, "Records")["Resource"]);
    assert!(!statement(&document, "Never")["Action"].to_string().contains("DeleteSecret"));
}

#[test]
fn create_mode_makes_exactly_these_secrets_with_grantds_tag() {
    let store = format!("{REGION}mode = \"create\"\n");
    let document =
        json(&of(&store, &(ORGANIZATION.to_owned() + &integration("github", "/sym/acme/github"))).own[0]);
    assert_eq!(sids(&document), ["Records", "Create", "TagOnCreate", "Never"]);
    let create = statement(&document, "Create");
    let made = json!([
        "arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/acme/github",
        "arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/acme/github-??????",
    ]);
    assert_eq!(create["Action"], json!(["secretsmanager:CreateSecret"]));
    assert_eq!(create["Resource"], made);
    assert_eq!(
        create["Condition"],
        json!({
            "StringEqualsIfExists": { "secretsmanager:Name": "/sym/acme/github" },
            "StringEquals": { "aws:RequestTag/managed-by": "grantd" },
        })
    );
    assert_eq!(statement(&document, "TagOnCreate")["Resource"], made);
}

#[test]
fn client_secrets_are_read_and_nothing_else() {
    let organization = ORGANIZATION.replace(FILE, "{ secret = \"/sym/apps/github#client_secret\" }");
    let unused =
        "[[provider]]\nid = \"slack\"\nclient_id = \"c\"\nclient_secret = { secret = \"/sym/apps/slack\" }\n";
    let more = organization + unused + &integration("github", "/sym/acme/github");
    let document = json(&of(&format!("{REGION}kms_key_id = \"{KEY}\"\n"), &more).own[0]);
    assert_eq!(sids(&document), ["Records", "RecordsKey", "ClientSecrets", "ClientSecretsKey", "Never"]);
    let clients = statement(&document, "ClientSecrets");
    assert_eq!(clients["Action"], json!(["secretsmanager:GetSecretValue"]));
    assert_eq!(
        clients["Resource"],
        json!(["arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/apps/github-??????"])
    );
    assert_eq!(statement(&document, "ClientSecretsKey")["Action"], json!(["kms:Decrypt"]));
}

#[test]
fn a_key_is_used_by_secrets_manager_for_these_secrets_alone() {
    let key = |key: &str| {
        let more = ORGANIZATION.to_owned() + &integration("github", "/sym/acme/github");
        of(&format!("{REGION}kms_key_id = \"{key}\"\n"), &more)
    };
    let statement_of = |policies: &Policies| statement(&json(&policies.own[0]), "RecordsKey");
    let arn = statement_of(&key(KEY));
    let condition = json!({
        "StringEquals": { "kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com" },
        "StringLike": { "kms:EncryptionContext:SecretARN": "arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/acme/github-??????" },
    });
    assert_eq!(arn["Action"], json!(["kms:Decrypt", "kms:GenerateDataKey"]));
    assert_eq!((&arn["Resource"], &arn["Condition"]), (&json!([KEY]), &condition));
    let id = statement_of(&key("1234abcd-12ab-34cd-56ef-1234567890ab"));
    assert_eq!(
        id["Resource"],
        json!(["arn:aws:kms:eu-west-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"])
    );
    for (alias, account) in [
        ("alias/grantd", "111111111111"),
        ("arn:aws:kms:eu-west-1:333333333333:alias/grantd", "333333333333"),
    ] {
        let policies = key(alias);
        let named = statement_of(&policies);
        assert_eq!(named["Resource"], json!([format!("arn:aws:kms:eu-west-1:{account}:key/*")]));
        assert_eq!(
            named["Condition"]["ForAnyValue:StringEquals"],
            json!({ "kms:ResourceAliases": "alias/grantd" })
        );
        assert!(policies.aliases.contains("alias/grantd"));
    }
    let own = key("alias/aws/secretsmanager");
    assert_eq!(sids(&json(&own.own[0])), ["Records", "Never"]);
    assert!(own.aliases.is_empty());
}

#[test]
fn an_assumed_role_has_a_policy_a_trust_policy_and_the_right_to_be_assumed() {
    let globex = "[[organization]]\nid = \"globex\"\nstore = { region = \"us-east-1\", assume_role = { arn = \"arn:aws:iam::222222222222:role/teams/grantd\", external_id = \"ext-1\" } }\n";
    let theirs = integration("theirs", "/globex/github")
        .replace("organization = \"acme\"", "organization = \"globex\"");
    let more = ORGANIZATION.to_owned() + globex + &integration("github", "/sym/acme/github") + &theirs;
    let policies = of(REGION, &more);
    let own = json(&policies.own[0]);
    assert_eq!(
        statement(&own, "AssumeRoles")["Resource"],
        json!(["arn:aws:iam::222222222222:role/teams/grantd"])
    );
    assert!(!own.to_string().contains("globex"), "the role's secrets are not grantd's own to use");
    let [target] = policies.targets.as_slice() else { panic!("one role") };
    assert_eq!(
        (target.account(), target.name(), target.path().as_str()),
        ("222222222222", "grantd", "/teams/")
    );
    let theirs = json(&target.documents[0]);
    assert_eq!(sids(&theirs), ["Records", "Never"]);
    assert_eq!(
        statement(&theirs, "Records")["Resource"],
        json!(["arn:aws:secretsmanager:us-east-1:222222222222:secret:/globex/github-??????"])
    );
    assert_eq!(
        json(&target.trust)["Statement"],
        json!([{
            "Sid": "GrantdAssumes", "Effect": "Allow",
            "Principal": { "AWS": "arn:aws:iam::111111111111:role/GRANTD_ROLE" },
            "Action": ["sts:AssumeRole"],
            "Condition": { "StringEquals": { "sts:ExternalId": "ext-1" } },
        }])
    );
}

#[test]
fn sealed_files_need_nothing_and_regions_stand_apart() {
    let more = ORGANIZATION.to_owned()
        + "[[organization]]\nid = \"local\"\nstore = { kind = \"sealed-file\" }\n[[organization]]\nid = \"us\"\nstore = { region = \"us-east-1\" }\n"
        + &integration("here", "/sym/acme/here")
        + &integration("there", "/sym/us/there").replace("\"acme\"", "\"us\"")
        + &integration("disk", "/x").replace("\"acme\"", "\"local\"");
    let policies = of(&format!("{REGION}kms_key_id = \"alias/grantd\"\n"), &more);
    assert_eq!(policies.local.iter().map(ToString::to_string).collect::<Vec<_>>(), ["disk"]);
    let document = json(&policies.own[0]);
    assert_eq!(sids(&document), ["Records", "RecordsKey", "Records2", "RecordsKey2", "Never"]);
    assert_eq!(
        statement(&document, "RecordsKey2")["Condition"]["StringEquals"]["kms:ViaService"],
        "secretsmanager.us-east-1.amazonaws.com"
    );
    let local = "[server]\npublic_url = \"https://grantd.acme.example\"\n".to_owned()
        + ORGANIZATION
        + &integration("disk", "/x");
    let none = super::policies(&check(&local).unwrap().config);
    assert!(none.own.is_empty() && none.targets.is_empty());
}

#[test]
fn documents_stay_under_the_limit_and_lose_no_secret() {
    let many: String =
        (0..200).map(|n| integration(&format!("app-{n}"), &format!("/sym/acme/app/{n}"))).collect();
    let store = format!("{REGION}mode = \"create\"\nkms_key_id = \"alias/grantd\"\n");
    let policies = of(&store, &(ORGANIZATION.to_owned() + &many));
    assert!(policies.own.len() > 5, "{}", policies.own.len());
    let documents: Vec<Value> = policies.own.iter().map(json).collect();
    for document in &documents {
        let length = document.to_string().len();
        assert!(length <= 6144, "{length} characters");
    }
    // No document stands half empty, so that as few as possible are attached.
    assert!(documents.iter().rev().skip(1).all(|document| document.to_string().len() > 5000));
    for n in 0..200 {
        let arn = format!("secret:/sym/acme/app/{n}-??????\"");
        let holding = documents.iter().filter(|document| document.to_string().contains(&arn)).count();
        assert_eq!(holding, 1, "{arn}");
    }
    let denying = documents.iter().filter(|document| sids(document).contains(&"Never".to_owned())).count();
    assert_eq!(denying, 1);
}

fn integration(id: &str, secret: &str) -> String {
    format!(
        "[[integration]]\nid = \"{id}\"\norganization = \"acme\"\nprovider = \"github\"\nsecret = \"{secret}\"\n"
    )
}

const REGION: &str = "region = \"eu-west-1\"\n";
const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const FILE: &str = "{ env = \"GITHUB_CLIENT_SECRET\" }";
const ORGANIZATION: &str = "[[organization]]\nid = \"acme\"\n[[provider]]\nid = \"github\"\nclient_id = \"Iv1.x\"\nclient_secret = { env = \"GITHUB_CLIENT_SECRET\" }\n";
