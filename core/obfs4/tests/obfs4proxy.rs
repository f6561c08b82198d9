//! Against the real program: obfs4proxy as server and as client, on loopback.
//!
//! The programs are started as Tor would start them (pt-spec §3.2). Where obfs4proxy is not installed the tests say so and
//! pass, unless `PHANTOM_REQUIRE_INTEROP` is set.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of real sockets against a real program: there is no simulated world here"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use phantom_obfs4::{Bridge, BridgeArgs, EpochHour, IatMode, Identity, Now, Output, Session};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

const PROGRAM: &str = "/usr/bin/obfs4proxy";
const STATE_FILE: &str = "obfs4_state.json";
/// What is waited for takes milliseconds; a stall is what these tests are about.
const PATIENCE: Duration = Duration::from_secs(20);
const HANDSHAKES: u64 = 20;
const SIZES: [u64; 3] = [1_000, 100_000, 10_000_000];
/// Of what the pacing modes carry: they manage some 180 and 90 kB/s.
const PACED_SIZES: [u64; 2] = [1_000, 20_000];

/// Whether the program is there.
fn is_installed() -> bool {
    if Path::new(PROGRAM).exists() {
        return true;
    }
    assert!(
        std::env::var_os("PHANTOM_REQUIRE_INTEROP").is_none(),
        "PHANTOM_REQUIRE_INTEROP is set and {PROGRAM} is not installed"
    );
    println!("{PROGRAM} is not installed: nothing was tested");
    false
}

/// A seed from the system, printed so that a failure can be played again.
fn rng() -> ChaCha20Rng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system's entropy");
    println!("seed {seed:02x?}");
    ChaCha20Rng::from_seed(seed)
}

/// obfs4proxy as a managed transport; it ends when its standard input closes.
struct Proxy {
    child: Child,
    /// What it said about the method: `CMETHOD obfs4 socks5 ADDR` or `SMETHOD obfs4 ADDR ARGS:…`.
    method: Vec<String>,
    state: PathBuf,
}

impl Proxy {
    fn start(name: &str, env: &[(&str, &str)], identity: Option<&Identity>) -> Self {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).expect("a directory");
        if let Some(identity) = identity {
            std::fs::write(state.join(STATE_FILE), &*identity.to_state_json()).expect("written");
        }
        let mut child = Command::new(PROGRAM)
            .env_clear()
            .env("TOR_PT_MANAGED_TRANSPORT_VER", "1")
            .env("TOR_PT_STATE_LOCATION", &state)
            .env("TOR_PT_EXIT_ON_STDIN_CLOSE", "1")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut method = Vec::new();
        for line in lines.map(|line| line.expect("text")) {
            assert!(!line.contains("ERROR"), "{line}");
            if line.starts_with("CMETHOD ") || line.starts_with("SMETHOD ") {
                method = line.split(' ').map(str::to_owned).collect();
            } else if line.ends_with("METHODS DONE") {
                break;
            }
        }
        Self { child, method, state }
    }

    /// As a server in front of `app`, with our identity or one of its own: where it listens, and what a client needs to know.
    fn server(name: &str, app: SocketAddr, identity: Option<&Identity>) -> (Self, SocketAddr, BridgeArgs) {
        let proxy = Self::start(
            name,
            &[
                ("TOR_PT_SERVER_TRANSPORTS", "obfs4"),
                ("TOR_PT_SERVER_BINDADDR", "obfs4-127.0.0.1:0"),
                ("TOR_PT_ORPORT", &app.to_string()),
            ],
            identity,
        );
        let address = proxy.method[2].parse().expect("an address");
        let args = proxy.method[3]
            .strip_prefix("ARGS:")
            .expect("arguments")
            .replace(',', ";");
        let args = BridgeArgs::from_pt_args(&args).expect("obfs4proxy's own arguments");
        if let Some(identity) = identity {
            assert_eq!(args, identity.args(), "it took our state file");
        }
        (proxy, address, args)
    }

    /// As a client.
    fn client(name: &str) -> Self {
        Self::start(name, &[("TOR_PT_CLIENT_TRANSPORTS", "obfs4")], None)
    }

    /// Dials a bridge through it: SOCKS5 with the arguments as user name (RFC 1928, RFC 1929, pt-spec §3.5).
    fn dial(&self, bridge: SocketAddr, args: &BridgeArgs) -> TcpStream {
        let mut stream = connect(self.method[3].parse().expect("an address"));
        let SocketAddr::V4(bridge) = bridge else {
            panic!("on loopback")
        };
        let args = args.to_pt_args();
        let mut asked = vec![5, 1, 2, 1, u8::try_from(args.len()).expect("86")];
        asked.extend_from_slice(args.as_bytes());
        asked.extend([1, 0]);
        asked.extend([5, 1, 0, 1]);
        asked.extend(bridge.ip().octets());
        asked.extend(bridge.port().to_be_bytes());
        let mut got = [0; 14];
        stream.write_all(&asked[..3]).expect("sent");
        stream.read_exact(&mut got[..2]).expect("an answer");
        stream.write_all(&asked[3..asked.len() - 10]).expect("sent");
        stream.read_exact(&mut got[2..4]).expect("an answer");
        stream.write_all(&asked[asked.len() - 10..]).expect("sent");
        stream.read_exact(&mut got[4..]).expect("an answer");
        assert_eq!((&got[..4], got[5]), (&[5, 2, 1, 0][..], 0), "SOCKS5");
        stream
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, PATIENCE).expect("it listens"))
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// A blocking driver of a session: what a real one does, less the concurrency.
struct Driven {
    stream: TcpStream,
    session: Session<ChaCha20Rng>,
    origin: Instant,
    wrote: Instant,
    /// Read and not asked for yet.
    plain: Vec<u8>,
    wire_bytes: u64,
    plain_bytes: u64,
}

impl Driven {
    fn new(stream: TcpStream, session: impl FnOnce(Now) -> Session<ChaCha20Rng>) -> Self {
        let origin = Instant::now();
        let mut this = Self {
            stream,
            session: session(now(origin)),
            origin,
            wrote: origin,
            plain: Vec::new(),
            wire_bytes: 0,
            plain_bytes: 0,
        };
        this.pump();
        while !this.session.is_open() {
            this.fill();
        }
        (this.wire_bytes, this.plain_bytes) = (0, 0);
        this
    }

    fn pump(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Write { pause, bytes } => {
                    thread::sleep(pause.saturating_sub(self.wrote.elapsed()));
                    self.stream.write_all(&bytes).expect("taken");
                    self.wrote = Instant::now();
                    self.wire_bytes += bytes.len() as u64;
                }
                Output::Opened => {}
                Output::DiscardUntil { why, .. } => panic!("{why}"),
                Output::WaitUntil(_) | Output::Idle => return,
                Output::Close => panic!("closed"),
            }
        }
    }

    fn fill(&mut self) {
        let mut wire = vec![0; 64 * 1024];
        let got = self.stream.read(&mut wire).expect("something comes");
        assert!(got > 0, "the other end closed the connection");
        let before = self.plain.len();
        self.session
            .receive(now(self.origin), &wire[..got], &mut self.plain)
            .expect("obfs4");
        self.wire_bytes += got as u64;
        self.plain_bytes += (self.plain.len() - before) as u64;
        self.pump();
    }
}

fn now(origin: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now {
        since_start: origin.elapsed(),
        hour: EpochHour::from_unix_seconds(wall.as_secs()),
    }
}

impl Write for Driven {
    fn write(&mut self, plain: &[u8]) -> std::io::Result<usize> {
        let taken = self.session.send(plain).expect("open");
        self.plain_bytes += taken as u64;
        self.pump();
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Driven {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.plain.is_empty() {
            self.fill();
        }
        let len = into.len().min(self.plain.len());
        into[..len].copy_from_slice(&self.plain[..len]);
        self.plain.drain(..len);
        Ok(len)
    }
}

/// Random bytes from a seed: `send` writes so many and returns their hash, `take` reads so many and returns theirs.
fn send(to: &mut impl Write, len: u64, seed: u64) -> [u8; 32] {
    let (mut rng, mut hash, mut block) = (
        ChaCha20Rng::seed_from_u64(seed),
        Sha256::new(),
        vec![0; 32 * 1024],
    );
    let mut left = len;
    while left > 0 {
        let part = &mut block[..usize::try_from(left.min(32 * 1024)).expect("small")];
        rng.fill_bytes(part);
        hash.update(&*part);
        to.write_all(part).expect("taken");
        left -= part.len() as u64;
    }
    hash.finalize().into()
}

fn take(from: &mut impl Read, len: u64) -> [u8; 32] {
    let (mut hash, mut block) = (Sha256::new(), vec![0; 32 * 1024]);
    let mut left = len;
    while left > 0 {
        let part = &mut block[..usize::try_from(left.min(32 * 1024)).expect("small")];
        from.read_exact(part).expect("given");
        hash.update(&*part);
        left -= part.len() as u64;
    }
    hash.finalize().into()
}

/// What the far end does: takes so many bytes, says their hash, and sends as many of its own.
fn serve(pipe: &mut (impl Read + Write)) {
    let mut len = [0; 8];
    pipe.read_exact(&mut len).expect("a length");
    let len = u64::from_be_bytes(len);
    let hash = take(pipe, len);
    pipe.write_all(&hash).expect("taken");
    send(pipe, len, !len);
}

/// What the near end does. How fast each way was, in MB/s.
fn ask(pipe: &mut (impl Read + Write), len: u64) -> [f64; 2] {
    let begun = Instant::now();
    pipe.write_all(&len.to_be_bytes()).expect("taken");
    let hash = send(pipe, len, len);
    let mut theirs = [0; 32];
    pipe.read_exact(&mut theirs).expect("a hash");
    assert_eq!(theirs, hash, "{len} bytes up");
    let up = begun.elapsed();
    assert_eq!(
        take(pipe, len),
        send(&mut std::io::sink(), len, !len),
        "{len} bytes down"
    );
    [up, begun.elapsed() - up].map(|time| len as f64 / time.as_secs_f64() / 1e6)
}

/// An app behind a server: each connection is served.
fn app<P: Read + Write>(wrap: impl Fn(TcpStream) -> P + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (wrap, stream) = (wrap.clone(), patient(stream.expect("accepted")));
            // Its end is the near end's failure to read on.
            thread::spawn(move || serve(&mut wrap(stream)));
        }
    });
    address
}

/// Our server with the app in it.
fn our_server(bridge: Bridge) -> SocketAddr {
    app(move |stream| {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the system's entropy");
        Driven::new(stream, |now| bridge.accept(now, ChaCha20Rng::from_seed(seed)))
    })
}

#[test]
fn our_client_speaks_with_obfs4proxys_server() {
    if !is_installed() {
        return;
    }
    let mut rng = rng();
    let app = app(|stream| stream);
    let (_proxy, address, args) = Proxy::server("server", app, Some(&Identity::from_rng(&mut rng)));
    let mut dial = |args: &BridgeArgs| {
        let session_rng = ChaCha20Rng::from_rng(&mut rng);
        Driven::new(connect(address), |now| Session::client(args, now, session_rng))
    };
    for _ in 0..HANDSHAKES {
        ask(&mut dial(&args), SIZES[0]);
    }
    println!("our client, obfs4proxy's server: {HANDSHAKES} of {HANDSHAKES} handshakes");
    for len in SIZES {
        let mut driven = dial(&args);
        let [up, down] = ask(&mut driven, len);
        let overhead = driven.wire_bytes as f64 / driven.plain_bytes as f64 - 1.0;
        println!(
            "{len} bytes: {up:.1} MB/s up, {down:.1} MB/s down, {:.2} % overhead",
            overhead * 100.0
        );
    }
}

#[test]
fn obfs4proxys_client_speaks_with_our_server() {
    if !is_installed() {
        return;
    }
    let mut rng = rng();
    let bridge = Bridge::new(Identity::from_rng(&mut rng), &mut rng);
    let args = bridge.identity().args();
    let address = our_server(bridge);
    let proxy = Proxy::client("client");
    for _ in 0..HANDSHAKES {
        ask(&mut proxy.dial(address, &args), SIZES[0]);
    }
    println!("obfs4proxy's client, our server: {HANDSHAKES} of {HANDSHAKES} handshakes");
    for len in SIZES {
        let [up, down] = ask(&mut proxy.dial(address, &args), len);
        println!("{len} bytes: {up:.1} MB/s up, {down:.1} MB/s down");
    }
}

#[test]
fn both_pacing_modes_carry_both_ways_with_either_program_as_server() {
    if !is_installed() {
        return;
    }
    let mut rng = rng();
    let plain = app(|stream| stream);
    let proxy = Proxy::client("paced-client");
    for mode in [IatMode::Enabled, IatMode::Paranoid] {
        let mut identity = Identity::from_rng(&mut rng);
        identity.iat_mode = mode;
        let name = format!("paced-{}", mode.number());
        let (_server, theirs, their_args) = Proxy::server(&name, plain, Some(&identity));
        let bridge = Bridge::new(identity, &mut rng);
        let our_args = bridge.identity().args();
        let ours = our_server(bridge);
        for len in PACED_SIZES {
            let session_rng = ChaCha20Rng::from_rng(&mut rng);
            let mut driven = Driven::new(connect(theirs), |now| {
                Session::client(&their_args, now, session_rng)
            });
            let speeds = ask(&mut driven, len);
            println!(
                "mode {}, obfs4proxy's server, {len} bytes: {speeds:.3?} MB/s",
                mode.number()
            );
            let speeds = ask(&mut proxy.dial(ours, &our_args), len);
            println!(
                "mode {}, our server, {len} bytes: {speeds:.3?} MB/s",
                mode.number()
            );
        }
    }
}

/// Needs no program; its figures are to be set beside the others.
#[test]
fn our_client_speaks_with_our_server() {
    let mut rng = rng();
    let bridge = Bridge::new(Identity::from_rng(&mut rng), &mut rng);
    let args = bridge.identity().args();
    let address = our_server(bridge.clone());
    for len in SIZES {
        let session_rng = ChaCha20Rng::from_rng(&mut rng);
        let mut driven = Driven::new(connect(address), |now| Session::client(&args, now, session_rng));
        let [up, down] = ask(&mut driven, len);
        println!("both ends ours, {len} bytes: {up:.1} MB/s up, {down:.1} MB/s down");
    }
    let (begun, now) = (Instant::now(), now(Instant::now()));
    for _ in 0..HANDSHAKES {
        let mut client = Session::client(&args, now, ChaCha20Rng::from_rng(&mut rng));
        let mut server = bridge.accept(now, ChaCha20Rng::from_rng(&mut rng));
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            let Output::Write { bytes, .. } = ends[from].poll_output() else {
                panic!("says nothing")
            };
            ends[to].receive(now, &bytes, &mut Vec::new()).expect("obfs4");
        }
        assert!(client.is_open() && server.is_open());
    }
    println!(
        "both ends of a handshake: {:?}",
        begun.elapsed() / u32::try_from(HANDSHAKES).expect("small")
    );
}

/// A bridge closes on a stranger at the same time whichever program it runs.
#[test]
#[ignore = "takes half a minute: just interop-obfs4 runs it"]
fn obfs4proxys_server_closes_on_a_stranger_when_ours_would() {
    if !is_installed() {
        return;
    }
    let mut rng = rng();
    let mut noise = vec![0; 9000];
    rng.fill_bytes(&mut noise);
    let start = now(Instant::now());
    let (identity, ours) = loop {
        let identity = Identity::from_rng(&mut rng);
        let mut server =
            Bridge::new(identity.clone(), &mut rng).accept(start, ChaCha20Rng::from_rng(&mut rng));
        server.receive(start, &noise, &mut Vec::new()).expect("silence");
        let Output::DiscardUntil { until, .. } = server.poll_output() else {
            panic!("answered")
        };
        let ours = until - start.since_start;
        // One in ten waits for less than six seconds more than it must, one in sixty not at all: not the latter.
        if (Duration::from_secs(31)..Duration::from_secs(36)).contains(&ours) {
            break (identity, ours);
        }
    };
    let (_proxy, address, _) = Proxy::server("stranger", (Ipv4Addr::LOCALHOST, 9).into(), Some(&identity));
    let mut stream = connect(address);
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let begun = Instant::now();
    stream.write_all(&noise).expect("taken");
    let got = stream.read(&mut [0; 100]).expect("an end");
    let theirs = begun.elapsed();
    println!("ours {ours:?}, obfs4proxy's {theirs:?}");
    assert_eq!(got, 0);
    assert!(
        theirs.abs_diff(ours) < Duration::from_millis(500),
        "ours {ours:?}, obfs4proxy's {theirs:?}"
    );
}

/// Makes `src/session/vectors/obfs4proxy.txt` anew, with which the unit tests check themselves where obfs4proxy is not
/// installed: what its server answered to a client with a known seed, and how long its bursts were.
#[test]
#[ignore = "no check but a recorder: rewrites src/session/vectors, wanted when the order of draws changes"]
fn records_what_obfs4proxys_server_says() {
    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let app = echo.local_addr().expect("bound");
    thread::spawn(move || {
        let mut stream = patient(echo.accept().expect("accepted").0);
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).expect("taken");
        }
    });
    let (proxy, address, args) = Proxy::server("recorded", app, None);
    let state = std::fs::read_to_string(proxy.state.join(STATE_FILE)).expect("its state");
    let mut stream = connect(address);
    let now = now(Instant::now());
    let mut session = Session::client(&args, now, ChaCha20Rng::seed_from_u64(0));
    let mut pump = |session: &mut Session<ChaCha20Rng>| {
        loop {
            match session.poll_output() {
                Output::Write { bytes, .. } => stream.write_all(&bytes).expect("taken"),
                Output::Opened => {}
                _ => break,
            }
        }
        let mut wire = vec![0; 64 * 1024];
        let got = stream.read(&mut wire).expect("something comes");
        wire.truncate(got);
        wire
    };
    let (mut answer, mut plain) = (Vec::new(), Vec::new());
    while !session.is_open() {
        let wire = pump(&mut session);
        session.receive(now, &wire, &mut plain).expect("obfs4");
        answer.extend(wire);
    }
    let mut lens = Vec::new();
    for byte in 0..60 {
        assert_eq!(session.send(&[byte]), Ok(1));
        let wire = pump(&mut session);
        session.receive(now, &wire, &mut plain).expect("obfs4");
        assert_eq!(plain.pop(), Some(byte), "a burst in one piece");
        lens.push(wire.len().to_string());
        if byte == 0 {
            answer.extend(wire);
        }
    }
    let hex: String = answer.iter().map(|b| format!("{b:02x}")).collect();
    let text = format!("{}\n{}\n{hex}\n{}\n", state.trim(), now.hour.0, lens.join(" "));
    std::fs::write(
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/session/vectors/obfs4proxy.txt"),
        text,
    )
    .expect("written");
}
