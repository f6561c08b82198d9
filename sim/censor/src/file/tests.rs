use std::net::SocketAddr;

use proptest::prelude::*;

use super::units::{Address, Entropy, Pattern, Ports, Rate, Size};
use super::*;
use crate::catalogue;
use crate::classify::Protocol;
use crate::classify::fet::Variant;
use crate::engine::residual::Tuple;
use crate::engine::rule::{self, ALWAYS, Condition};
use crate::prober::{Config, Sign};

const HEAD: &str = "name = 'x'\nsummary = 'A test'\n";

fn rule(keys: &str) -> String {
    format!("{HEAD}[[rule]]\nname = 'r'\nsource = 'a test'\n{keys}\n")
}

fn parse(text: &str) -> Result<CensorFile, FileError> {
    CensorFile::parse("x.toml", text)
}

fn error(text: &str) -> String {
    parse(text).expect_err("a mistake").to_string()
}

/// Every key and every choice of the format.
const ALL: &str = include_str!("everything.toml");

#[test]
fn what_is_written_is_read() {
    let mut censors = catalogue::catalogue().expect("a good catalogue");
    censors.push(parse(ALL).expect("good"));
    for censor in censors {
        let text = censor.to_text().expect("TOML");
        assert_eq!(parse(&text), Ok(censor), "{text}");
    }
}

#[test]
fn every_key_reaches_the_engine() {
    let censor = parse(ALL).expect("good");
    assert_eq!(censor.config(7).flows.idle_ns, 90_000_000_000);
    let rules = censor.rules();
    let rule = &rules[0];
    assert_eq!(
        rule.phases,
        [(0, 90_000_000_000), (3_600_000_000_000, 129_600_000_000_000)]
    );
    // 0.263 * 2^32 is 1,129,576,398.8.
    assert_eq!((rule.acts_on, rule.acts_by_mistake_on), (1_129_576_399, 4));
    assert_eq!((rule.way, rule.reassembles), (Way::FromServer, true));
    assert_eq!(rule.all.len(), 17);
    assert!(rules[1].all.contains(&Condition::Flagged(Variant::OpenGfw)));
    let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an endpoint");
    for condition in &rule.all {
        match condition {
            Condition::Client(from) => {
                assert!(from.has(endpoint("192.0.2.77:1")) && from.has(endpoint("[2001:db8::1]:443")));
                assert!(!from.has(endpoint("[2001:db8::1]:80")));
            }
            Condition::FirstPacketLen(lens) => assert_eq!(*lens, 160..=700),
            Condition::FirstPacketMod16(bits) => assert_eq!(*bits, 0b10_0000_0100),
            Condition::Unlike(protocols, packets) => {
                assert_eq!((protocols, *packets), (&[Protocol::Tls, Protocol::Ssh].into(), 3));
            }
            Condition::EntropyMin(millibits) => assert_eq!(*millibits, 7_250),
            Condition::Packets(way, over) => assert_eq!((*way, *over), (Way::FromClient, 25)),
            Condition::Bytes(way, over) => assert_eq!((*way, *over), (Way::Both, 16_384)),
            Condition::Not(not) => assert!(
                matches!(&**not, Condition::SourcePortAbove)
                    || matches!(&**not, Condition::Any(any) if any.len() == 2
                        && matches!(&any[0], Condition::All(all) if all.len() == 2))
            ),
            _ => {}
        }
    }
    let residual = rule.residual.expect("one");
    assert_eq!(
        (residual.tuple, residual.for_ns, residual.share),
        (Tuple::Two, 43_200_000_000_000, ALWAYS / 2)
    );
    assert!(residual.resets && residual.renewed && residual.way == Way::FromClient);
    assert_eq!(
        rules[1].action,
        rule::Action::Reset {
            client: false,
            server: true
        }
    );
    assert_eq!(rules[1].acts_on, ALWAYS);
    assert_eq!(rules[1].residual.map(|residual| residual.share), Some(ALWAYS));
    assert_eq!(rules[2].action, rule::Action::Delay(200_000_000));
    assert!(matches!(&rules[3].action, rule::Action::Forge(forged) if forged.pool.len() == 2));
    let probe = rules[4].probe().expect("it probes");
    assert_eq!(
        (probe.kinds.len(), probe.from.count(), probe.judge.signs.len()),
        (6, 2, 3)
    );
    assert_eq!(
        (probe.delay.min_ns, &probe.delay.within[..]),
        (
            1_000_000_000,
            &[(ALWAYS / 2, 5_000_000_000), (ALWAYS, 180_000_000_000)][..]
        )
    );
    assert_eq!((probe.patience_ns, probe.blocks), (4_000_000_000, ALWAYS / 2));
    assert_eq!(
        (probe.judge.answers, probe.judge.silences, probe.probes_max),
        (2, 6, 40)
    );
    assert!(probe.block.resets && !probe.block.renewed && probe.block.tuple == Tuple::ServerPort);
}

#[test]
fn a_probe_of_which_nothing_is_said_is_as_published() {
    let censor = parse(&rule("action = { probe = {} }")).expect("good");
    assert_eq!(censor.rules()[0].probe(), Some(&Config::default()));
    // Of the signs those count that the kinds can show.
    let fewer = parse(&rule("action = { probe = { kinds = ['r1', 'nr2'] } }")).expect("good");
    let rules = fewer.rules();
    let signs = &rules[0].probe().expect("it probes").judge.signs;
    assert_eq!(signs, &[Sign::ReplayAnswered].into());
}

#[test]
fn a_mistake_is_told_at_its_place_with_what_was_wanted() {
    assert_eq!(
        error(&rule("action = 'drop'\nshar = '5 %'")),
        "x.toml:7:1: unknown key 'shar'; did you mean 'share'?\n    7 | shar = '5 %'\n      | ^\n        choices: name, enabled, \
         source, inspects, from, until, phases, match, script, model, share, by-mistake, way, action, residual"
    );
    for (keys, wanted) in [
        (
            "action = 'dorp'",
            "x.toml:6:10: unknown choice 'dorp'; did you mean 'drop'?",
        ),
        (
            "action = 'drop'\nmatch = { flagged = 'papr' }",
            "7:21: unknown choice 'papr'; did you mean 'paper'?",
        ),
        (
            "action = 'drop'\nmatch = { protocols = ['dns', 'tsl'] }",
            "7:31: unknown choice 'tsl'",
        ),
        (
            "action = 'drop'\nmatch = { not = { naems = [] } }",
            "7:19: unknown key 'naems'; did you mean 'names'?",
        ),
        (
            "action = 'police'",
            "6:10: 'police' needs a table: { police = ... }\n",
        ),
        (
            "action = { police = { rate = '140 kbps', burst = '16 KB' } }",
            "6:30: wanted a rate such as \"140 kbit/s\", got the unit 'kbps'; units: bit/s, kbit/s, Mbit/s, Gbit/s",
        ),
        (
            "action = { drop = true }",
            "6:19: 'drop' takes no value: write \"drop\"",
        ),
        (
            "action = 5",
            "6:10: wanted exactly one of the choices, got a whole number",
        ),
        (
            "share = 0.263\naction = 'drop'",
            "6:9: wanted a share in quotes such as \"26.3 %\", got the number 0.263",
        ),
        (
            "share = '101 %'\naction = 'drop'",
            "6:9: wanted a share of at most \"100 %\"",
        ),
        (
            "share = 26\naction = 'drop'",
            "6:9: wanted a share in quotes such as \"26.3 %\", got the number 26",
        ),
        (
            "action = { drop = { far = 1 } }",
            "6:21: 'drop' takes no keys, got 'far'",
        ),
        (
            "action = 'drop'\nmatch = { flows = { over = 2.5 } }",
            "7:28: wanted a whole number from 0, got the number 2.5",
        ),
        (
            "action = 'drop'\nresidual = { tuple = '3-tupel', for = '180 s' }",
            "7:22: unknown choice '3-tupel'; did you mean '3-tuple'?",
        ),
        (
            "action = 'drop'\nresidual = { tuple = '3-tuple', for = '180' }",
            "7:39: wanted a time such as \"180 s\", got no unit",
        ),
        (
            "action = 'drop'\nmatch = { to = ['192.0.2.1/24'] }",
            "7:17: \"192.0.2.1/24\" has bits beyond its length; the prefix is \"192.0.2.0/24\"",
        ),
        (
            "action = 'drop'\nmatch = { to = ['192.0.2/24'] }",
            "7:17: wanted an address such as",
        ),
        (
            "action = 'drop'\nmatch = { ports = [70000] }",
            "7:20: wanted a port from 0 to 65535, got 70000",
        ),
        (
            "action = 'drop'\nmatch = { ports = ['90-80'] }",
            "7:20: the ports end before they begin: 90 is more than 80",
        ),
        (
            "action = 'drop'\nmatch = { names = ['a*b'] }",
            "7:20: wanted a name, with all below it or a piece of one",
        ),
        ("action = 'drop'\nmatch = []", "7:9: wanted a table, got an array"),
        ("action = 'drop'\nway = 'up'", "7:7: unknown choice 'up'"),
        ("action = 'drop'\n= 3", "7:1: not TOML: "),
        (
            "action = { probe = { kinds = ['r1', 'r6'] } }",
            "6:37: unknown choice 'r6'",
        ),
        (
            "action = { probe = { delay = [{ share = '5 %', withn = '1 s' }] } }",
            "6:48: unknown key 'withn'; did you mean 'within'?",
        ),
        (
            "action = { probe = { from = 0 } }",
            "6:29: wanted 1 to 1024 addresses",
        ),
        ("action = { probe = { from = ['here'] } }", "6:30: "),
        ("action = 'probe'", "6:10: 'probe' needs a value: { probe = ... }"),
        (
            "action = 'drop'\nmatch = { first-packet-mod-16 = [2, 16] }",
            "7:37: wanted a remainder from 0 to 15, got 16",
        ),
        (
            "action = 'drop'\nmatch = { unlike = { protocols = ['tls'], packets = 0 } }",
            "7:53: wanted 1 to 8 packets, got 0",
        ),
        (
            "action = 'drop'\nmatch = { unlike = { protocols = ['tls'], packets = 9 } }",
            "wanted 1 to 8 packets, got 9",
        ),
        ("", "3:1: 'action' is missing here"),
    ] {
        let got = error(&rule(keys));
        assert!(got.contains(wanted), "{keys}:\n{got}\nwanted: {wanted}");
    }
    assert!(error("name = 'x'").contains("'summary' is missing here"));
    let at_once = rule("action = 'drop'").replace("[[rule]]", "flow-idle = '0 s'\n[[rule]]");
    assert!(error(&at_once).contains("x.toml:3:13: 'flow-idle' of zero forgets every flow at once"));
    let forgetful = rule("action = 'drop'").replace("[[rule]]", "flows-max = 0\n[[rule]]");
    let got = error(&forgetful);
    assert!(got.contains("x.toml:3:") && got.contains("nonzero"), "{got}");
    let small = rule("action = 'drop'").replace("[[rule]]", "flows-max = 7\n[[rule]]");
    let small = parse(&small).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(small.config(1).flows.flows_max, 7);
    assert!(error(HEAD).contains("a censor without a [[rule]] does nothing"));
    let anonymous = format!("{HEAD}[[rule]]\nname = 'r'\naction = 'drop'\n");
    assert!(error(&anonymous).contains("x.toml:3:1: rule 'r': its source is empty"));
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_at_its_place() {
    for (keys, wanted) in [
        (
            "action = 'drop'\nphases = [{ from = '10 s', until = '5 s' }]",
            "a phase from 10 s until 5 s never holds",
        ),
        (
            "action = 'drop'\nmatch = { names = [] }",
            "no name is listed: the rule can never match",
        ),
        ("action = 'drop'\nmatch = { to = [] }", "no address is listed"),
        (
            "action = 'drop'\nmatch = { unlike = { protocols = [] } }",
            "no protocol is listed",
        ),
        (
            "action = 'drop'\nmatch = { transport = 'udp', protocols = ['tls', 'ssh'] }",
            "no flow meets 'protocols' as well as the other conditions",
        ),
        (
            "action = 'drop'\nresidual = { tuple = '3-tuple', for = '1 s', share = '0 %' }",
            "a residual block of no flow does nothing",
        ),
        ("action = 'drop'\nmatch = { ports = [] }", "no port is listed"),
        (
            "action = 'drop'\nmatch = { protocols = [] }",
            "no condition is listed",
        ),
        ("action = 'drop'\nmatch = { not = {} }", "no condition is listed"),
        ("action = 'drop'\nmatch = { any = [] }", "no condition is listed"),
        (
            "action = 'drop'\nmatch = { fingerprints = [] }",
            "no fingerprint is listed",
        ),
        (
            "action = 'drop'\nmatch = { first-packet = { min = '2 kB', max = '1 kB' } }",
            "no length is listed",
        ),
        (
            "action = { police = { rate = '0 bit/s', burst = '16 KB' } }",
            "a rate of zero lets nothing through",
        ),
        (
            "action = { police = { rate = '1 bit/s', burst = '1 kB' } }",
            "a burst of 1000 bytes passes no full packet",
        ),
        ("action = { delay = '0 s' }", "a delay of zero"),
        (
            "action = { reset = { client = false, server = false } }",
            "a reset of no end is a drop",
        ),
        (
            "action = { probe = { kinds = ['r3'] } }",
            "r3, r4 and r5 follow an answer to r1 or r2",
        ),
        (
            "action = { probe = { delay = [{ share = '50 %', within = '1 s' }] } }",
            "the last share of the delays must be 100 %",
        ),
        (
            "action = { probe = {} }\nresidual = { tuple = 'server', for = '1 h' }",
            "a probe has its own block",
        ),
        (
            "action = { probe = { block = { tuple = '3-tuple', for = '1 h' } } }",
            "a prober blocks servers: wanted the tuple 'server' or 'server-port'",
        ),
        (
            "action = 'drop'\nmatch = { first-packet-mod-16 = [] }",
            "no remainder is listed",
        ),
        (
            "action = 'drop'\nshare = '0 %'",
            "it acts on none of the flows that meet it",
        ),
        (
            "action = 'drop'\nresidual = { tuple = '3-tuple', for = '0 s' }",
            "a residual block of zero does nothing",
        ),
        (
            "action = 'drop'\nmatch = { transport = 'tcp', not = { transport = 'tcp' } }",
            "no flow meets 'not' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { transport = 'udp', flagged = 'paper' }",
            "no flow meets 'flagged' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { not = { transport = 'udp' }, protocols = ['quic'] }",
            "no flow meets 'not' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { protocols = ['ssh'], fingerprints = ['t13d1516h2_8daaf6152771_b186095e22b6'] }",
            "no flow meets 'fingerprints' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { from = ['10.0.0.0/8'], to = ['2001:db8::1'] }",
            "no flow meets 'to' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { source-port-above = true, ports = [65535] }",
            "no flow meets 'source-port-above' as well as the other conditions",
        ),
        (
            "action = 'drop'\nmatch = { fingerprints = ['nonsense'] }",
            "\"nonsense\" is no JA4",
        ),
        (
            "action = 'drop'\nmatch = { first-packet = { min = '0 B', max = '0 B' } }",
            "no first packet is as long as",
        ),
        (
            "action = 'drop'\nmatch = { first-packet = { min = '100 kB', max = '200 kB' } }",
            "no first packet is as long as",
        ),
        (
            "action = 'drop'\nmatch = { first-packet = { min = '16 B', max = '20 B' }, first-packet-mod-16 = [5, 15] }",
            "no first packet is as long as",
        ),
        (
            "action = { reset = {} }\nmatch = { protocols = ['quic'] }",
            "datagrams know no reset",
        ),
        (
            "action = { forge-dns = ['192.0.2.1'] }\nmatch = { protocols = ['tls'] }",
            "forge-dns answers DNS questions",
        ),
        (
            "action = { forge-dns = ['192.0.2.1'] }\nway = 'from-server'\nmatch = { protocols = ['dns'] }",
            "forge-dns answers what clients ask",
        ),
        (
            "action = 'drop'\nby-mistake = '1 %'",
            "every flow meets it, so that it hits none by mistake",
        ),
    ] {
        let got = error(&rule(keys));
        let wanted = format!("x.toml:3:1: rule 'r': {wanted}");
        assert!(got.contains(&wanted), "{keys}:\n{got}\nwanted: {wanted}");
    }
    let empty_source = format!("{HEAD}[[rule]]\nname = 'r'\nsource = ' '\naction = 'drop'\n");
    assert!(error(&empty_source).contains("x.toml:5:10: rule 'r': its source is empty"));
}

#[test]
fn a_rule_behind_one_that_stops_everything_and_a_second_of_a_name_are_refused() {
    let second = |first: &str| {
        rule(first) + "[[rule]]\nname = 's'\nsource = 'a test'\naction = 'drop'\nmatch = { ports = [22] }\n"
    };
    let told = "rule 's': it can never act: rule 'r' before it stops every packet";
    for (stops, line) in [
        ("action = 'drop'", 7),
        ("action = { reset = { server = false } }", 7),
        ("action = 'drop'\nmatch = { ports = [22] }", 8),
    ] {
        let got = error(&second(stops));
        assert!(got.contains(&format!("x.toml:{line}:1: {told}")), "{got}");
    }
    for leaves in [
        "action = 'drop'\nmatch = { transport = 'udp' }",
        "action = 'drop'\nmatch = { transport = 'udp', ports = [22] }",
        "action = 'drop'\nmatch = { ports = [22] }\nshare = '50 %'",
        "action = 'drop'\nshare = '99.9 %'",
        "action = 'drop'\nway = 'from-client'",
        "action = 'drop'\nphases = [{ from = '0 s', until = '5 s' }]",
        "action = { delay = '1 s' }",
    ] {
        assert_eq!(
            parse(&second(leaves)).map(|censor| censor.rules().len()),
            Ok(2),
            "{leaves}"
        );
    }
    let twice = second("action = { delay = '1 s' }").replace("name = 's'", "name = 'r'");
    assert!(
        error(&twice).contains("x.toml:8:8: rule 'r': an earlier rule has this name"),
        "{}",
        error(&twice)
    );
    let many: String = (0..=RULES_MAX)
        .map(|n| format!("[[rule]]\nname = '{n}'\nsource = 'a test'\naction = {{ delay = '1 s' }}\n"))
        .collect();
    assert!(error(&format!("{HEAD}{many}")).contains("at most 64 rules are kept, and this is one more"));
}

#[test]
fn quantities_are_exact() {
    let percent = |text: &str| text.parse::<Percent>().map(Percent::of_2_32);
    assert_eq!(percent("100 %"), Ok(ALWAYS));
    assert_eq!(percent("50%"), Ok(ALWAYS / 2));
    assert_eq!(percent("0 %"), Ok(0));
    assert!(percent("0.00000001 %").is_err());
    assert_eq!("16 KB".parse(), Ok(Size(16_000)));
    assert_eq!("1.5 KiB".parse(), Ok(Size(1_536)));
    assert_eq!("0.5 min".parse(), Ok(Time(30_000_000_000)));
    for wrong in [
        "",
        "s",
        "1..2 s",
        "1. s",
        ".5 s",
        "-1 s",
        "99999999999 d",
        "1 S",
        "0.1 ns",
    ] {
        assert!(wrong.parse::<Time>().is_err(), "{wrong}");
    }
    assert!("9 bit".parse::<Entropy>().is_err());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,300}") {
        let _ = parse(&text).map_err(|error| error.to_string());
        let _ = (text.parse::<Time>(), text.parse::<Percent>(), text.parse::<Address>());
        let _ = (text.parse::<Pattern>(), text.parse::<Ports>(), text.parse::<Entropy>());
    }

    /// A good file with one piece replaced: what a slip of the hand makes of it.
    #[test]
    fn a_damaged_file_never_panics(at in 0..ALL.len(), len in 0_usize..20, put in "[a-z0-9%=\\[\\]{}\"' \n.]{0,10}") {
        let end = (at + len).min(ALL.len());
        let mut text = ALL.to_owned();
        text.replace_range(at..end, &put);
        let _ = parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn quantities_that_are_printed_parse_back(value in any::<u64>(), scale in 0_u32..12) {
        let value = value / 10_u64.pow(scale) * 10_u64.pow(scale);
        prop_assert_eq!(Time(value).to_string().parse(), Ok(Time(value)));
        prop_assert_eq!(Size(value).to_string().parse(), Ok(Size(value)));
        prop_assert_eq!(Rate(value).to_string().parse(), Ok(Rate(value)));
        let percent: Percent = format!("{}.{:07} %", value % 100, value % 10_000_000).parse().expect("a share");
        prop_assert_eq!(percent.to_string().parse(), Ok(percent));
        let entropy = Entropy((value % 8_001) as u32);
        prop_assert_eq!(entropy.to_string().parse(), Ok(entropy));
    }
}

/// What docs/CENSOR.md calls published is what is meant when nothing is said.
#[test]
fn the_documented_probe_is_the_published_one() {
    let docs = include_str!("../../../../docs/CENSOR.md");
    let (_, example) = docs
        .split_once("```toml\n[rule.action.probe]")
        .expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let text = rule("") + "[rule.action.probe]" + example;
    let censor = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(censor.rules()[0].probe(), Some(&Config::default()));
}

/// The example in docs/CENSOR.md is good.
#[test]
fn the_documented_example_is_read() {
    let docs = include_str!("../../../../docs/CENSOR.md");
    let (_, example) = docs.split_once("```toml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let censor = parse(example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((censor.name(), censor.rules().len()), ("mine", 1));
}
