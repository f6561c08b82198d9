use proptest::prelude::*;

use super::*;
use crate::args::tests::{args, name};
use crate::proxy::tests::proxy;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn parse(more: &[(&str, &str)]) -> Result<Environment, EnvError> {
    let mut all = vec![(VERSIONS, "1"), (STATE, "/s")];
    all.extend(more);
    Environment::parse(pairs(&all))
}

fn refusal(more: &[(&str, &str)]) -> String {
    parse(more).unwrap_err().to_string()
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    let names = prop::collection::btree_set(name(), 1..4);
    let client = (names, prop::option::of(proxy())).prop_map(|(names, proxy)| Role::Client {
        transports: names.into_iter().collect(),
        proxy,
    });
    let orport = prop_oneof![
        address().prop_map(OrPort::Plain),
        address().prop_map(|address| OrPort::Extended {
            address,
            cookie_file: "/c o/okie".into(),
        }),
    ];
    let one = (prop::option::of(address()), args());
    let all = prop::collection::btree_map(name(), one, 1..4);
    let server = (all, orport).prop_map(|(all, orport)| {
        let transports =
            all.into_iter()
                .map(|(name, (bind, options))| ServerTransport { name, bind, options });
        Role::Server {
            transports: transports.collect(),
            orport,
        }
    });
    prop_oneof![client, server]
}

proptest! {
    #[test]
    fn what_a_parent_says_is_what_its_child_reads(role in role(), exit_on_stdin_close in any::<bool>()) {
        let said = Environment { state: "/var/lib/pt state".into(), exit_on_stdin_close, role };
        let pairs = said.to_pairs().into_iter().map(|(name, value)| (name.into(), value));
        prop_assert_eq!(Environment::parse(pairs).unwrap(), said);
    }

    #[test]
    fn no_environment_makes_the_parser_panic(
        values in prop::collection::vec(prop_oneof![any::<String>(), "[-a1:;,=\\\\./@]{0,30}"], 11),
        unset in any::<u16>(),
    ) {
        let names = [VERSIONS, STATE, EXIT, CLIENT, PROXY, SERVER, BIND, OPTIONS, ORPORT, EXTENDED, COOKIE];
        let all = names.into_iter().zip(&values).enumerate();
        let set = all.filter(|(index, _)| (unset >> index) & 1 == 0).map(|(_, pair)| pair);
        let _ = Environment::parse(set.clone().map(|(name, value)| (name.into(), value.into())));
        // With a beginning that is right, so that the rest is reached.
        let right = [(VERSIONS, "1"), (STATE, "/s"), (if unset & 1 == 0 { CLIENT } else { SERVER }, "a")];
        let rest = set.filter(|(name, _)| ![VERSIONS, STATE, CLIENT, SERVER].contains(name));
        let all = rest.map(|(name, value)| (name, &**value)).chain(right);
        if let Err(error) = Environment::parse(all.map(|(name, value)| (name.into(), value.into()))) {
            prop_assert!(error.to_string().contains("TOR_PT_"));
        }
    }
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let client = parse(&[
        (CLIENT, "obfs3,obfs4,obfs3"),
        (PROXY, "socks5://127.0.0.1:8001"),
        (EXIT, "1"),
    ]);
    let client = client.unwrap();
    assert!(client.exit_on_stdin_close);
    assert_eq!(joined(client.role.transports()), "obfs3,obfs4");
    let server = parse(&[
        (SERVER, "obfs3,scramblesuit"),
        (BIND, "obfs3-198.51.100.1:1984,scramblesuit-127.0.0.1:4891"),
        (
            OPTIONS,
            "scramblesuit:key=banana;automata:rule=110;automata:depth=3",
        ),
        (ORPORT, "127.0.0.1:9001"),
        (EXTENDED, ""),
    ]);
    let Role::Server { transports, orport } = server.unwrap().role else {
        panic!("no server");
    };
    assert_eq!(transports[1].options.value("key"), Some("banana"));
    assert_eq!(transports[1].bind, Some(([127, 0, 0, 1], 4891).into()));
    assert_eq!(orport, OrPort::Plain(([127, 0, 0, 1], 9001).into()));
}

#[test]
fn a_closed_input_ends_the_program_only_if_the_parent_said_1() {
    for (value, ends) in [("1", true), ("0", false), ("yes", false), ("", false)] {
        assert_eq!(
            parse(&[(CLIENT, "a"), (EXIT, value)])
                .unwrap()
                .exit_on_stdin_close,
            ends
        );
    }
}

#[test]
fn any_list_with_the_version_is_accepted_and_no_other() {
    let version = |held: &str| Variables::collect(pairs(&[(VERSIONS, held)])).version();
    for good in ["1", "1,1a,2b,this_is_a_valid_ver", "2,1"] {
        assert_eq!(version(good), Ok(()), "{good}");
    }
    let newer = version("2,11").unwrap_err();
    assert_eq!(newer.answer().to_string(), "VERSION-ERROR no-version");
    for malformed in ["1,", "1, 2", ",1"] {
        assert!(
            matches!(version(malformed), Err(EnvError::Bad { .. })),
            "{malformed}"
        );
    }
    assert!(matches!(version(""), Err(EnvError::Missing { .. })));
}

#[test]
fn an_error_names_the_variable_what_it_held_and_what_is_wanted() {
    assert_eq!(
        refusal(&[(SERVER, "a"), (BIND, "a-localhost:1")]),
        "TOR_PT_SERVER_BINDADDR holds \"a-localhost:1\": wanted transport-address:port for each transport once, \
         separated by commas, addresses as numbers"
    );
    assert_eq!(
        refusal(&[(SERVER, "a"), (EXTENDED, "127.0.0.1:1")]),
        "TOR_PT_AUTH_COOKIE_FILE is not set: wanted the absolute path of the cookie's file, because \
         TOR_PT_EXTENDED_SERVER_PORT is set"
    );
    assert!(refusal(&[(CLIENT, "a,4b")]).starts_with("TOR_PT_CLIENT_TRANSPORTS holds \"4b\": no name"));
    assert!(refusal(&[(STATE, "here"), (CLIENT, "a")]).starts_with("TOR_PT_STATE_LOCATION holds \"here\""));
    assert!(refusal(&[(SERVER, "a")]).starts_with("TOR_PT_ORPORT is not set"));
    assert!(refusal(&[(CLIENT, "a"), (SERVER, "a")]).starts_with("both"));
    assert!(refusal(&[]).starts_with("neither"));
    assert!(refusal(&[(CLIENT, &"é-".repeat(500))]).len() < 400);
}

#[test]
fn a_proxy_that_cannot_be_used_has_an_answer_of_its_own() {
    let error = parse(&[(CLIENT, "a"), (PROXY, "http://user:hush@example.com:80")]).unwrap_err();
    let answer = error.answer().to_string();
    assert!(
        answer.starts_with("PROXY-ERROR the upstream proxy's address"),
        "{answer}"
    );
    assert!(!answer.contains("hush"));
}

#[test]
fn an_error_about_options_shows_no_option() {
    let error = refusal(&[
        (SERVER, "a"),
        (ORPORT, "127.0.0.1:1"),
        (OPTIONS, "a:key=hush;a:x"),
    ]);
    assert_eq!(
        error,
        "TOR_PT_SERVER_TRANSPORT_OPTIONS holds 14 bytes (not shown: it may hold secrets): argument 2 has no equals \
         sign: wanted key=value"
    );
}
