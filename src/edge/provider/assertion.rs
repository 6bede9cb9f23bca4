//! Signed assertions (RFC 7523 §2.1): a short JWT that says who asks, under a key that never leaves this host.
//!
//! The key is PEM, or the key file of a Google service account, which names its owner too. Nothing of it is kept between two
//! assertions, and nothing of it is in an error.

use super::Credential;
use crate::secret::ClientSecret;
use crate::time::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use zeroize::Zeroize as _;

/// How assertions are made.
#[derive(Debug)]
pub struct Signer {
    /// The key: PEM, or a service account's key file.
    pub key: Credential,
    /// `kid`, where the provider wants one.
    pub key_id: Option<String>,
    /// `aud`; `None`: the token endpoint.
    pub audience: Option<String>,
    /// How the assertion reaches the token endpoint.
    pub style: AssertionStyle,
}

/// How an assertion reaches the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionStyle {
    /// As the grant, in a form (RFC 7523 §2.1).
    Form,
    /// As the bearer token of the request (GitHub Apps).
    Bearer,
}

/// What an assertion says.
pub(super) struct Said<'a> {
    /// `iss`, unless the key file names it.
    pub(super) issuer: &'a str,
    pub(super) subject: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
    pub(super) scope: Option<String>,
}

/// An assertion is signed and handed over as a secret: whoever has it can use it once.
pub(super) struct Assertion {
    pub(super) jwt: ClientSecret,
    /// Whether the key file is a service account's, which wants its scopes inside the assertion alone.
    pub(super) of_account: bool,
}

impl Signer {
    /// Makes one, for the next few minutes.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the key or the configuration.
    pub(super) fn assertion(
        &self,
        key: &ClientSecret,
        said: Said<'_>,
        now: Timestamp,
    ) -> Result<Assertion, &'static str> {
        let file = KeyFile::of(key.expose_secret());
        let account = file.as_ref().map_or("", |file| file.client_email.as_str());
        let issuer = if said.issuer.is_empty() { account } else { said.issuer };
        if issuer.is_empty() {
            return Err("the assertion has no issuer: set client_id");
        }
        let pem = file.as_ref().map_or_else(|| key.expose_secret(), |file| file.private_key.as_str());
        let (algorithm, encoding) = encoding(pem).ok_or("private_key is no PEM key that can sign")?;
        let kid = self.key_id.clone().or_else(|| file.as_ref().and_then(|file| file.private_key_id.clone()));
        let header = Header { kid, ..Header::new(algorithm) };
        let claims = claims(self.style, issuer, said, now);
        let jwt = jsonwebtoken::encode(&header, &claims, &encoding)
            .map_err(|_refused| "private_key cannot sign an assertion")?;
        Ok(Assertion { jwt: ClientSecret::new(jwt), of_account: file.is_some() })
    }
}

fn claims(style: AssertionStyle, issuer: &str, said: Said<'_>, now: Timestamp) -> Map<String, Value> {
    // GitHub takes no token from its own future, and none that lives longer than ten minutes.
    let early = if style == AssertionStyle::Bearer { SKEW } else { Duration::ZERO };
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    say("iss", json!(issuer));
    say("iat", json!(now.minus(early).millis() / 1000));
    say("exp", json!(now.plus(LIFE).millis() / 1000));
    let optional = [
        ("sub", said.subject.map(str::to_owned)),
        ("aud", said.audience.map(str::to_owned)),
        ("scope", said.scope),
        ("jti", (style == AssertionStyle::Form).then(|| uuid::Uuid::new_v4().to_string())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            say(name, json!(value));
        }
    }
    claims
}

/// RSA first: both vendors that sign this way use it.
fn encoding(pem: &str) -> Option<(Algorithm, EncodingKey)> {
    let pem = pem.as_bytes();
    let rsa = || EncodingKey::from_rsa_pem(pem).ok().map(|key| (Algorithm::RS256, key));
    let ec = || EncodingKey::from_ec_pem(pem).ok().map(|key| (Algorithm::ES256, key));
    let ed = || EncodingKey::from_ed_pem(pem).ok().map(|key| (Algorithm::EdDSA, key));
    rsa().or_else(ec).or_else(ed)
}

/// The key file that Google gives for a service account.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
}

impl KeyFile {
    fn of(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// serde's copy of the key ends here.
impl Drop for KeyFile {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

const LIFE: Duration = Duration::from_secs(300);
const SKEW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::{AssertionStyle, Credential, Said, Signer};
    use crate::secret::ClientSecret;
    use crate::time::Timestamp;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use base64::Engine as _;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn pem() -> String {
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    fn signer(style: AssertionStyle) -> Signer {
        Signer { key: Credential::None, key_id: None, audience: None, style }
    }

    fn said(issuer: &str) -> Said<'_> {
        Said {
            issuer,
            subject: Some("ann@acme.example"),
            audience: Some("https://t.example"),
            scope: Some("a b".into()),
        }
    }

    fn part(jwt: &str, at: usize) -> Value {
        let text = jwt.split('.').nth(at).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_key_file_names_its_owner_and_its_key() {
        let file = json!({ "type": "service_account", "client_email": "bot@p.example", "private_key": pem(), "private_key_id": "k1" });
        let key = ClientSecret::new(file.to_string());
        let made = signer(AssertionStyle::Form).assertion(&key, said(""), NOW).unwrap();
        let jwt = made.jwt.expose_secret();
        assert!(made.of_account);
        assert_eq!(part(jwt, 0), json!({ "typ": "JWT", "alg": "RS256", "kid": "k1" }));
        let mut claims = part(jwt, 1);
        assert!(claims.as_object_mut().unwrap().remove("jti").is_some());
        assert_eq!(
            claims,
            json!({ "iss": "bot@p.example", "sub": "ann@acme.example", "aud": "https://t.example", "scope": "a b",
                "iat": 1_800_000_000, "exp": 1_800_000_300 })
        );
    }

    #[test]
    fn a_bearer_assertion_is_short_and_begins_in_the_past() {
        let said = Said { issuer: "12345", subject: None, audience: None, scope: None };
        let made = signer(AssertionStyle::Bearer).assertion(&ClientSecret::new(pem()), said, NOW).unwrap();
        assert_eq!(
            part(made.jwt.expose_secret(), 1),
            json!({ "iss": "12345", "iat": 1_799_999_940, "exp": 1_800_000_300 })
        );
    }

    #[test]
    fn what_cannot_sign_is_told_without_the_key() {
        let made = |key: &str, issuer| {
            signer(AssertionStyle::Form).assertion(&ClientSecret::new(key), said(issuer), NOW).map(drop)
        };
        assert_eq!(made("no key", "c"), Err("private_key is no PEM key that can sign"));
        assert_eq!(made(&pem(), ""), Err("the assertion has no issuer: set client_id"));
    }
}
