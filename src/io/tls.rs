//! Whom this host trusts over TLS.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Those that the host trusts, read once.
///
/// # Errors
/// If that is nobody.
pub(super) fn native() -> Result<Arc<ClientConfig>, String> {
    static ONCE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(known) = ONCE.get() {
        return Ok(Arc::clone(known));
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        return Err("this host trusts no certificate authority; install ca-certificates".into());
    }
    let config = trusting(roots)?;
    Ok(Arc::clone(ONCE.get_or_init(|| config)))
}

/// Nobody but the authorities of a PEM file.
///
/// # Errors
/// If it cannot be read, or one of them is no certificate.
pub(super) fn only(ca: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca);
    for certificate in certificates.map_err(|e| format!("{}: {e}", ca.display()))? {
        let added = certificate.map_err(|e| e.to_string());
        let added = added.and_then(|c| roots.add(c).map_err(|e| e.to_string()));
        added.map_err(|e| format!("{}: {e}", ca.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("{}: no certificate in it", ca.display()));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let none = only(Path::new("/dev/null")).map(drop);
        assert_eq!(none, Err("/dev/null: no certificate in it".to_owned()));
        assert!(only(Path::new("/nonexistent")).is_err());
    }
}
