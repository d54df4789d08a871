//! `_core.Tls`: the certificate and key that were read from files and checked.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::errors::value_error;
use crate::http::tls::files::{Tls as Checked, TlsFiles};

/// A certificate and its key, as the files were when this object was made.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Tls(pub(super) Checked);

#[pymethods]
impl Tls {
    #[new]
    #[pyo3(signature = (ssl_certfile, *, ssl_keyfile=None, ssl_keyfile_password=None, ssl_ca_certs=None))]
    fn new(
        py: Python<'_>,
        ssl_certfile: PathBuf,
        ssl_keyfile: Option<PathBuf>,
        ssl_keyfile_password: Option<String>,
        ssl_ca_certs: Option<PathBuf>,
    ) -> PyResult<Self> {
        let files = TlsFiles {
            ssl_certfile,
            ssl_keyfile,
            ssl_keyfile_password,
            ssl_ca_certs,
        };
        // The key derivation of an encrypted key is slow by design.
        let checked = py.detach(|| Checked::read(&files)).map_err(value_error)?;
        Ok(Self(checked))
    }

    /// Warnings about a certificate that some clients refuse, for example because it has expired.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings.clone()
    }
}
