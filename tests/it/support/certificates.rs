//! Certificates that are made for the tests: an authority, a server of its, and a client of its.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use fanbus::http::tls::files::{Tls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Files of this process, in a folder of their own.
pub struct Files {
    folder: PathBuf,
    authority: CertificateDer<'static>,
}

static FILES: OnceLock<Files> = OnceLock::new();

/// Made once in each process.
pub fn files() -> &'static Files {
    FILES.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls");
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        fs::write(folder.join("authority.pem"), authority.pem()).expect("room");
        for name in ["localhost", "client", "other"] {
            let params = CertificateParams::new([name.to_owned()]).expect("a name");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("it signs");
            fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("room");
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("room");
        }
        let authority = authority.der().clone();
        Files { folder, authority }
    })
}

impl Files {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The server's certificate and key.
    pub fn server(&self) -> TlsFiles {
        TlsFiles {
            ssl_certfile: self.path("localhost.pem"),
            ssl_keyfile: Some(self.path("localhost.key")),
            ssl_keyfile_password: None,
            ssl_ca_certs: None,
        }
    }
}

/// What a worker speaks TLS with.
pub fn tls() -> Tls {
    Tls::read(&files().server()).expect("good files")
}

/// The client's side of a connection to that worker, in a protocol by its name in ALPN.
pub fn client(protocol: &[u8]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(files().authority.clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has all")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("all is there")
}
