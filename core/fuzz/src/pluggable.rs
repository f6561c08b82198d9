//! Pluggable transports: what programs, parents and whoever connects to one of their ports say; and of the transports that look
//! like the web, their lines and what is no more than a function of a request's head.

use std::fmt::Debug;

use phantom_pt::args::{Args, options_from_text, options_to_text};
use phantom_pt::cstring::{quote, unquote};
use phantom_pt::env::Environment;
use phantom_pt::exchange::{Exchange, Output, READ_MAX};
use phantom_pt::lines::{LINE_MAX, Lines};
use phantom_pt::message::Message;
use phantom_pt::orport::{self, Cookie, Introduction, Nonce};
use phantom_pt::proxy::Proxy;
use phantom_pt::socks::{ClientMachine, Credentials, Names, ServerMachine};
use phantom_web::meek::Front;
use phantom_web::tls::{pin_from_base64, pin_to_base64};
use phantom_web::url::WebUrl;
use phantom_web::webtunnel::Bridge;

use crate::world;

/// Texts, lines, an environment; SOCKS and the Extended ORPort from both sides; addresses, arguments and heads of the web.
pub fn pluggable(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let text = String::from_utf8_lossy(bytes);
    match kind % 16 {
        0 => again(Args::from_socks(&text), |args| Args::from_socks(&args.to_socks())),
        1 => again(Args::from_smethod(&text), |args| match args.to_smethod() {
            Ok(text) => Args::from_smethod(&text),
            // A blank, which a line's text would not have had.
            Err(_) => Ok(args.clone()),
        }),
        2 => again(options_from_text(&text), |options| {
            options_from_text(&options_to_text(options))
        }),
        3 => message(&text),
        4 => lines(bytes),
        5 => {
            let Some((said, rest)) = unquote(&text) else {
                return false;
            };
            let quoted = quote(&said) + rest;
            assert_eq!(unquote(&quoted), Some((said, rest)));
            true
        }
        6 => again(text.parse::<Proxy>(), |proxy| proxy.to_uri().parse()),
        7 => environment(&text),
        8 => socks_server(bytes),
        9 => socks_client(bytes),
        10 => orport_server(bytes),
        11 => orport_client(bytes),
        12 => again(text.parse::<WebUrl>(), |url| url.to_string().parse()),
        13 => web_line(&text),
        14 => again(pin_from_base64(&text), |pin| pin_from_base64(&pin_to_base64(pin))),
        _ => phantom_web::fuzz::visit(bytes, world::wall()),
    }
}

/// Whether something was read; if so, it must be read again from what is written of it.
fn again<T: PartialEq + Debug, E: PartialEq + Debug>(
    read: Result<T, E>,
    reread: impl FnOnce(&T) -> Result<T, E>,
) -> bool {
    let Ok(value) = read else { return false };
    assert_eq!(reread(&value), Ok(value));
    true
}

/// A line of a program. What it is written as again has neither line ends nor anything but ASCII, and stays that.
fn message(text: &str) -> bool {
    let Ok(Some(message)) = Message::parse(text) else {
        return false;
    };
    let line = message.to_string();
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
    let same = Message::parse(&line).expect("ours").expect("a known keyword");
    assert_eq!(same.to_string(), line);
    true
}

/// Output of a program in pieces. Bytes: the size of the pieces, a factor, the output, which is repeated so often.
fn lines(bytes: &[u8]) -> bool {
    let Some((&[cut, times], said)) = bytes.split_first_chunk() else {
        return false;
    };
    let said = said.repeat(usize::from(times) + 1);
    let said = &said[..said.len().min(4 * LINE_MAX)];
    let mut whole = Lines::default();
    let mut all = whole.handle(said);
    all.extend(whole.finish());
    let (mut cutter, mut again) = (Lines::default(), Vec::new());
    for piece in said.chunks(usize::from(cut) + 1) {
        again.extend(cutter.handle(piece));
    }
    again.extend(cutter.finish());
    assert_eq!(again, all);
    assert_eq!(cutter.finish(), None);
    let mut known = false;
    for (line, number) in all.iter().zip(1..) {
        assert_eq!(line.number, number);
        if let Some(text) = &line.text {
            // A byte that is not UTF-8 becomes three.
            assert!(text.len() <= 3 * LINE_MAX && !text.contains('\n'));
            known |= message(text);
        }
    }
    known
}

/// NAME=VALUE, each on a line.
fn environment(text: &str) -> bool {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let read = Environment::parse(pairs.map(|(name, value)| (name.into(), value.into())));
    again(read, |environment| {
        let pairs = environment.to_pairs().into_iter();
        Environment::parse(pairs.map(|(name, value)| (name.into(), value)))
    })
}

/// Gives a machine of `theirs` what it asks for, until it is over or there is no more; what it said, and how it ended.
fn play<X: Exchange>(machine: &mut X, theirs: &mut &[u8]) -> (Vec<u8>, Option<Result<X::Done, X::Error>>) {
    let (mut sent, mut sends) = (Vec::new(), 0);
    loop {
        match machine.poll_output() {
            Output::Send(bytes) => {
                sends += 1;
                assert!(sends < 8, "it talks on");
                sent.extend(bytes);
            }
            Output::Read(wanted) => {
                assert!((1..=READ_MAX).contains(&wanted), "{wanted}");
                let Some((now, later)) = theirs.split_at_checked(wanted) else {
                    return (sent, None);
                };
                machine.handle(now);
                *theirs = later;
            }
            Output::Done(done) => return (sent, Some(Ok(done))),
            Output::Failed(error) => return (sent, Some(Err(error))),
        }
    }
}

/// Bytes: whether names are taken, then what the other side says. No request takes more than so many bytes to say, and what was
/// understood is what our own client would have said.
fn socks_server(bytes: &[u8]) -> bool {
    const REQUEST_MAX: usize = 2 + 255 + 2 + 256 + 255 + 4 + 1 + 257;
    let Some((names, mut theirs)) = bytes.split_first() else {
        return false;
    };
    let names = [Names::Refuse, Names::Allow][usize::from(names % 2)];
    let before = theirs.len();
    let (sent, end) = play(&mut ServerMachine::new(names), &mut theirs);
    assert!(before - theirs.len() <= REQUEST_MAX && sent.len() <= 2 + 2 + 10);
    let Some(Ok(request)) = end else { return false };
    let credentials = match request.args.is_empty() {
        true => None,
        // Escapes may make it longer than it was.
        false => match Credentials::of_args(&request.args) {
            Ok(credentials) => Some(credentials),
            Err(_) => return true,
        },
    };
    let method = if credentials.is_some() { 2 } else { 0 };
    let mut client = ClientMachine::new(&request.target, credentials);
    let answers = [&[5, method][..], &[1, 0][..usize::from(method)]].concat();
    let (said, end) = play(&mut client, &mut &answers[..]);
    assert!(end.is_none(), "it waits for the reply");
    let mut said = &said[..];
    let (_, same) = play(&mut ServerMachine::new(names), &mut said);
    assert_eq!((same, said.len()), (Some(Ok(request)), 0));
    true
}

/// Bytes: whether there are arguments, then what the other side says.
fn socks_client(bytes: &[u8]) -> bool {
    const REPLY_MAX: usize = 2 + 2 + 4 + 1 + 257;
    let Some((with_args, mut theirs)) = bytes.split_first() else {
        return false;
    };
    let args = Args::new().with("cert", "secret").expect("an argument");
    let credentials = (with_args % 2 == 1).then(|| Credentials::of_args(&args).expect("short"));
    let mut client = ClientMachine::new(&world::addresses()[1].into(), credentials);
    let before = theirs.len();
    let (sent, end) = play(&mut client, &mut theirs);
    assert!(before - theirs.len() <= REPLY_MAX);
    // The arguments are for who speaks SOCKS and asked for them.
    assert!(sent.len() <= 3 || before >= 2);
    matches!(end, Some(Ok(())))
}

fn cookie() -> Cookie {
    Cookie::from_bytes([7; 32])
}

/// Both machines with the same cookie, up to the word that the client is believed: what is said after it is up to the caller.
fn met() -> (orport::Client, orport::Server) {
    let told = Introduction {
        client: Some(world::addresses()[1]),
        transport: Some("obfs4".parse().expect("a name")),
    };
    let mut client = orport::Client::new(cookie(), Nonce::from_bytes([1; 32]), &told);
    let mut server = orport::Server::new(cookie(), Nonce::from_bytes([2; 32]));
    let (mut offer, _) = play(&mut server, &mut &[][..]);
    for _ in 0..2 {
        let (answer, end) = play(&mut client, &mut &offer[..]);
        assert!(end.is_none());
        (offer, _) = play(&mut server, &mut &answer[..]);
    }
    let (introduction, end) = play(&mut client, &mut &offer[..]);
    assert!(end.is_none() && !introduction.is_empty());
    (client, server)
}

/// Bytes: whether the transport is believed already, then what it says.
fn orport_server(bytes: &[u8]) -> bool {
    const COMMANDS_MAX: usize = 33 * (4 + 0xffff);
    let Some((believed, mut theirs)) = bytes.split_first() else {
        return false;
    };
    let mut server = match believed % 2 {
        0 => orport::Server::new(cookie(), Nonce::from_bytes([2; 32])),
        _ => met().1,
    };
    let before = theirs.len();
    let (sent, end) = play(&mut server, &mut theirs);
    assert!(before - theirs.len() <= 1 + 32 + 32 + COMMANDS_MAX);
    assert!(sent.len() <= 2 + 64 + 1);
    match end {
        Some(Ok(introduction)) => {
            assert_eq!(believed % 2, 1, "who does not know the cookie is believed");
            // Our own client says it so that it is heard the same.
            let mut client = orport::Client::new(cookie(), Nonce::from_bytes([1; 32]), &introduction);
            let mut server = orport::Server::new(cookie(), Nonce::from_bytes([2; 32]));
            let (mut ours, mut heard) = (Vec::new(), None);
            for _ in 0..4 {
                let (said, end) = play(&mut server, &mut &ours[..]);
                heard = heard.or(end);
                if heard.is_none() {
                    (ours, _) = play(&mut client, &mut &said[..]);
                }
            }
            let same = heard.expect("four turns are enough").expect("a client of ours");
            let plain = |at: std::net::SocketAddr| (at.ip(), at.port());
            assert_eq!(same.client.map(plain), introduction.client.map(plain));
            assert_eq!(same.transport, introduction.transport);
            true
        }
        _ => false,
    }
}

/// Bytes: whether the cookie's other holder has shown itself already, then what it says.
fn orport_client(bytes: &[u8]) -> bool {
    let Some((shown, mut theirs)) = bytes.split_first() else {
        return false;
    };
    let mut client = match shown % 2 {
        0 => orport::Client::new(
            cookie(),
            Nonce::from_bytes([1; 32]),
            &Introduction {
                client: Some(world::addresses()[0]),
                transport: None,
            },
        ),
        _ => met().0,
    };
    let (sent, end) = play(&mut client, &mut theirs);
    if shown % 2 == 0 {
        assert!(sent.len() <= 33, "a stranger is told who connects");
        assert!(!matches!(end, Some(Ok(()))), "a stranger is believed");
        return end.is_none() && sent.len() == 33;
    }
    assert!(sent.is_empty());
    matches!(end, Some(Ok(())))
}

/// Arguments of a bridge line of both transports, separated by blanks.
fn web_line(text: &str) -> bool {
    let args = || {
        text.split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
    };
    let (bridge, front) = (Bridge::from_args(args()), Front::from_args(args()));
    if let Ok(bridge) = &bridge {
        phantom_web::fuzz::ask_webtunnel(bridge);
    }
    if let Ok(front) = &front {
        phantom_web::fuzz::ask_meek(front);
    }
    bridge.is_ok() || front.is_ok()
}
