//! Our TLS beside OpenSSL's, both ways: the signatures and groups that real servers and clients use. Without `openssl` nothing is tested; with
//! `PHANTOM_REQUIRE_INTEROP` set that is a failure.

#![expect(
    clippy::unwrap_used,
    reason = "drives a program of the real world; a failed helper fails the test"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Listener, Net, Spawn};
use phantom_web::site::Site;
use phantom_web::tls::{self, KeyKind, Trust, chain_from_pem, self_signed};
use phantom_web::url::server_name;
use phantom_web::webtunnel::{self, Server};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn has_openssl() -> bool {
    let is_there = Command::new("openssl").arg("version").output().is_ok();
    assert!(
        is_there || std::env::var_os("PHANTOM_REQUIRE_INTEROP").is_none(),
        "openssl is not installed, and PHANTOM_REQUIRE_INTEROP is set"
    );
    is_there
}

fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "openssl {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `leaf.pem`, `leaf.key` and `ca.pem`, with keys of these kinds.
fn issue(folder: &Path, ca: &str, leaf: &str, hash: &str) {
    for (kind, name) in [(ca, "ca"), (leaf, "leaf")] {
        let words = match kind.strip_prefix("rsa") {
            Some(bits) => format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out {name}.key"),
            None => format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{kind} -out {name}.key"),
        };
        openssl(folder, &words);
    }
    std::fs::write(
        folder.join("names"),
        "subjectAltName=DNS:www.example\nbasicConstraints=CA:false\n",
    )
    .unwrap();
    openssl(
        folder,
        &format!("req -x509 -new -key ca.key -{hash} -days 3650 -subj /CN=root -out ca.pem"),
    );
    openssl(
        folder,
        &format!("req -new -key leaf.key -{hash} -subj /CN=www.example -out leaf.csr"),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -{hash} -days 365 -extfile names -out leaf.pem"
        ),
    );
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn free_port(rt: &TokioRuntime) -> SocketAddr {
    let listener = rt.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    listener.local_addr()
}

async fn connect(rt: &TokioRuntime, at: SocketAddr) -> <TokioRuntime as Net>::Stream {
    for _ in 0..100 {
        if let Ok(stream) = rt.connect(at).await {
            return stream;
        }
        rt.sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody listens at {at}");
}

fn runtime(folder: &Path) -> TokioRuntime {
    TokioRuntime::start(Config::new("test", folder)).unwrap()
}

/// RSA in chains and handshakes, both curves, the hello retried for P-256; and a root that did not sign, another name, an old certificate.
#[tokio::test]
async fn a_client_believes_the_chains_of_openssl_and_no_forged_one() {
    if !has_openssl() {
        return;
    }
    for (ca, leaf, hash, suite, group) in [
        ("rsa4096", "rsa2048", "sha256", "TLS_AES_128_GCM_SHA256", "X25519"),
        ("rsa2048", "rsa3072", "sha512", "TLS_AES_256_GCM_SHA384", "P-256"),
        (
            "P-384",
            "P-256",
            "sha384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "X25519",
        ),
        ("P-256", "P-384", "sha256", "TLS_AES_256_GCM_SHA384", "P-256"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        issue(folder, ca, leaf, hash);
        let rt = runtime(folder);
        let at = free_port(&rt).await;
        let words = format!(
            "s_server -www -accept {at} -cert leaf.pem -key leaf.key -ciphersuites {suite} -groups {group} -quiet"
        );
        let mut server = Command::new("openssl");
        server
            .args(words.split(' '))
            .current_dir(folder)
            .stdin(Stdio::null());
        let _server = Running(
            server
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let root = chain_from_pem(&std::fs::read(folder.join("ca.pem")).unwrap()).unwrap();
        let wrong = self_signed(&mut ChaCha12Rng::seed_from_u64(1), KeyKind::P256, "www.example");
        for (roots, name, wanted) in [
            (root.clone(), "www.example", None),
            (root, "other.example", Some("not valid for name")),
            (vec![wrong.certificate], "www.example", Some("UnknownIssuer")),
        ] {
            let client = tls::Client::new(&rt, &Trust::Roots(roots)).unwrap();
            let stream = connect(&rt, at).await;
            let opened = tls::connect(&rt, &client, server_name(name).unwrap(), stream).await;
            match (opened, wanted) {
                (Ok(mut stream), None) => {
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                    let mut answer = String::new();
                    let _ = stream.read_to_string(&mut answer).await;
                    assert!(answer.contains(suite), "{ca} {leaf}: {answer}");
                }
                (Err(error), Some(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
                (opened, wanted) => panic!("{ca} {leaf} {name}: {:?}, not {wanted:?}", opened.map(|_| ())),
            }
        }
    }
}

/// OpenSSL's client verifies our chain and reads the web site, with each group and suite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_reads_our_web_site_over_an_operators_chain() {
    if !has_openssl() {
        return;
    }
    for (leaf, suite, group) in [
        ("P-256", "TLS_AES_128_GCM_SHA256", "X25519"),
        ("P-384", "TLS_AES_256_GCM_SHA384", "P-256"),
        ("P-256", "TLS_CHACHA20_POLY1305_SHA256", "P-384:X25519"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let folder: PathBuf = dir.path().into();
        issue(&folder, "rsa2048", leaf, "sha256");
        let rt = runtime(&folder);
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let tls = tls::Server::from_pem(&rt, &read("leaf.pem"), &read("leaf.key")).unwrap();
        let url = "https://www.example/secret".parse().unwrap();
        let server = Server::new(&url, Site::default(), Some(tls));
        let mut listener = rt.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let at = listener.local_addr();
        let here = rt.clone();
        rt.spawn("server", async move {
            while let Ok(stream) = listener.accept().await {
                let _ = webtunnel::accept(&here, stream, &server).await;
            }
        });
        let words = format!(
            "s_client -connect {at} -servername www.example -verify_hostname www.example -CAfile ca.pem -verify_return_error -ciphersuites {suite} -groups {group} -alpn h2,http/1.1 -quiet"
        );
        let mut client = Command::new("openssl");
        client
            .args(words.split(' '))
            .current_dir(&folder)
            .stdin(Stdio::piped());
        let mut client = client
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin
            .write_all(b"GET / HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n")
            .unwrap();
        let output = tokio::task::block_in_place(|| client.wait_with_output()).unwrap();
        drop(stdin);
        let (said, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            said.starts_with("HTTP/1.1 200 OK") && said.contains("It works!"),
            "{leaf} {suite}: {said} {errors}"
        );
    }
}
