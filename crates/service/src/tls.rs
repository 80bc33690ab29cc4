//! The one TLS provider.

/// Makes ring the provider of all TLS in this process. Harmless to repeat; `main` calls it first, and so
/// does every test that opens a TLS client.
pub fn install_tls() {
    // An error means that a provider is there already: whoever was first, it is ring.
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_is_harmless() {
        install_tls();
        install_tls();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
