use proptest::prelude::*;

use super::*;
use crate::args::tests::{args, name};

fn message() -> impl Strategy<Value = Message> {
    let text = || "[ -~]{0,30}";
    let address = || any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let ascii = |args: Args| {
        let replaced = args
            .iter()
            .map(|(key, value)| (key.replace('é', "e"), value.replace('é', "e")));
        replaced.fold(Args::new(), |args, (key, value)| args.with(key, value).unwrap())
    };
    let fields = prop::collection::vec(("[A-Z_]{1,8}", "[^\\p{C}]{0,12}"), 0..4).prop_map(|all| {
        let mut args = Args::new();
        for (key, value) in all {
            args.push(key, value).unwrap();
        }
        args
    });
    let severity = prop::sample::select(vec![Severity::Debug, Severity::Notice, Severity::Error]);
    prop_oneof![
        "[!-~]{1,5}".prop_map(Message::Version),
        text().prop_map(Message::VersionError),
        text().prop_map(Message::EnvError),
        text().prop_map(Message::ProxyError),
        Just(Message::ProxyDone),
        Just(Message::CmethodsDone),
        Just(Message::SmethodsDone),
        (name(), address()).prop_map(|(transport, address)| Message::Cmethod {
            transport,
            socks: SocksVersion::Socks5,
            address
        }),
        (name(), text()).prop_map(|(transport, reason)| Message::CmethodError { transport, reason }),
        (name(), text()).prop_map(|(transport, reason)| Message::SmethodError { transport, reason }),
        (name(), address(), args().prop_map(ascii)).prop_map(|(transport, address, args)| {
            Message::Smethod {
                transport,
                address,
                args,
            }
        }),
        (severity, any::<String>()).prop_map(|(severity, text)| Message::Log { severity, text }),
        (prop::option::of(name()), fields)
            .prop_map(|(transport, fields)| Message::Status { transport, fields }),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_its_line(message in message()) {
        // A second TRANSPORT of a STATUS cannot be told from the first.
        if let Message::Status { fields, .. } = &message {
            prop_assume!(fields.value("TRANSPORT").is_none());
        }
        let line = message.to_string();
        prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", line);
        prop_assert_eq!(Message::parse(&line), Ok(Some(message)));
    }

    #[test]
    fn no_line_makes_the_parser_panic(
        any in any::<String>(),
        keyword in prop::sample::select(vec!["VERSION", "CMETHOD", "SMETHOD", "CMETHOD-ERROR", "LOG", "STATUS"]),
        rest in "( |[a1:=,.\"\\\\A]|ARGS:|socks5|127.0.0.1:1){0,12}",
    ) {
        let _ = Message::parse(&any);
        let _ = Message::parse(&format!("{keyword} {rest}"));
        let _ = Message::parse(&format!("{keyword} {any}"));
    }

    #[test]
    fn no_reason_breaks_its_line(reason in any::<String>()) {
        let line = Message::EnvError(reason).to_string();
        prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    }
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let parsed = |line| Message::parse(line).unwrap().unwrap();
    let Message::Smethod { address, args, .. } =
        parsed("SMETHOD obfs4 198.51.100.1:43734 ARGS:cert=HszPy3vWfjsESCEOo9ZBkRv6zQ/1mGHzc8ar,iat-mode=0")
    else {
        panic!("no SMETHOD");
    };
    assert_eq!((address.port(), args.value("iat-mode")), (43734, Some("0")));
    let Message::Status { transport, fields } = parsed(
        r#"STATUS TRANSPORT=obfs4 ADDRESS=198.51.100.222:2222 CONNECT=Failed ERRSTR="Connection refused""#,
    ) else {
        panic!("no STATUS");
    };
    assert_eq!(transport.unwrap().as_str(), "obfs4");
    assert_eq!(fields.value("ERRSTR"), Some("Connection refused"));
    let log = parsed(r#"LOG SEVERITY=debug MESSAGE="Connected to bridge A""#);
    let text = "Connected to bridge A".to_owned();
    let severity = Severity::Debug;
    assert_eq!(log, Message::Log { severity, text });
}

#[test]
fn unknown_keywords_are_ignored_and_known_ones_must_be_right() {
    for unknown in ["", "HELLO", "PROXY MAYBE", "CMETHODS", "version 1", "\u{1f512}"] {
        assert_eq!(Message::parse(unknown), Ok(None), "{unknown}");
    }
    for (wrong, why) in [
        ("VERSION", "VERSION lacks a version"),
        ("CMETHOD", "CMETHOD lacks a transport"),
        ("CMETHOD a", "CMETHOD lacks socks4 or socks5"),
        (
            "CMETHOD a socks6 127.0.0.1:1",
            "CMETHOD has no valid socks4 or socks5",
        ),
        ("CMETHOD a socks5", "CMETHOD lacks an address"),
        ("SMETHOD a localhost:1", "SMETHOD has no valid address:port"),
        (
            "SMETHOD a 127.0.0.1:1 ARGS:hush",
            "SMETHOD: argument 1 has no equals sign: wanted key=value",
        ),
        ("LOG MESSAGE=a", "LOG lacks SEVERITY"),
        ("LOG SEVERITY=loud MESSAGE=a", "LOG has no valid SEVERITY"),
        ("STATUS TRANSPORT=\"a", "STATUS has no valid quoted value"),
    ] {
        assert_eq!(Message::parse(wrong).unwrap_err().to_string(), why, "{wrong}");
    }
}
