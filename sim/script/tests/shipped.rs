//! The censors that come with the crate do what they are for.

mod rig;

use phantom_censor::engine::Verdict::{self, Pass};
use phantom_script::shipped::{SHIPPED, Shipped};
use rig::{down, play, syn, up};

const RESET: Verdict = Verdict::Reset {
    client: true,
    server: true,
};

/// A TLS connection in which so many bytes go up and down after the client's ChangeCipherSpec, and then one more goes up.
fn tls(up_bytes: usize, down_bytes: usize) -> Vec<Vec<u8>> {
    let hello = phantom_censor::craft::tls_records(
        &phantom_censor::craft::Hello::to("www.example.org").message(),
        16_384,
    );
    let mut seq = 1 + hello.len() as u32;
    let mut packets = vec![syn(), up(1, &hello), down(1, &[0x16; 1300])];
    let mut ends = vec![0x14, 3, 3, 0, 1, 1];
    ends.resize(80, 0x17);
    packets.push(up(seq, &ends));
    seq += 80;
    packets.push(up(seq, &vec![0x17; up_bytes - 80]));
    seq += up_bytes as u32 - 80;
    for chunk in vec![0x17; down_bytes].chunks(1400) {
        packets.push(down(5000, chunk));
    }
    packets.push(up(seq, &[0x17; 64]));
    packets
}

fn verdicts(name: &str, packets: &[Vec<u8>]) -> Vec<Verdict> {
    let censor = Shipped::of(name).expect("it is shipped").censor();
    let mut engine = censor.unwrap_or_else(|error| panic!("{error}")).engine(1);
    let verdicts = play(&mut engine, packets);
    assert_eq!(rig::faults(&engine), (0, String::new()));
    verdicts
}

#[test]
fn tls_inside_tls_is_reset_by_its_lengths_and_only_within_their_bounds() {
    // Bytes up, bytes down, and whether Trojan-killer's bounds hold.
    for (up_bytes, down_bytes, hit) in [
        (650, 170, true),
        (1000, 180, true),
        (800, 3000, true),
        (800, 7500, true),
        (649, 175, false),
        (1001, 175, false),
        (800, 169, false),
        (800, 181, false),
        (800, 2999, false),
        (800, 7501, false),
    ] {
        let packets = tls(up_bytes, down_bytes);
        let verdicts = verdicts("trojan-lengths", &packets);
        let (last, before) = verdicts.split_last().expect("packets");
        assert!(
            before.iter().all(|verdict| *verdict == Pass),
            "{up_bytes} {down_bytes}: {verdicts:?}"
        );
        assert_eq!(
            *last,
            if hit { RESET } else { Pass },
            "{up_bytes} up, {down_bytes} down"
        );
    }
    // Without the outer TLS nothing is looked at.
    let packets = tls(800, 175);
    let plain = [&packets[..1], &packets[2..]].concat();
    assert!(
        verdicts("trojan-lengths", &plain)
            .iter()
            .all(|verdict| *verdict == Pass)
    );
}

#[test]
fn each_is_known_by_the_name_of_its_files() {
    for shipped in SHIPPED {
        assert_eq!(shipped.files[0].0, format!("{}.toml", shipped.name));
        assert!(shipped.text().contains(&format!("name = \"{}\"", shipped.name)));
        assert_eq!(
            Shipped::of(shipped.name).expect("known").files.len(),
            shipped.files.len()
        );
    }
    assert!(Shipped::of("none").is_none());
}

#[cfg(feature = "model")]
mod model {
    use phantom_censor::craft::{self, Hello};
    use phantom_censor::engine::Verdict::Drop;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    /// Whether the first packet of a connection is dropped.
    fn hit(first: &[u8]) -> bool {
        verdicts("random-first", &[syn(), up(1, first)])[1] == Drop
    }

    #[test]
    fn packets_that_python_never_saw_are_told_apart_even_where_the_published_rule_exempts() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut bare, mut behind) = (0, 0);
        for _ in 0..200 {
            let mut random = vec![0; 60 + (rng.next_u32() % 1300) as usize];
            rng.fill_bytes(&mut random);
            bare += u32::from(hit(&random));
            // Six printable bytes exempt it from the rule.
            random[..6].copy_from_slice(b"GET /a");
            assert!(
                !phantom_censor::classify::fet::verdict(
                    &random,
                    phantom_censor::classify::fet::Variant::Paper
                )
                .expect("a packet")
                .is_flagged()
            );
            behind += u32::from(hit(&random));
        }
        assert!(bare >= 190 && behind >= 190, "{bare} and {behind} of 200");
        for plain in [
            craft::tls_records(&Hello::to("www.example.org").message(), 16_384),
            craft::http_request("GET", "/index.html", "www.example.org"),
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n".to_vec(),
        ] {
            assert!(!hit(&plain), "{}", plain.escape_ascii());
        }
    }

    #[test]
    fn a_censor_with_a_model_says_so_and_its_questions_are_bounded() {
        let censor = Shipped::of("random-first")
            .expect("shipped")
            .censor()
            .expect("good");
        assert!(censor.uses_model() && censor.engine(1).uses_model());
        let lengths = Shipped::of("trojan-lengths")
            .expect("shipped")
            .censor()
            .expect("good");
        assert!(!lengths.uses_model() && !lengths.engine(1).uses_model());
    }
}
