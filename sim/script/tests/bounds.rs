//! A script is a stranger's program: it ends, stays small, and reaches nothing outside.

mod rig;

use std::process::Command;

use phantom_censor::engine::Verdict::Pass;
use proptest::prelude::*;
use rig::{engine, faults, play, refused, up};

/// A script that must fail at its packet with these words.
fn fails(script: &str, words: &str) {
    let mut engine = engine(script);
    assert_eq!(play(&mut engine, &[up(1, b"x")]), [Pass]);
    let (packets, first) = faults(&engine);
    assert!(packets == 1 && first.contains(words), "{script}: {first}");
}

#[test]
fn it_cannot_loop_for_ever() {
    for script in [
        "loop { }",
        "while true { let x = 1; }",
        "for i in 0..9223372036854775807 { state.i = i; }",
        "for i in range(0, 9223372036854775807, 1) { state.i = i; }",
        "let x = [1, 2, 3]; loop { x.sort(); }",
        "fn f(x) { loop { } } f(1)",
        "let a = []; a.pad(500, 1); loop { a.filter(|x| x > 0); }",
    ] {
        fails(script, "more than 10000 steps at one packet");
    }
}

#[test]
fn it_cannot_recurse_beyond_its_calls() {
    fails("fn f(x) { f(x + 1) } f(0)", "calls within calls, too deep");
    fails(
        "fn f(x) { g(x) } fn g(x) { f(x) } f(0)",
        "calls within calls, too deep",
    );
    let deep = format!("let x = {}1{};", "(".repeat(500), ")".repeat(500));
    assert!(refused(&deep).contains("s.rhai:1:"));
    let deep = format!("let x = {}1{};", "[".repeat(500), "]".repeat(500));
    assert!(refused(&deep).contains("s.rhai:1:"));
    let deep = format!("{}{}", "if true { ".repeat(500), "}".repeat(500));
    assert!(refused(&deep).contains("s.rhai:1:"));
}

#[test]
fn it_cannot_eat_memory() {
    for (script, words) in [
        ("let x = \"a\"; loop { x += x; }", "Length of string"),
        ("let x = [1]; loop { x += x; }", "Size of array"),
        ("let x = [1]; loop { x.push(x); }", "Size of array"),
        ("let x = [1]; loop { x = [x, x]; }", "Size of"),
        ("let x = [1, 2]; loop { x[0] = x; x[1] = x; }", "Size of"),
        ("let x = #{}; loop { x = #{a: x, b: x}; }", "Size of"),
        ("let x = #{}; loop { x.a = x; x.b = x; }", "Size of"),
        ("let x = #{}; loop { x[\"a\"] = x; x[\"b\"] = x; }", "Size of"),
        (
            "let x = \"a\"; x.pad(4000, \"a\"); loop { x = `${x}${x}`; }",
            "Length of string",
        ),
        // An entry more is a step more; what is kept is measured.
        (
            "let x = #{}; let i = 0; loop { x[`${i}`] = i; i += 1; }",
            "more than 10000 steps",
        ),
        (
            "for i in 0..1000 { state[`${i}`] = i; }",
            "the state of a flow has more than 4096 bytes",
        ),
        ("let x = []; x.pad(1000000000000, 0)", "Size of array"),
        ("let x = blob(1000000000000, 0)", "Size of"),
        ("let x = \"a\"; x.pad(1000000000000, \"b\")", "Length of string"),
        (
            "let x = \"a,\"; for i in 0..11 { x += x; } x.split(\",\")",
            "Size of array",
        ),
    ] {
        fails(script, words);
    }
    let many: String = (0..100).map(|i| format!("let v{i} = {i};\n")).collect();
    fails(&many, "variables");
    let functions: String = (0..100).map(|i| format!("fn f{i}() {{ {i} }}\n")).collect();
    assert!(refused(&functions).contains("functions"));
}

#[test]
fn what_it_keeps_of_a_flow_is_bounded_and_begins_anew_beyond() {
    let script = "state.n = (state.n ?? 0) + 1; let x = \"\"; x.pad(1000, \"x\"); let all = state.all ?? []; all.push(x); \
                  state.all = all; print(state.n)";
    let mut engine = engine(script);
    let packets: Vec<_> = (1..=8).map(|seq| up(seq, b"x")).collect();
    play(&mut engine, &packets);
    let (packets, first) = faults(&engine);
    assert!(
        packets > 0 && first.contains("the state of a flow has more than 4096 bytes"),
        "{packets} {first}"
    );
    assert_eq!(
        engine.program(0).expect("a script").said()[..5],
        ["1", "2", "3", "4", "1"]
    );
    fails(
        "let x = 1; for i in 0..20 { x = [x]; } state.x = x;",
        "values within values",
    );
}

#[test]
fn it_has_no_clock_no_entropy_no_files_and_no_programs_in_texts() {
    for word in [
        "timestamp()",
        "sleep(1)",
        "rand()",
        "random()",
        "open(\"/etc/passwd\")",
        "env(\"HOME\")",
        "exit()",
        "parse_json(\"1\")",
    ] {
        let told = refused(word);
        assert!(told.contains("s.rhai:1:1: unknown function"), "{told}");
    }
    for script in ["eval(\"1\")", "import \"x\" as y;", "debug(1)"] {
        let told = refused(script);
        assert!(
            told.contains("s.rhai:1:1: ") && told.contains("word of Rhai that scripts do not have"),
            "{told}"
        );
    }
    let told = refused("let x = 1.5;");
    assert!(told.contains("s.rhai:1:"), "{told}");
    // Not by the name of a function in a text either.
    for script in [
        "Fn(\"sleep\").call(1)",
        "Fn(\"eval\").call(\"1\")",
        "Fn(\"timestamp\").call()",
    ] {
        match rig::file(script, "") {
            Err(_) => {}
            Ok(file) => {
                let mut engine = file.engine(7);
                play(&mut engine, &[up(1, b"x")]);
                assert_eq!(faults(&engine).0, 1, "{script}");
            }
        }
    }
}

#[test]
fn the_crate_has_no_way_to_entropy_when_it_runs() {
    // Without models, which have random operators that are refused.
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "phantom-script",
            "--no-default-features",
            "-e",
            "normal,no-proc-macro",
            "--prefix",
            "none",
        ])
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(tree.contains("rhai v1."), "{tree}");
    for name in ["getrandom", "rand ", "rand_core", "fastrand"] {
        assert!(
            !tree.lines().any(|line| line.starts_with(name)),
            "{name} in\n{tree}"
        );
    }
}

#[test]
fn a_hostile_script_costs_a_packet_no_more_than_a_moment() {
    for script in [
        "let a = []; a.pad(500, 7); loop { a.sort(); a.index_of(8); a.dedup(); a.pad(500, 7); }",
        "let x = \"a\"; x.pad(4000, \"ab\"); loop { x.replace(\"ab\", \"ba\"); x.contains(\"c\"); x.to_upper(); }",
        "let x = \"a\"; x.pad(4000, \"ab\"); loop { x.index_of(\"bb\"); }",
        "let x = \"a,\"; x.pad(1000, \"a,\"); loop { x.split(\",\"); }",
        "loop { packet.entropy; packet.halves; packet.text(0, 2000); }",
    ] {
        let mut engine = engine(script);
        let start = now();
        play(&mut engine, &[up(1, &[0x41; 1460])]);
        let took = start.elapsed();
        assert_eq!(faults(&engine).0, 1, "{script}");
        println!("{took:?}: {script}");
        assert!(took.as_secs() < 5, "{took:?}: {script}");
    }
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Reads all there is to read.
const CURIOUS: &str = include_str!("curious.rhai");

proptest! {
    #[test]
    fn arbitrary_packets_never_panic_nor_fail_a_good_script(
        packets in prop::collection::vec((any::<bool>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 1..20)
    ) {
        let packets: Vec<_> = packets
            .iter()
            .map(|(is_up, seq, data)| if *is_up { up(*seq, data) } else { rig::down(*seq, data) })
            .collect();
        let (mut one, mut two) = (engine(CURIOUS), engine(CURIOUS));
        prop_assert_eq!(play(&mut one, &packets), play(&mut two, &packets));
        prop_assert_eq!(faults(&one), (0, String::new()));
        prop_assert_eq!(one.program(0).expect("a script").said(), two.program(0).expect("a script").said());
    }

    #[test]
    fn arbitrary_scripts_never_panic(script in ".{0,200}", words in prop::collection::vec(prop::sample::select(vec![
        "packet", "flow", "state", ".", "len", "if", "{", "}", "(", ")", "[", "]", "let", "x", "=", "==", "1", "\"a\"", "loop", "fn", "f",
        "+", "-", "??", ";", "return", "drop()", "while", "for", "in", "0..9", "|x|", "#{", ":", ",", "switch", "=>", "_", "break", "this",
        "try", "catch", "throw", "global", "::", "-9223372036854775808", "*", "%", "<<", "`${", "}`", "call", "Fn", "is", "private", "const",
    ]), 0..40)) {
        for script in [script, words.join(" ")] {
            if let Ok(file) = rig::file(&script, "") {
                play(&mut file.engine(1), &[up(1, b"hello"), rig::down(1, b"x")]);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_model_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut scripts = phantom_script::load::Scripts::new(|name, _| Ok(if name == "m" { bytes.clone() } else { b"pass()".to_vec() }));
        let loaded = phantom_censor::file::Programs::load(&mut scripts, "s", Some("m"));
        prop_assert!(loaded.is_err());
    }
}
