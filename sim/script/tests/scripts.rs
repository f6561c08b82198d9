//! What a script sees, says and keeps.

mod rig;

use phantom_censor::craft::{self, Hello};
use phantom_censor::engine::Verdict::{self, Delay, Drop, Pass};
use phantom_script::view::{FLOW_FIELDS, PACKET_FIELDS, PACKET_FUNCTIONS};
use rig::{down, engine, faults, file, play, refused, syn, up};

const RESET: fn(bool, bool) -> Verdict = |client, server| Verdict::Reset { client, server };

#[test]
fn each_word_for_a_verdict_does_what_it_says_to_this_packet_alone() {
    for (word, wanted) in [
        ("pass()", Pass),
        ("drop()", Drop),
        ("reset()", RESET(true, true)),
        ("reset_client()", RESET(true, false)),
        ("reset_server()", RESET(false, true)),
        ("delay_ms(40)", Delay(40_000_000)),
    ] {
        let mut engine = engine(&format!("if packet.len == 2 {{ {word} }}"));
        let verdicts = play(&mut engine, &[syn(), up(1, b"12"), up(3, b"345")]);
        assert_eq!(verdicts, [Pass, wanted, Pass], "{word}");
        assert_eq!(faults(&engine), (0, String::new()), "{word}");
    }
}

#[test]
fn a_sentence_brings_the_action_of_the_rule_on_all_that_follows() {
    for script in ["if packet.len == 2 { sentence() }", "packet.len == 2"] {
        let mut engine = engine(script);
        let verdicts = play(
            &mut engine,
            &[syn(), up(1, b"12"), down(1, b"345"), up(3, b"678")],
        );
        assert_eq!(verdicts, [Pass, Drop, Drop, Drop], "{script}");
        assert_eq!(engine.counts()[0].sentenced, 1);
    }
}

#[test]
fn conditions_share_way_and_residual_hold_for_scripts_too() {
    // Of other ports it is not asked: it would fail.
    let mut elsewhere = file("throw \"asked\"", "match = { ports = [80] }")
        .expect("good")
        .engine(7);
    play(&mut elsewhere, &[syn(), up(1, b"12")]);
    assert_eq!(faults(&elsewhere).0, 0);
    let mut here = file("throw \"asked\"", "match = { ports = [443] }")
        .expect("good")
        .engine(7);
    play(&mut here, &[syn(), up(1, b"12")]);
    assert_eq!(faults(&here), (2, "s.rhai:1:1: asked".to_owned()));

    let mut one_way = file("true", "way = \"from-server\"").expect("good").engine(7);
    assert_eq!(
        play(&mut one_way, &[syn(), down(0, b"x"), up(1, b"x")]),
        [Pass, Drop, Pass]
    );

    // On half of the flows, and on those for good: a script that acts packet by packet is bound by the share as well.
    for script in ["sentence()", "drop()"] {
        let mut hit = 0;
        for seed in 0..400 {
            let mut engine = file(script, "share = \"50 %\"").expect("good").engine(seed);
            let verdicts = play(&mut engine, &[syn(), up(1, b"x"), up(2, b"y")]);
            assert!(
                verdicts.iter().all(|verdict| *verdict == verdicts[0]),
                "{script}: {verdicts:?}"
            );
            hit += u32::from(verdicts[0] == Drop);
        }
        assert!((140..=260).contains(&hit), "{script}: {hit} of 400");
    }

    let residual = "residual = { tuple = \"3-tuple\", for = \"60 s\" }";
    let mut after = file("packet.len == 2", residual).expect("good").engine(7);
    assert_eq!(play(&mut after, &[up(1, b"12")]), [Drop]);
    let mut other = up(1, b"345");
    other[20..22].copy_from_slice(&41_000_u16.to_be_bytes());
    assert_eq!(rig::decide(&mut after, 1_000_000_000, &other).verdict, Drop);
    assert_eq!(rig::decide(&mut after, 61_000_000_000, &other).verdict, Pass);
}

#[test]
fn state_is_kept_of_each_flow_for_itself_and_ends_with_it() {
    let mut engine = engine("state.n = (state.n ?? 0) + 1; if state.n == 3 { drop() }");
    let mut other = up(1, b"x");
    other[20..22].copy_from_slice(&41_000_u16.to_be_bytes());
    let packets = [up(1, b"a"), up(2, b"b"), other, up(3, b"c"), up(4, b"d")];
    assert_eq!(play(&mut engine, &packets), [Pass, Pass, Pass, Drop, Pass]);
    // A SYN with another number is another connection on the same ports, of which nothing is known yet.
    let packets = [up(1, b"a"), up(2, b"b"), syn(), up(1, b"c"), up(2, b"d")];
    let mut engine = rig::engine("state.n = (state.n ?? 0) + 1; if state.n == 3 { drop() }");
    assert_eq!(play(&mut engine, &packets), [Pass, Pass, Pass, Pass, Drop]);
}

#[test]
fn fields_tell_what_is_in_the_packet_and_known_of_its_flow() {
    let hello = craft::tls_records(&Hello::to("blocked.example").message(), 16_384);
    let script = r#"
        if packet.len == 0 { return; }
        let told = [
            packet.up, packet.out, packet.tcp, packet.udp, packet.source, packet.destination, packet.source_port,
            packet.destination_port, packet.syn, packet.ack, packet.seq, packet.age_us, packet.byte(0), packet.byte(9999),
            packet.u16(1), packet.starts_with("\x16"), packet.text(0, 1), packet.bytes(0, 2).len,
            flow.client, flow.server, flow.client_port, flow.server_port, flow.out, flow.syn, flow.packets_up, flow.packets_down,
            flow.protocol, flow.name, flow.whole, flow.split, flow.flagged, flow.flows,
        ];
        print(told);
        print([packet.wire_len - packet.len, packet.halves.len, flow.first_len == packet.len, flow.ja4.len > 30,
            flow.first_entropy == packet.entropy, flow.first_ones == packet.ones, packet.printable < 1000,
            packet.ttl, packet.fin, packet.rst, packet.psh, packet.ack_seq, packet.window, flow.bytes_up == packet.len,
            flow.bytes_down, flow.alpn]);
    "#;
    let mut engine = engine(script);
    play(&mut engine, &[syn(), up(1, &hello)]);
    assert_eq!(faults(&engine), (0, String::new()));
    let said = engine.program(0).expect("a script").said();
    assert_eq!(
        said[0],
        "[true, true, true, false, \"10.0.0.1\", \"198.51.100.7\", 40000, 443, false, true, 1, 1000, 22, -1, 769, true, \
         \"\\\\x16\", 2, \"10.0.0.1\", \"198.51.100.7\", 40000, 443, true, true, 2, 0, \"tls\", \"blocked.example\", true, false, \
         false, "
            .chars()
            .take(200)
            .chain("...".chars())
            .collect::<String>()
    );
    assert!(
        said[1].starts_with("[52, 16, true, true, true, true, true, "),
        "{}",
        said[1]
    );
}

#[test]
fn every_field_can_be_read_of_every_packet() {
    let fields = |of: &str, names: &[&str]| -> String {
        names
            .iter()
            .map(|name| format!("let x = {of}.{name};\n"))
            .collect()
    };
    let script = [fields("packet", PACKET_FIELDS), fields("flow", FLOW_FIELDS)].concat();
    let mut engine = engine(&script);
    play(
        &mut engine,
        &[syn(), down(0, b""), up(1, b"x"), down(1, &[0xff; 1400])],
    );
    let datagram = craft::udp(rig::address(rig::CLIENT), rig::address(rig::SERVER), b"");
    play(&mut engine, &[datagram]);
    assert_eq!(faults(&engine), (0, String::new()));
}

#[test]
fn a_slip_of_the_pen_is_told_with_its_place_and_the_choices() {
    for (script, words) in [
        ("if packet.len > {", &["s.rhai:1:18: Expecting '}'"][..]),
        (
            "let x = 1;\nif packet.lenght > 1 { drop() }",
            &[
                "s.rhai:2:11: unknown field of packet 'lenght'",
                "choices: up, out,",
            ],
        ),
        (
            "flow.nam == \"x\"",
            &["unknown field of flow 'nam'; did you mean 'name'?"],
        ),
        (
            "packet.bite(3)",
            &[
                "unknown function of packet 'bite'; did you mean 'byte'?",
                "starts_with",
            ],
        ),
        (
            "if false { dorp() }",
            &[
                "s.rhai:1:12: unknown function 'dorp'; did you mean 'drop'?",
                "verdicts: pass,",
            ],
        ),
        (
            "stat.x = 1",
            &[
                "there is no variable 'stat'; did you mean 'state'?",
                "choices: packet, flow, state",
            ],
        ),
        (
            "score([1])",
            &["unknown function 'score': the rule names no model"],
        ),
    ] {
        let told = refused(script);
        for word in words {
            assert!(told.contains(word), "{word} is not in\n{told}");
        }
    }
}

#[test]
fn what_fails_at_a_packet_is_counted_the_first_is_told_and_the_packet_passes() {
    for (script, told) in [
        ("drop(); packet.len / 0", "s.rhai:1:20: Division by zero: 2 / 0"),
        (
            "packet.len + \"\" - 1",
            "s.rhai:1:17: there is no - (text, i64): the name is right",
        ),
        (
            "delay_ms(0)",
            "s.rhai:1:1: delay_ms wants 1 to 60000 milliseconds, got 0",
        ),
        ("7", "s.rhai: the script ends with a number; wanted a verdict"),
        ("fn f(x) { x.y.z }\nf(1)", "s.rhai:1:"),
        (
            "fn f() { packet.len }\nf()",
            "s.rhai:1:10: there is no variable 'packet' here: a function sees only what it is given",
        ),
        ("state = 3", "s.rhai: state is a map and was made a number"),
        (
            "state.p = packet",
            "s.rhai: state.p is a packet, which is not kept",
        ),
        ("throw \"\x1b[2J\"", "s.rhai:1:1: \u{fffd}[2J"),
    ] {
        let mut engine = engine(script);
        assert_eq!(play(&mut engine, &[up(1, b"ab"), up(3, b"cd")]), [Pass, Pass]);
        let (packets, first) = faults(&engine);
        assert_eq!(packets, 2, "{script}");
        assert!(first.starts_with(told), "{script}: {first}");
    }
}

#[test]
fn files_that_name_scripts_wrongly_are_refused_at_the_name() {
    for (more, told) in [
        (
            "model = \"m.onnx\"",
            "mine.toml:9:9: rule 'asks': the model \"m.onnx\" cannot be read",
        ),
        ("model = \"../m.onnx\"", "a model stands beside the censor's file"),
        (
            "model = \"/etc/passwd\"",
            "a model stands beside the censor's file",
        ),
        (
            "by-mistake = \"1 %\"",
            "mine.toml:7:10: rule 'asks': by-mistake is the share of flows",
        ),
    ] {
        let error = file("pass()", more).expect_err("it is refused").to_string();
        assert!(error.contains(told), "{told} is not in\n{error}");
    }
    let long = format!("// {}", "x".repeat(70_000));
    assert!(refused(&long).contains("has more than the 65536 bytes that are read"));
    let text = "name = \"x\"\nsummary = \"x\"\n[[rule]]\nname = \"a\"\nsource = \"a\"\naction = \"drop\"\nmodel = \"m.onnx\"\n";
    let error = phantom_censor::file::CensorFile::parse("x.toml", text).expect_err("no script");
    assert!(
        error.to_string().contains("only a script asks a model"),
        "{error}"
    );
}

#[test]
fn a_rule_behind_one_with_a_script_can_act_and_two_files_differ_by_their_scripts() {
    let more = "[[rule]]\nname = \"second\"\nsource = \"a test\"\naction = \"drop\"\n";
    let mut both = file("pass()", more).expect("the first stops nothing").engine(7);
    assert_eq!(play(&mut both, &[syn()]), [Drop]);
    assert_eq!(
        file("pass()", "").expect("good"),
        file("pass()", "").expect("good")
    );
    assert_ne!(
        file("pass()", "").expect("good"),
        file("drop()", "").expect("good")
    );
}

#[test]
fn the_tutorial_tells_every_field_and_function() {
    let tutorial = include_str!("../../../docs/CENSOR-SCRIPTS.md");
    for name in PACKET_FIELDS {
        assert!(tutorial.contains(&format!("`packet.{name}`")), "packet.{name}");
    }
    for name in FLOW_FIELDS {
        assert!(tutorial.contains(&format!("`flow.{name}`")), "flow.{name}");
    }
    for name in PACKET_FUNCTIONS {
        assert!(tutorial.contains(&format!("`packet.{name}(")), "packet.{name}()");
    }
}
