//! The TLS files of a server: certificate, key and authorities, read from PEM files and checked.
//!
//! The operator gets an error message at the start, where clients would only report a failed handshake. The files
//! are read each time a [`Tls`] is made, so a new worker uses their current content.

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

/// The paths of the files. The fields are named like the options.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate, followed by those that lead to its issuer.
    pub ssl_certfile: PathBuf,
    /// Its private key. None: it is in `ssl_certfile`.
    pub ssl_keyfile: Option<PathBuf>,
    /// The password of the key, if it is encrypted.
    pub ssl_keyfile_password: Option<String>,
    /// The authorities that must have issued the certificates of clients. None: clients need no certificate.
    pub ssl_ca_certs: Option<PathBuf>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password must not appear in logs.
        formatter
            .debug_struct("TlsFiles")
            .field("ssl_certfile", &self.ssl_certfile)
            .field("ssl_keyfile", &self.ssl_keyfile)
            .field("ssl_ca_certs", &self.ssl_ca_certs)
            .finish_non_exhaustive()
    }
}

/// The TLS configuration of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(in crate::http) config: Arc<ServerConfig>,
    /// Sentences about problems with some clients, such as an expired certificate.
    pub warnings: Vec<String>,
}

/// Why the files are invalid. Each error names its option.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file does not exist.
    #[error("{option}: there is no file {path}.")]
    Missing {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
    },
    /// The file is not readable.
    #[error("{option}: {path} cannot be read: {reason}.")]
    Unreadable {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
    },
    /// The file does not contain the expected item.
    #[error(
        "{option}: {path} has no {wanted} in PEM form, which is text with a line \
         \"-----BEGIN {label}-----\". `openssl {tool} -inform der -in FILE -out FILE.pem` makes it of \
         DER."
    )]
    NotPem {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
        /// The expected item.
        wanted: &'static str,
        /// The label of its first line.
        label: &'static str,
        /// The `openssl` command that converts it.
        tool: &'static str,
    },
    /// The file begins as PEM, and is damaged.
    #[error("{option}: {path} is damaged: {reason}.")]
    Damaged {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
        /// The error of the parser.
        reason: String,
    },
    /// The key is encrypted.
    #[error(
        "{option}: the key in {path} is encrypted. Give its password with ssl_keyfile_password."
    )]
    NeedsPassword {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
    },
    /// The password is wrong.
    #[error("ssl_keyfile_password is not the password of the key in {0}.")]
    WrongPassword(PathBuf),
    /// The encryption of the key is not supported.
    #[error(
        "{option}: the key in {path} is encrypted in a way that is too old to be safe. \
         `openssl pkcs8 -topk8 -in FILE -out FILE.pem` encrypts it as it is done today."
    )]
    OldEncryption {
        /// The name of the option.
        option: &'static str,
        /// The path in the option.
        path: PathBuf,
    },
    /// The key does not belong to the certificate.
    #[error(
        "The key in {key} is not that of the first certificate in {certificate}. Put the server's own \
         certificate first, and those of its issuers behind it."
    )]
    KeyMismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
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

/// Reads the certificates in a file: at least one.
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

/// Decrypts a key in PKCS #8, as `openssl pkcs8 -topk8` and `openssl genpkey -aes256` write it (RFC 8018, PBES2).
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
    // A wrong password usually results in invalid padding, otherwise in an invalid key.
    let wrong = || TlsError::WrongPassword(path.to_owned());
    let key = info.decrypt(password).map_err(|_| wrong())?;
    PrivateKeyInfoRef::try_from(key.as_bytes()).map_err(|_| wrong())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// The warnings about a certificate that is not valid at this time.
fn warnings(path: &Path, certificate: &CertificateDer<'_>, now: SystemTime) -> Vec<String> {
    // A certificate that cannot be parsed here may still work with rustls.
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
