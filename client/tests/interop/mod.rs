//! Transport programs that run beside each other, and bytes through them: what the tests with obfs4proxy have in common.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phantom_pt::env::{Environment, Role};
use phantom_pt::parent::{Launch, Limits, Managed, Methods};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Ours,
    Theirs,
}

impl Who {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "phantom",
            Self::Theirs => "obfs4proxy",
        }
    }

    pub fn program(self) -> (PathBuf, Vec<&'static str>) {
        match self {
            Self::Ours => (env!("CARGO_BIN_EXE_phantom").into(), vec!["pt"]),
            Self::Theirs => ("/usr/bin/obfs4proxy".into(), Vec::new()),
        }
    }
}

/// A program that runs until this is dropped.
pub struct Running {
    pub methods: std::sync::Arc<Methods>,
    _managed: Managed,
    pub state: tempfile::TempDir,
}

impl Running {
    pub async fn start(who: Who, role: Role) -> Self {
        let state = tempfile::tempdir().unwrap();
        let (program, words) = who.program();
        let environment = Environment {
            state: state.path().join("pt"),
            exit_on_stdin_close: true,
            role,
        };
        let mut launch = Launch::new(program, environment);
        launch.arguments = words.into_iter().map(Into::into).collect();
        let (mut managed, keeper) = Managed::new(launch, Limits::default());
        tokio::spawn(keeper.run());
        let methods = tokio::time::timeout(LIMIT, managed.ready())
            .await
            .unwrap()
            .unwrap();
        Self {
            methods,
            _managed: managed,
            state,
        }
    }
}

/// Seconds that `bytes` took from one end to the other, intact.
pub async fn transfer(mut from: TcpStream, mut to: TcpStream, bytes: usize) -> io::Result<f64> {
    let data: Vec<u8> = (0..bytes as u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    let wanted = Sha256::digest(&data);
    let began = Instant::now();
    let writer = tokio::spawn(async move {
        from.write_all(&data).await?;
        from.flush().await?;
        // Open until the other end has read all.
        Ok::<_, io::Error>(from)
    });
    let mut got = vec![0; bytes];
    tokio::time::timeout(LIMIT, to.read_exact(&mut got)).await??;
    let seconds = began.elapsed().as_secs_f64();
    let _from = writer.await.map_err(io::Error::other)??;
    assert_eq!(Sha256::digest(&got), wanted, "what arrived is not what was sent");
    Ok(seconds)
}

/// Whether obfs4proxy is there. With `PHANTOM_REQUIRE_INTEROP` set it must be.
pub fn has_obfs4proxy() -> bool {
    let is_there = Path::new("/usr/bin/obfs4proxy").is_file();
    assert!(
        is_there || env::var_os("PHANTOM_REQUIRE_INTEROP").is_none(),
        "obfs4proxy is not installed, and PHANTOM_REQUIRE_INTEROP is set"
    );
    is_there
}
