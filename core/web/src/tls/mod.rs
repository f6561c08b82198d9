//! TLS 1.3 over a stream of the runtime: rustls, with cryptography in Rust alone and every random byte and date from the runtime.
//!
//! The provider is ours because those there are need a C compiler or assembly for each platform (ring, aws-lc), or draw their own
//! randomness (all of them). TLS 1.2 is left out: every front worth dialling has 1.3, and its handshake shows no certificate to a censor.

mod hash;
mod kx;
mod random;
mod self_signed;
mod sign;
mod stream;
mod suites;
mod trust;
mod verify;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use phantom_core::runtime::Runtime;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;

#[cfg(feature = "keylog")]
pub use rustls::KeyLog;
pub use rustls::pki_types;
pub use self_signed::{KeyKind, SelfSigned, self_signed};
pub use sign::UnknownKey;
pub use stream::{TlsStream, accept, connect};
pub use trust::{BadPin, Trust, TrustError, chain_hash, pin_from_base64, pin_to_base64};

/// The provider of this crate. Randomness is what the caller of rustls lends it; [`connect`] and [`accept`] do.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: suites::ALL.to_vec(),
            kx_groups: kx::ALL.to_vec(),
            signature_verification_algorithms: verify::ALL,
            secure_random: &random::Source,
            key_provider: &sign::Keys,
        })
    });
    PROVIDER.clone()
}

/// The date, for certificates and tickets.
struct Wall<R>(R);

impl<R: Runtime> TimeProvider for Wall<R> {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.wall().as_unix_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl<R> std::fmt::Debug for Wall<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wall")
    }
}

/// How a client begins TLS.
///
/// The hello that rustls sends is the one there is now; THREAT-MODEL.md says how far it stands from a browser's. A hello that mimics one would be made here.
#[derive(Clone, Debug)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// A client that believes `trust` and speaks HTTP/1.1, as browsers do for WebSocket.
    ///
    /// # Errors
    /// A root in `trust` cannot be used.
    pub fn new<R: Runtime>(rt: &R, trust: &Trust) -> Result<Self, TrustError> {
        let config = ClientConfig::builder_with_details(provider(), Arc::new(Wall(rt.clone())));
        let mut config = config
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has what TLS 1.3 needs")
            .dangerous()
            .with_custom_certificate_verifier(trust.verifier()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        // A ticket would tell the server, and with a front its operator, that two connections are one client's.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The same, writing its sessions' secrets to `log`, so that a capture can be read.
    #[cfg(feature = "keylog")]
    #[must_use]
    pub fn with_key_log(self, log: Arc<dyn rustls::KeyLog>) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.key_log = log;
        Self(Arc::new(config))
    }
}

/// What a server shows for itself.
#[derive(Clone, Debug)]
pub struct Server(Arc<ServerConfig>);

/// Why a certificate does not serve.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The file of the chain is none.
    #[error("the certificate chain is no PEM (operator's fault): {0}")]
    ChainPem(rustls::pki_types::pem::Error),
    /// There is not one certificate in it.
    #[error("there is no certificate in the chain (operator's fault)")]
    NoChain,
    /// The file of the key is none.
    #[error("the private key is no PEM (operator's fault): {0}")]
    KeyPem(rustls::pki_types::pem::Error),
    /// They do not go together, or are of a kind that is not known.
    #[error("the certificate cannot be used (operator's fault): {0}")]
    Unusable(#[from] rustls::Error),
}

/// Certificates in one chain.
const CHAIN_MAX: usize = 16;

/// A chain of PEM, leaf first.
///
/// # Errors
/// It is no PEM, or has not one certificate.
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::NoChain),
        Ok(chain) => Ok(chain),
        Err(error) => Err(CertificateError::ChainPem(error)),
    }
}

impl Server {
    /// A server with this chain, leaf first, and the leaf's private key.
    ///
    /// # Errors
    /// The key is not the certificate's, or of a kind that is not known.
    pub fn new<R: Runtime>(
        rt: &R,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let config = ServerConfig::builder_with_details(provider(), Arc::new(Wall(rt.clone())));
        let mut config = config
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has what TLS 1.3 needs")
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// The same from the text of two PEM files, as certificate authorities' programs write them.
    ///
    /// # Errors
    /// They are not such files, or do not go together.
    pub fn from_pem<R: Runtime>(rt: &R, chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = chain_from_pem(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::KeyPem)?;
        Self::new(rt, chain, key)
    }

    /// The same, writing its sessions' secrets to `log`.
    #[cfg(feature = "keylog")]
    #[must_use]
    pub fn with_key_log(self, log: Arc<dyn rustls::KeyLog>) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.key_log = log;
        Self(Arc::new(config))
    }
}

/// The protocol's name in ALPN.
const HTTP_1: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};
    use sha2::{Digest, Sha256};

    use super::random::lend;
    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl TimeProvider for Noon {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)))
        }
    }

    /// Moves what one end says to the other; how many bytes, all of which go into `seen`.
    fn pass<A: SideData, B: SideData>(
        from: (&mut ConnectionCommon<A>, &mut ChaCha12Rng),
        to: (&mut ConnectionCommon<B>, &mut ChaCha12Rng),
        seen: &mut Sha256,
    ) -> usize {
        let mut wire = Vec::new();
        while from.0.wants_write() {
            lend(from.1, || from.0.write_tls(&mut wire)).unwrap();
        }
        seen.update(&wire);
        let mut rest = &wire[..];
        while !rest.is_empty() {
            to.0.read_tls(&mut rest).unwrap();
            lend(to.1, || to.0.process_new_packets()).unwrap();
        }
        wire.len()
    }

    /// The hash of every byte of a handshake, its tickets and one word.
    fn transcript(kind: KeyKind, group: usize, seeds: [u64; 2]) -> String {
        let made = self_signed(&mut ChaCha12Rng::seed_from_u64(7), kind, "www.example");
        let mut used = CryptoProvider::clone(&provider());
        used.kx_groups = vec![kx::ALL[group]];
        let used = Arc::new(used);
        let versions = &[&rustls::version::TLS13];
        let trust = Trust::Roots(vec![made.certificate.clone()]);
        let client = ClientConfig::builder_with_details(used.clone(), Arc::new(Noon))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(trust.verifier().unwrap())
            .with_no_client_auth();
        let server = ServerConfig::builder_with_details(used, Arc::new(Noon))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.certificate], made.key)
            .unwrap();
        let [mut ours, mut theirs] = seeds.map(ChaCha12Rng::seed_from_u64);
        let name = crate::url::server_name("www.example").unwrap();
        let mut client = lend(&mut ours, || ClientConnection::new(Arc::new(client), name)).unwrap();
        let mut server = lend(&mut theirs, || ServerConnection::new(Arc::new(server))).unwrap();
        std::io::Write::write_all(&mut client.writer(), b"word").unwrap();
        let mut seen = Sha256::new();
        loop {
            let up = pass((&mut client, &mut ours), (&mut server, &mut theirs), &mut seen);
            let down = pass((&mut server, &mut theirs), (&mut client, &mut ours), &mut seen);
            if up + down == 0 {
                break;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        seen.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_byte_of_a_connection_follows_from_the_generators() {
        for kind in [KeyKind::Ed25519, KeyKind::P256] {
            for group in 0..kx::ALL.len() {
                let once = transcript(kind, group, [1, 2]);
                assert_eq!(once, transcript(kind, group, [1, 2]), "{kind:?} {group}");
                assert_ne!(once, transcript(kind, group, [1, 3]), "the server's");
                assert_ne!(once, transcript(kind, group, [3, 2]), "the client's");
            }
        }
    }
}
