//! The TLS client that checks the certificate of a server and encrypts the streams of connections.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::error::{BenchError, Outcome};
use super::options::Options;

/// The encrypted stream of a connection.
pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The TLS settings that all connections to a server share.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(host: &str, options: &Options) -> Outcome<Self> {
        let provider = Arc::new(ring::default_provider());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            BenchError::Option(format!("{host:?} is not a name for a certificate."))
        })?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| BenchError::Option(format!("TLS cannot be used: {error}.")))?;
        let config = if options.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnybody(provider)))
                .with_no_client_auth()
        } else {
            builder
                .with_root_certificates(trusted(options.ca_file.as_deref())?)
                .with_no_client_auth()
        };
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    pub(super) fn stream(&self, socket: TcpStream) -> io::Result<TlsStream> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone())
            .map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, socket))
    }
}

fn trusted(ca_file: Option<&str>) -> Outcome<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        // If the system's certificates are not readable, none is trusted, and the handshake fails
        // with that reason.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unreadable = |why: String| {
        BenchError::Option(format!(
            "--ca-file {path}: {why}. It must be PEM certificates."
        ))
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// The verifier for `--insecure`, which accepts any certificate. It checks signatures, because they
/// are part of the cost.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The meaning of a failed handshake, if TLS is the reason for the failure.
pub(super) fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let hint = match error {
        rustls::Error::InvalidCertificate(_) => {
            "Name who signed it with --ca-file, or take any certificate with --insecure"
        }
        rustls::Error::InvalidMessage(_) => "Perhaps the server speaks no TLS on this port",
        _ => "Look at the server's log",
    };
    Some(format!("the TLS handshake failed: {error}. {hint}"))
}
