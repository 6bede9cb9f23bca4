//! Makes edges and a plan of a checked configuration. Connects to nothing.
//!
//! Stores with the same settings are one store, and stay over a reload, with their connections.

use super::grants;
use super::performer::{Route, Routes};
use super::preflight::Subject;
use crate::config::{
    self, AccountConfig, Config, IntegrationConfig, ProviderConfig, RevokeStyle, SecretSource, StoreConfig,
    StoreKind, StoreMode, Surroundings, Unreadable,
};
use crate::edge::provider::{
    AccountLookup, Api, ClientAuth, Credential, Employer, Endpoints, IdentityProvider, Minting, Pkce,
    Provider, Registration, Revoke, TokenIn, Transport,
};
use crate::edge::store::{AssumeRole, AwsSettings, Delete, Mode, SealedFiles, SecretsManager, Store};
use crate::engine::{Clock, Plan, Planned, SignIn};
use crate::lifecycle::{IntegrationId, ProviderId};
use crate::secret::{ClientSecret, SealKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// What edges are made with.
pub(super) struct Composer {
    pub(super) transport: Transport,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) around: Arc<dyn Surroundings + Send + Sync>,
    aws: BTreeMap<AwsSettings, Arc<SecretsManager>>,
}

/// A secret of the configuration that cannot be read now, although it could be when the configuration was checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose}: {why} ({remedy})", remedy = .why.remedy)]
pub(super) struct Secretless {
    whose: String,
    why: Unreadable,
}

impl Composer {
    pub(super) fn new(
        transport: Transport,
        clock: Arc<dyn Clock>,
        around: Arc<dyn Surroundings + Send + Sync>,
    ) -> Self {
        Self { transport, clock, around, aws: BTreeMap::new() }
    }

    /// Where each integration's effects go. Sealed files are sealed with `key`.
    pub(super) fn routes(&mut self, config: &Config, key: &Arc<SealKey>) -> Result<Routes, Secretless> {
        let sealed = Arc::new(SealedFiles::new(config.state.directory.join("store"), Arc::clone(key)));
        let mut routes = Routes::new();
        for (id, subject) in self.subjects(config)? {
            let store = subject.records.as_ref().map_or_else(
                || Store::Sealed(Arc::clone(&sealed)),
                |manager| Store::Aws(Arc::clone(manager)),
            );
            let route = Route {
                provider: subject.reach.clone(),
                errand: grants::errand(&subject.integration),
                redirect_uri: redirect_uri(&config.server.public_url, &id, &subject.provider),
                per_integration: subject.provider.redirect_per_integration,
                store,
                place: subject.integration.secret.clone(),
                subject: Arc::new(subject),
            };
            routes.insert(id, route);
        }
        Ok(routes)
    }

    /// What each integration depends on.
    pub(super) fn subjects(
        &mut self,
        config: &Config,
    ) -> Result<BTreeMap<IntegrationId, Subject>, Secretless> {
        let mut providers: BTreeMap<&ProviderId, Provider> = BTreeMap::new();
        for (id, provider) in &config.providers {
            providers.insert(id, self.provider(config, provider)?);
        }
        let mut subjects = BTreeMap::new();
        for (id, integration) in &config.integrations {
            let named = &integration.identity.provider;
            let (Some(reach), Some(provider)) = (providers.get(named), config.providers.get(named)) else {
                continue;
            };
            let fetched =
                provider.client_secrets().any(|source| matches!(source, SecretSource::Secret { .. }));
            let subject = Subject {
                integration: integration.clone(),
                provider: provider.clone(),
                base: config.store.clone(),
                reach: reach.clone(),
                records: (integration.store.kind == StoreKind::Aws)
                    .then(|| self.secrets_manager(&integration.store)),
                clients: fetched.then(|| self.secrets_manager(&config.store)),
                clock: Arc::clone(&self.clock),
            };
            subjects.insert(id.clone(), subject);
        }
        Ok(subjects)
    }

    /// Each Secrets Manager that was made so far.
    pub(super) fn managers(&self) -> impl Iterator<Item = &Arc<SecretsManager>> {
        self.aws.values()
    }

    fn secrets_manager(&mut self, store: &StoreConfig) -> Arc<SecretsManager> {
        let settings = aws_settings(store);
        let made = || Arc::new(SecretsManager::new(settings.clone()));
        Arc::clone(self.aws.entry(settings.clone()).or_insert_with(made))
    }

    fn provider(&mut self, config: &Config, provider: &ProviderConfig) -> Result<Provider, Secretless> {
        let client_secret = self
            .credential(config, provider.client_secret.as_ref())
            .map_err(|why| Secretless { whose: format!("provider {}", provider.id), why })?;
        let next = self
            .credential(config, provider.client_secret_next.as_ref())
            .map_err(|why| Secretless { whose: format!("provider {}", provider.id), why })?;
        let client_secret = if matches!(next, Credential::None) {
            client_secret
        } else {
            Credential::either(client_secret, next)
        };
        let signs = provider.grant.private_key.as_ref();
        let key = self
            .credential(config, signs)
            .map_err(|why| Secretless { whose: format!("the private_key of {}", provider.id), why })?;
        let minting = grants::minting(&provider.grant, key);
        let registration = Registration { minting, ..registration(provider, client_secret) };
        Ok(Provider::new(registration, self.transport.clone(), Arc::clone(&self.clock)))
    }
}

impl Composer {
    /// Where operators sign in, if that is configured.
    pub(super) fn sign_in(&mut self, config: &Config) -> Result<Option<Arc<dyn SignIn>>, Secretless> {
        let Some(operators) = &config.operators else { return Ok(None) };
        let client_secret = self
            .credential(config, operators.client_secret.as_ref())
            .map_err(|why| Secretless { whose: "[operators]".into(), why })?;
        let mut redirect_uri = config.server.public_url.clone();
        redirect_uri.set_path("/sign-in/callback");
        let rules = config.organizations.values().filter_map(|people| people.admins.as_ref());
        let employer = Employer {
            issuer: operators.issuer.clone(),
            client_id: operators.client_id.clone(),
            client_secret,
            redirect_uri,
            claims: rules.map(|admins| admins.claim.clone()).collect(),
        };
        let made = IdentityProvider::new(employer, self.transport.clone(), Arc::clone(&self.clock));
        Ok(made.map(|made| Arc::new(made) as Arc<dyn SignIn>))
    }

    fn credential(
        &mut self,
        config: &Config,
        source: Option<&SecretSource>,
    ) -> Result<Credential, Unreadable> {
        match source {
            None => Ok(Credential::None),
            Some(SecretSource::Secret { name, member }) => {
                Ok(fetched(self.secrets_manager(&config.store), name.clone(), member.clone()))
            }
            Some(local) => local
                .read_text(self.around.as_ref())
                .map(|text| Credential::Known(ClientSecret::new(text.as_str()))),
        }
    }
}

/// A client secret that the company keeps in Secrets Manager.
fn fetched(manager: Arc<SecretsManager>, name: String, member: Option<String>) -> Credential {
    Credential::fetched(move || {
        let (manager, name, member) = (Arc::clone(&manager), name.clone(), member.clone());
        Box::pin(async move { manager.fetch_text(&name, member.as_deref()).await })
    })
}

/// What the engine is told.
pub(super) fn plan(config: &Config) -> Plan {
    let planned = |integration: &IntegrationConfig| {
        let provider = config.providers.get(&integration.identity.provider)?;
        Some(Planned {
            identity: integration.identity.clone(),
            provider_name: provider.name.clone(),
            kept_in: integration.kept_in(),
            terms: integration.terms(provider),
        })
    };
    Plan {
        integrations: config
            .integrations
            .iter()
            .filter_map(|(id, integration)| Some((id.clone(), planned(integration)?)))
            .collect(),
        bindings: config.bindings.clone(),
        state_expiry: config.state_expiry,
        allowed_redirects: config.allowed_redirects.clone(),
    }
}

/// Where each integration's API is.
pub(super) fn apis(config: &Config) -> BTreeMap<IntegrationId, Arc<Api>> {
    let made: BTreeMap<&ProviderId, Arc<Api>> =
        config.providers.iter().map(|(id, provider)| (id, Arc::new(api(provider)))).collect();
    let of = |integration: &IntegrationConfig| made.get(&integration.identity.provider).cloned();
    config.integrations.iter().filter_map(|(id, one)| Some((id.clone(), of(one)?))).collect()
}

fn api(provider: &ProviderConfig) -> Api {
    let config::ProxyConfig { token_in, headers, left_header } = provider.proxy.clone();
    Api {
        base: provider.api_base.clone(),
        token_in: match token_in {
            config::TokenIn::Header { name, prefix } => TokenIn::Header { name, prefix },
            config::TokenIn::Query { param } => TokenIn::Query { param },
            config::TokenIn::Path { prefix } => TokenIn::Path { prefix },
        },
        headers,
        left_header: Some(left_header),
    }
}

/// The redirect URI that is registered at the provider (contract §4).
fn redirect_uri(public_url: &Url, integration: &IntegrationId, provider: &ProviderConfig) -> Url {
    let mut url = public_url.clone();
    let mut path = format!("/v1/integrations/oauth/callback/{}", provider.id);
    if provider.redirect_per_integration {
        path = format!("{path}/{integration}");
    }
    url.set_path(&path);
    url
}

fn registration(provider: &ProviderConfig, client_secret: Credential) -> Registration {
    Registration {
        id: provider.id.clone(),
        client_id: provider.client_id.clone(),
        client_secret,
        client_auth: match provider.client_auth {
            config::ClientAuth::Basic => ClientAuth::Basic,
            config::ClientAuth::Body => ClientAuth::Body,
            config::ClientAuth::Json => ClientAuth::Json,
            config::ClientAuth::BasicJson => ClientAuth::BasicJson,
        },
        endpoints: Endpoints {
            authorize: provider.authorize_url.clone(),
            token: provider.token_url.clone(),
            revoke: provider.revoke_url.as_ref().map(|url| with_client_id(url, &provider.client_id)),
            userinfo: provider.userinfo_url.clone(),
            device: provider.grant.device_url.clone(),
            issuer_promised: false,
        },
        issuer: provider.issuer.clone(),
        scope_separator: provider.scope_separator.clone(),
        pkce: if provider.pkce { Pkce::Sent } else { Pkce::Broken },
        authorize_params: provider.authorize_params.clone(),
        token_headers: provider.token_headers.clone(),
        account: provider.account.as_ref().map(account),
        revoke: match provider.revoke {
            RevokeStyle::Rfc7009 => Revoke::Rfc7009,
            RevokeStyle::DeleteJson => Revoke::DeleteJson,
            RevokeStyle::Bearer => Revoke::Bearer,
            RevokeStyle::TokenInPath => Revoke::TokenInPath,
            RevokeStyle::DeleteBearer => Revoke::DeleteBearer,
            RevokeStyle::Unsupported => Revoke::Unsupported,
        },
        minting: Minting::None,
    }
}

/// GitHub's revocation endpoint has the client id in its path, where the URL says `{client_id}`.
fn with_client_id(url: &Url, client_id: &str) -> Url {
    let encoded: String = url::form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
    let path = url.path().replace("%7Bclient_id%7D", &encoded).replace("{client_id}", &encoded);
    let mut url = url.clone();
    url.set_path(&path);
    url
}

fn account(account: &AccountConfig) -> AccountLookup {
    let AccountConfig { url, post, headers, body, success_at, id, name, username, email } = account.clone();
    AccountLookup { url, post, headers, body, success_at, id, name, username, email }
}

fn aws_settings(store: &StoreConfig) -> AwsSettings {
    AwsSettings {
        region: store.region.clone(),
        mode: match store.mode {
            StoreMode::UpdateOnly => Mode::UpdateOnly,
            StoreMode::Create => Mode::Create,
        },
        kms_key_id: store.kms_key_id.clone(),
        assume_role: store
            .assume_role
            .as_ref()
            .map(|role| AssumeRole { arn: role.arn.clone(), external_id: role.external_id.clone() }),
        endpoint_url: store.endpoint_url.clone(),
        delete: if store.deletes { Delete::DeleteSecret } else { Delete::Empty },
    }
}

#[cfg(test)]
mod tests {
    use super::with_client_id;
    use url::Url;

    #[test]
    fn the_client_id_takes_its_place_in_a_path() {
        let url = Url::parse("https://api.github.com/applications/{client_id}/token").unwrap();
        assert_eq!(
            with_client_id(&url, "Iv1.a/b").as_str(),
            "https://api.github.com/applications/Iv1.a%2Fb/token"
        );
    }
}
