//! Certificate, key and authorities: read from PEM files, and checked as far as files can be.
//!
//! Whoever starts a server learns here, in a sentence, what a client would only show as a handshake
//! that fails. The files are read each time a [`Tls`] is made, so a new worker has what they say then.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use pkcs8::der::{Decode, SecretDocument};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_cert::Certificate;

/// Where the files are. The names are those of the options.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to its issuer.
    pub ssl_certfile: PathBuf,
    /// Its private key. None: it is in `ssl_certfile`.
    pub ssl_keyfile: Option<PathBuf>,
    /// What the key is encrypted with, if it is.
    pub ssl_keyfile_password: Option<String>,
    /// The authorities of which a client must have a certificate. None: clients need none.
    pub ssl_ca_certs: Option<PathBuf>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password is nobody's business.
        formatter
            .debug_struct("TlsFiles")
            .field("ssl_certfile", &self.ssl_certfile)
            .field("ssl_keyfile", &self.ssl_keyfile)
            .field("ssl_ca_certs", &self.ssl_ca_certs)
            .finish_non_exhaustive()
    }
}

/// What a server answers handshakes with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(in crate::http) config: Arc<ServerConfig>,
    /// Sentences about what works, but not with every client: a certificate that has expired.
    pub warnings: Vec<String>,
}

/// Why these files cannot be used. Each names its option.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there.
    #[error("{option}: there is no file {path}.")]
    Missing {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{option}: {path} cannot be read: {reason}.")]
    Unreadable {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
        /// The system's.
        reason: io::Error,
    },
    /// There is nothing of the kind in it.
    #[error(
        "{option}: {path} has no {wanted} in PEM form, which is text with a line \
         \"-----BEGIN {label}-----\". `openssl {tool} -inform der -in FILE -out FILE.pem` makes it of \
         DER."
    )]
    NotPem {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
        /// How it begins.
        label: &'static str,
        /// The command that converts it.
        tool: &'static str,
    },
    /// It begins as PEM, and is damaged.
    #[error("{option}: {path} is damaged: {reason}.")]
    Damaged {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is encrypted.
    #[error(
        "{option}: the key in {path} is encrypted. Give its password with ssl_keyfile_password."
    )]
    NeedsPassword {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
    },
    /// The key is encrypted with something else.
    #[error("ssl_keyfile_password is not the password of the key in {0}.")]
    WrongPassword(PathBuf),
    /// The key is encrypted in a way that is not read here.
    #[error(
        "{option}: the key in {path} is encrypted in a way that is too old to be safe. \
         `openssl pkcs8 -topk8 -in FILE -out FILE.pem` encrypts it as it is done today."
    )]
    OldEncryption {
        /// As users write it.
        option: &'static str,
        /// As it was given.
        path: PathBuf,
    },
    /// The key is not that of the certificate.
    #[error(
        "The key in {key} is not that of the first certificate in {certificate}. Put the server's own \
         certificate first, and those of its issuers behind it."
    )]
    KeyMismatch {
        /// Of the key.
        key: PathBuf,
        /// Of the certificate.
        certificate: PathBuf,
    },
}

impl Tls {
    /// Reads and checks the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates("ssl_certfile", &files.ssl_certfile)?;
        let warnings = warnings(&files.ssl_certfile, &chain[0], SystemTime::now());
        let key = certified(files, chain, &provider)?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need");
        let config = match &files.ssl_ca_certs {
            None => config.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .expect("there is an authority, and no list of what is revoked");
                config.with_client_cert_verifier(verifier)
            }
        };
        let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            warnings,
        })
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let path = path.to_owned();
    fs::read(&path).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound => TlsError::Missing { option, path },
        _ => TlsError::Unreadable {
            option,
            path,
            reason,
        },
    })
}

/// At least one.
fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| damaged(option, path, &error))?;
    if found.is_empty() {
        return Err(TlsError::NotPem {
            option,
            path: path.to_owned(),
            wanted: "certificate",
            label: "CERTIFICATE",
            tool: "x509",
        });
    }
    Ok(found)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    const OPTION: &str = "ssl_ca_certs";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(OPTION, path)? {
        roots
            .add(certificate)
            .map_err(|error| damaged(OPTION, path, &error))?;
    }
    Ok(roots)
}

fn damaged(option: &'static str, path: &Path, reason: &impl fmt::Display) -> TlsError {
    TlsError::Damaged {
        option,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn certified(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (option, path) = match &files.ssl_keyfile {
        Some(path) => ("ssl_keyfile", path),
        None => ("ssl_certfile", &files.ssl_certfile),
    };
    let key = private_key(option, path, files.ssl_keyfile_password.as_deref())?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| damaged(option, path, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch {
            key: path.clone(),
            certificate: files.ssl_certfile.clone(),
        }),
        Err(error) => Err(damaged("ssl_certfile", &files.ssl_certfile, &error)),
    }
}

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

fn private_key(
    option: &'static str,
    path: &Path,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(option, path)?;
    let text = String::from_utf8_lossy(&pem);
    if let Some(begin) = text.find(ENCRYPTED_BEGIN) {
        let encrypted = &text[begin..];
        let end = encrypted.find(ENCRYPTED_END);
        let end = end.ok_or_else(|| damaged(option, path, &"its last line is missing"))?;
        let encrypted = &encrypted[..end + ENCRYPTED_END.len()];
        return decrypted(option, path, encrypted, password);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        let path = path.to_owned();
        return Err(TlsError::OldEncryption { option, path });
    }
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(TlsError::NotPem {
            option,
            path: path.to_owned(),
            wanted: "private key",
            label: "PRIVATE KEY",
            tool: "pkey",
        }),
        Err(error) => Err(damaged(option, path, &error)),
    }
}

/// PKCS #8 as `openssl pkcs8 -topk8` and `openssl genpkey -aes256` write it (RFC 8018, PBES2).
fn decrypted(
    option: &'static str,
    path: &Path,
    pem: &str,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let Some(password) = password else {
        let path = path.to_owned();
        return Err(TlsError::NeedsPassword { option, path });
    };
    let (_, document) =
        SecretDocument::from_pem(pem).map_err(|error| damaged(option, path, &error))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| {
        TlsError::OldEncryption {
            option,
            path: path.to_owned(),
        }
    })?;
    // A wrong password is known by what it makes of the key: by its padding most often, by its form
    // otherwise.
    let wrong = || TlsError::WrongPassword(path.to_owned());
    let key = info.decrypt(password).map_err(|_| wrong())?;
    PrivateKeyInfoRef::try_from(key.as_bytes()).map_err(|_| wrong())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// What clients will say of a certificate that is out of its time.
fn warnings(path: &Path, certificate: &CertificateDer<'_>, now: SystemTime) -> Vec<String> {
    // What cannot be read here may still be a certificate that rustls can use.
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let validity = certificate.tbs_certificate().validity();
    let path = path.display();
    let mut warnings = Vec::new();
    if validity.not_after.to_system_time() < now {
        let until = validity.not_after;
        warnings.push(format!(
            "The certificate in {path} has expired: it was valid until {until}. Clients will refuse \
             it; put a new one in its place."
        ));
    }
    if validity.not_before.to_system_time() > now {
        let from = validity.not_before;
        warnings.push(format!(
            "The certificate in {path} is not valid yet: it will be from {from} on. Clients will \
             refuse it until then; is this machine's clock right?"
        ));
    }
    warnings
}
