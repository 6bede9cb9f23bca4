//! `[operators]`, and what each `[[organization]]` says about people: where operators sign in, who administers, who is who.
//!
//! The issuer stays as it was written, to its last slash: it is compared as text (OpenID Connect Core §3.1.3.7).

use super::reader::{Reader, Section};
use super::secrets::{self, SecretSource};
use super::source::{At, Spot};
use super::values;
use crate::lifecycle::{Admins, OrganizationId, ProviderId};
use std::collections::BTreeMap;
use url::Url;

/// `[operators]`: sign-in at the company's own identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorsConfig {
    /// The issuer, for discovery.
    pub issuer: String,
    /// `client_id`.
    pub client_id: String,
    /// The client secret; `None` for a public client.
    pub client_secret: Option<SecretSource>,
}

/// What an organization says about people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Who administers it; nobody on the pages where there is no rule.
    pub admins: Option<Admins>,
    /// Who it is on a provider's side (`external_ids`).
    pub external_ids: BTreeMap<ProviderId, String>,
}

/// People of an organization while the rest of the file is not read yet.
pub(super) struct Unread {
    admins: Option<(Admins, At)>,
    external_ids: Vec<(String, String)>,
    at: At,
}

pub(super) fn operators(reader: &mut Reader<'_>, mut section: Section) -> Option<OperatorsConfig> {
    let issuer = reader
        .required(&mut section, "issuer", "write the issuer of your identity provider, an https URL")
        .and_then(|issuer| checked(reader, issuer));
    let client_id = reader.required(
        &mut section,
        "client_id",
        "register grantd at your identity provider and write the client id that it gives",
    );
    let client_secret = secrets::readable(reader, &mut section, "client_secret");
    reader.finish(section);
    Some(OperatorsConfig { issuer: issuer?, client_id: client_id?.value, client_secret })
}

fn checked(reader: &mut Reader<'_>, issuer: Spot<String>) -> Option<String> {
    let Spot { value, at } = issuer;
    let fits = match Url::parse(&value) {
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Err("has a query or a fragment"),
        Ok(url) => values::endpoint(&url),
        Err(_not_a_url) => Err("is not a URL"),
    };
    match fits {
        Ok(()) => Some(value),
        Err(why) => {
            reader.wrong(
                at,
                format!("{value:?} {why}"),
                "write the issuer as its discovery document does: https://…",
            );
            None
        }
    }
}

/// Reads `admins` and `external_ids` of one organization.
pub(super) fn people(reader: &mut Reader<'_>, section: &mut Section) -> Unread {
    let at = section.at;
    let external_ids = reader.pairs(section, "external_ids");
    let admins = reader.table(section, "admins").and_then(|mut admins| {
        let at = admins.at;
        let claim = reader.required(&mut admins, "claim", "name the claim, such as \"groups\"");
        let contains = reader.required(&mut admins, "contains", "write what the claim must contain");
        reader.finish(admins);
        Some((Admins { claim: claim?.value, contains: contains?.value }, at))
    });
    Unread { admins, external_ids, at }
}

/// Judges what only shows across the file: providers that do not exist, an external id that fits twice, rules without a sign-in.
pub(super) fn settled(
    reader: &mut Reader<'_>,
    unread: BTreeMap<OrganizationId, Unread>,
    providers: &[String],
    can_sign_in: bool,
) -> BTreeMap<OrganizationId, People> {
    let mut found: BTreeMap<OrganizationId, People> = BTreeMap::new();
    let mut whose: BTreeMap<(ProviderId, String), OrganizationId> = BTreeMap::new();
    for (organization, Unread { admins, external_ids, at }) in unread {
        let mut people = People::default();
        if let Some((admins, at)) = admins {
            if !can_sign_in {
                reader.warn(
                    at,
                    "`admins` has no effect without [operators]: nobody can sign in",
                    "add [operators] with issuer, client_id and client_secret",
                );
            }
            people.admins = Some(admins);
        }
        for (provider, external) in external_ids {
            let known = providers.contains(&provider).then(|| ProviderId::parse(&provider).ok()).flatten();
            let Some(id) = known else {
                reader.wrong(
                    at,
                    format!("`external_ids` names `{provider}`, and there is no such [[provider]]"),
                    "use the id of a [[provider]]",
                );
                continue;
            };
            let earlier = whose.insert((id.clone(), external.clone()), organization.clone());
            if let Some(other) = earlier {
                reader.wrong(
                    at,
                    format!(
                        "organizations `{other}` and `{organization}` share an external id at `{provider}`"
                    ),
                    "each organization is one customer on the provider's side: correct one of them",
                );
            }
            people.external_ids.insert(id, external);
        }
        found.insert(organization, people);
    }
    found
}
