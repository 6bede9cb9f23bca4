//! TLS for the public listener: a certificate chain and its key, read from PEM.
//!
//! Never falls back: what cannot be served as it stands is an error with a remedy.

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Why a certificate and a key cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file holds no certificate.
    #[error("the certificate file holds no certificate: it must be PEM, with lines \"BEGIN CERTIFICATE\"")]
    NoCertificate,
    /// A certificate in the file cannot be read.
    #[error("the certificate file holds a certificate that cannot be read: export it again as PEM")]
    BadCertificate,
    /// The file holds no private key.
    #[error("the key file holds no private key: it must be PEM, with a line \"BEGIN PRIVATE KEY\"")]
    NoKey,
    /// The key is protected by a passphrase.
    #[error(
        "the private key is encrypted: decrypt it (openssl pkey -in FILE -out FILE), and keep it as a credential"
    )]
    EncryptedKey,
    /// The key is of a kind or a form that TLS cannot use.
    #[error(
        "the private key cannot be used: it must be RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519"
    )]
    BadKey,
    /// The key belongs to another certificate.
    #[error(
        "the private key does not fit the certificate: the chain must begin with the key's own certificate"
    )]
    KeyDoesNotFit,
}

/// Makes the TLS side of the listener: TLS 1.2 and 1.3, HTTP/1.1 alone.
///
/// # Errors
/// [`TlsError`], which names the file at fault.
pub fn tls_config(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_pem| TlsError::BadCertificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_pem| no_key(key_pem))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_provider| TlsError::BadKey)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| fault(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn no_key(pem: &[u8]) -> TlsError {
    let says = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if says(b"ENCRYPTED") { TlsError::EncryptedKey } else { TlsError::NoKey }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls has dozens of errors; the rest concern the key")]
const fn fault(error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyDoesNotFit,
        rustls::Error::InvalidCertificate(_) => TlsError::BadCertificate,
        _ => TlsError::BadKey,
    }
}

#[cfg(test)]
mod tests {
    use super::{TlsError, tls_config};
    use crate::edge::web::testing::{CERTIFICATE, KEY, OTHER_KEY};

    fn refused(certificate: &[u8], key: &[u8]) -> TlsError {
        tls_config(certificate, key).unwrap_err()
    }

    #[test]
    fn a_chain_and_its_key_are_taken_for_http_1_alone() {
        let config = tls_config(CERTIFICATE, KEY).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        assert_eq!(refused(b"", KEY), TlsError::NoCertificate);
        assert_eq!(refused(KEY, KEY), TlsError::NoCertificate);
        let cut = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert_eq!(refused(cut, KEY), TlsError::BadCertificate);
        let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(refused(nonsense, KEY), TlsError::BadCertificate);
        assert_eq!(refused(CERTIFICATE, b""), TlsError::NoKey);
        assert_eq!(refused(CERTIFICATE, CERTIFICATE), TlsError::NoKey);
        let locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(refused(CERTIFICATE, locked), TlsError::EncryptedKey);
        let broken = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(refused(CERTIFICATE, broken), TlsError::BadKey);
        assert_eq!(refused(CERTIFICATE, OTHER_KEY), TlsError::KeyDoesNotFit);
    }
}
