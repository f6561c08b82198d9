//! Claims about classifiers.

use std::str::FromStr as _;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::fet::{Exemption, Measured, Variant, Verdict};
use super::hello::{Carrier, ClientHello};
use super::quic::{Inside, Version};
use super::*;
use crate::craft::{self, Hello};

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|digit| char::from(digit).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn between(rng: &mut ChaCha8Rng, min: usize, max: usize) -> usize {
    min + rng.next_u32() as usize % (max - min + 1)
}

/// Bytes without a printable one, each with so many bits set.
fn unprintable(ones: u32, len: usize) -> Vec<u8> {
    let byte = (0x80..=0xff_u8)
        .find(|byte| byte.count_ones() == ones)
        .expect("there is one");
    vec![byte; len]
}

fn flagged(packet: &[u8]) -> bool {
    fet::verdict(packet, Variant::Paper).is_some_and(Verdict::is_flagged)
}

#[test]
fn fet_exempts_averages_of_3_4_and_4_6_exactly_and_flags_what_is_between() {
    for (ones, exempt) in [
        (169, true),
        (170, true),
        (171, false),
        (229, false),
        (230, true),
        (231, true),
    ] {
        // 50 bytes of 3 or 4, or of 4 or 5 bits.
        let low = if ones < 200 { 3 } else { 4 };
        let high = ones as usize - 50 * low;
        let mut packet = unprintable(low as u32, 50 - high);
        packet.extend(unprintable(low as u32 + 1, high));
        assert_eq!(Measured::of(&packet).expect("bytes").ones, ones as u64);
        let verdict = fet::verdict(&packet, Variant::Paper).expect("bytes");
        let wanted = if exempt {
            Verdict::Exempt(Exemption::Popcount)
        } else {
            Verdict::Flagged
        };
        assert_eq!(verdict, wanted, "{ones} bits in 50 bytes");
    }
}

#[test]
fn fet_exempts_six_printable_bytes_at_the_start_and_not_five() {
    for (start, printable) in [(5, false), (6, true)] {
        for edge in [0x20, 0x7e] {
            let mut packet = unprintable(4, 100);
            packet[..start].fill(edge);
            // Keep the average within the flagged range: 20 has one bit, 7e has six.
            let wanted = if printable {
                Verdict::Exempt(Exemption::PrintableStart)
            } else {
                Verdict::Flagged
            };
            assert_eq!(
                fet::verdict(&packet, Variant::Paper),
                Some(wanted),
                "{start} of {edge:#x}"
            );
        }
        for edge in [0x1f, 0x7f] {
            let mut packet = unprintable(4, 100);
            packet[..start].fill(edge);
            assert!(flagged(&packet), "{edge:#x} is not printable");
        }
    }
}

#[test]
fn fet_exempts_more_than_half_printable_bytes_and_not_half() {
    for (share, exempt) in [(50, false), (51, true)] {
        let mut packet = unprintable(4, 100);
        // Behind an unprintable byte and never two in a row until the odd one.
        for at in 0..50 {
            packet[2 * at + 1] = b'K';
        }
        if share == 51 {
            packet[50] = b'K';
        }
        let wanted = if exempt {
            Verdict::Exempt(Exemption::PrintableShare)
        } else {
            Verdict::Flagged
        };
        assert_eq!(fet::verdict(&packet, Variant::Paper), Some(wanted));
    }
}

#[test]
fn fet_exempts_a_run_of_more_than_20_printable_bytes_and_not_20() {
    for (run, exempt) in [(20, false), (21, true)] {
        for start in [10, 100 - run] {
            let mut packet = unprintable(4, 100);
            packet[start..start + run].fill(b'K');
            let wanted = if exempt {
                Verdict::Exempt(Exemption::PrintableRun)
            } else {
                Verdict::Flagged
            };
            assert_eq!(
                fet::verdict(&packet, Variant::Paper),
                Some(wanted),
                "{run} from {start}"
            );
        }
    }
}

#[test]
fn fet_variants_differ_in_ex5_and_nowhere_else() {
    let tls = Verdict::Exempt(Exemption::Tls);
    let http = Verdict::Exempt(Exemption::Http);
    let no = Verdict::Flagged;
    let cases: &[(&[u8], [Verdict; 3])] = &[
        (b"\x16\x03\x00", [tls; 3]),
        (b"\x17\x03\x09", [tls; 3]),
        (b"\x16\x03\x0a", [no, tls, no]),
        (b"\x17\x03\x0f", [no, tls, no]),
        (b"\x16\x03\x10", [no; 3]),
        (b"\x15\x03\x01", [no; 3]),
        (b"\x18\x03\x01", [no; 3]),
        (b"\x16\x02\x01", [no; 3]),
        (b"GET ", [http; 3]),
        (b"PUT ", [http; 3]),
        (b"POST ", [http; 3]),
        (b"HEAD ", [http; 3]),
        (b"GET\x90", [no, no, http]),
        (b"POST\x90", [no, no, http]),
        (b"HEA\x90", [no, no, http]),
        (b"DELE\x90", [no, no, http]),
        (b"CON\x90", [no, no, http]),
        (b"OPT\x90", [no, no, http]),
        (b"TRA\x90", [no, no, http]),
        (b"PAT\x90", [no, no, http]),
        (b"get ", [no; 3]),
    ];
    for (start, wanted) in cases {
        let mut packet = start.to_vec();
        packet.extend(unprintable(4, 100));
        let got = Variant::ALL.map(|variant| fet::verdict(&packet, variant).expect("bytes"));
        assert_eq!(got, *wanted, "{}", printable(start));
    }
}

#[test]
fn fet_does_not_exempt_a_packet_that_ends_within_a_prefix() {
    // Such short starts of TLS are exempt by Ex1 already, so the average is made up.
    let short = Measured {
        ones: 8,
        ..Measured::of(&[0x17, 0x03]).expect("bytes")
    };
    assert_eq!(short.verdict(Variant::DetectPy), Verdict::Flagged);
    assert_eq!(fet::verdict(b"", Variant::Paper), None);
}

/// Wu et al. flagged what looks random; 2,000 first packets of obfs4 were flagged at 99.8 % by the same rule.
#[test]
fn fet_flags_at_least_99_percent_of_random_first_packets() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let hits = (0..2000)
        .filter(|_| {
            let len = between(&mut rng, 150, 1460);
            flagged(&random(&mut rng, len))
        })
        .count();
    assert!(hits >= 1980, "{hits} of 2000");
}

#[test]
fn fet_flags_no_hello_no_request_and_no_banner() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for turn in 0..2000 {
        let mut hello = Hello::to(&format!("host{turn}.example.org"));
        rng.fill_bytes(&mut hello.random);
        let len = between(&mut rng, 32, 1200);
        hello.extensions.push((51, random(&mut rng, len)));
        let hello = craft::tls_records(&hello.message(), 16_384);
        let target = format!("/{}", "x".repeat(between(&mut rng, 0, 400)));
        let method = http::METHODS[between(&mut rng, 0, 3)];
        let request = craft::http_request(method, &target, "example.org");
        let banner = format!("SSH-2.0-OpenSSH_{}.{}\r\n", turn % 10, turn / 10);
        for variant in Variant::ALL {
            for packet in [&hello[..], &request, banner.as_bytes()] {
                let verdict = fet::verdict(packet, variant).expect("bytes");
                assert!(!verdict.is_flagged(), "{}: {}", variant.name(), printable(packet));
            }
        }
    }
}

/// RFC 9001, Appendix A.2: the protected packet.
const RFC_9001_A2: &str = "
    c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11
    d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd449f63300099f399
    1c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c
    8eb7539ec4d4905fed1bee1fc8aafba17c750e2c7ace01e6005f80fcb7df6212
    30c83711b39343fa028cea7f7fb5ff89eac2308249a02252155e2347b63d58c5
    457afd84d05dfffdb20392844ae812154682e9cf012f9021a6f0be17ddd0c208
    4dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec
    4e15daf8500a6ef69ec4e3feb6b1d98e610ac8b7ec3faf6ad760b7bad1db4ba3
    485e8a94dc250ae3fdb41ed15fb6a8e5eba0fc3dd60bc8e30c5c4287e53805db
    059ae0648db2f64264ed5e39be2e20d82df566da8dd5998ccabdae053060ae6c
    7b4378e846d29f37ed7b4ea9ec5d82e7961b7f25a9323851f681d582363aa5f8
    9937f5a67258bf63ad6f1a0b1d96dbd4faddfcefc5266ba6611722395c906556
    be52afe3f565636ad1b17d508b73d8743eeb524be22b3dcbc2c7468d54119c74
    68449a13d8e3b95811a198f3491de3e7fe942b330407abf82a4ed7c1b311663a
    c69890f4157015853d91e923037c227a33cdd5ec281ca3f79c44546b9d90ca00
    f064c99e3dd97911d39fe9c5d0b23a229a234cb36186c4819e8b9c5927726632
    291d6a418211cc2962e20fe47feb3edf330f2c603a9d48c0fcb5699dbfe58964
    25c5bac4aee82e57a85aaf4e2513e4f05796b07ba2ee47d80506f8d2c25e50fd
    14de71e6c418559302f939b0e1abd576f279c4b2e0feb85c1f28ff18f58891ff
    ef132eef2fa09346aee33c28eb130ff28f5b766953334113211996d20011a198
    e3fc433f9f2541010ae17c1bf202580f6047472fb36857fe843b19f5984009dd
    c324044e847a4f4a0ab34f719595de37252d6235365e9b84392b061085349d73
    203a4a13e96f5432ec0fd4a1ee65accdd5e3904df54c1da510b0ff20dcc0c77f
    cb2c0e0eb605cb0504db87632cf3d8b4dae6e705769d1de354270123cb11450e
    fc60ac47683d7b8d0f811365565fd98c4c8eb936bcab8d069fc33bd801b03ade
    a2e1fbc5aa463d08ca19896d2bf59a071b851e6c239052172f296bfb5e724047
    90a2181014f3b94a4e97d117b438130368cc39dbb2d198065ae3986547926cd2
    162f40a29f0c3c8745c0f50fba3852e566d44575c29d39a03f0cda721984b6f4
    40591f355e12d439ff150aab7613499dbd49adabc8676eef023b15b65bfc5ca0
    6948109f23f350db82123535eb8a7433bdabcb909271a6ecbcb58b936a88cd4e
    8f2e6ff5800175f113253d8fa9ca8885c2f552e657dc603f252e1a8e308f76f0
    be79e2fb8f5d5fbbe2e30ecadd220723c8c0aea8078cdfcb3868263ff8f09400
    54da48781893a7e49ad5aff4af300cd804a6b6279ab3ff3afb64491c85194aab
    760d58a606654f9f4400e8b38591356fbf6425aca26dc85244259ff2b19c41b9
    f96f3ca9ec1dde434da7d2d392b905ddf3d1f9af93d1af5950bd493f5aa731b4
    056df31bd267b6b90a079831aaf579be0a39013137aac6d404f518cfd4684064
    7e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c88d4a9a7f9474241
    e221af44860018ab0856972e194cd934";

#[test]
fn the_client_initial_of_rfc_9001_a2_asks_for_example_com() {
    let packet = bytes_of_hex(RFC_9001_A2);
    assert_eq!(packet.len(), 1200);
    let Look::Found(initial) = quic::initial(&packet) else {
        panic!("not an Initial");
    };
    assert_eq!(initial.version, Version::V1);
    assert_eq!(initial.destination_id, bytes_of_hex("8394c8f03e515708"));
    let Inside::Hello(hello) = initial.inside else {
        panic!("{:?}", initial.inside);
    };
    assert_eq!(hello.server_name.as_deref(), Some("example.com"));
    assert_eq!(hello.alpn, [b"alpn"]);
    assert_eq!(hello.ciphers, [0x1301, 0x1302]);
}

#[test]
fn an_initial_with_one_bit_changed_is_locked_or_none() {
    let packet = bytes_of_hex(RFC_9001_A2);
    for at in 0..packet.len() {
        let mut changed = packet.clone();
        changed[at] ^= 0x10;
        match quic::initial(&changed) {
            Look::No => {}
            Look::Found(initial) => assert_eq!(initial.inside, Inside::Locked, "byte {at}"),
            Look::Incomplete => panic!("byte {at}"),
        }
    }
}

/// RFC 9369, Appendix A.1: keys of version 2 for the connection ID of RFC 9001's examples.
#[test]
fn version_2_has_keys_of_its_own() {
    let id = bytes_of_hex("8394c8f03e515708");
    let keys = quic::Keys::client(Version::V2, &id).expect("fixed lengths");
    assert_eq!(keys.iv.to_vec(), bytes_of_hex("91f73e2351d8fa91660e909f"));
    let keys = quic::Keys::client(Version::V1, &id).expect("fixed lengths");
    assert_eq!(keys.iv.to_vec(), bytes_of_hex("fa044b2f42a3fd3b46fb255c"));
}

#[test]
fn crypto_frames_are_joined_in_any_order_and_with_overlaps_within_a_datagram() {
    let message = Hello::to("quic.example.org").message();
    let id = [7; 8];
    let (a, b, c) = (&message[..40], &message[30..90], &message[90..]);
    for version in [Version::V1, Version::V2] {
        for frames in [
            vec![(0, &message[..])],
            vec![(90, c), (0, a), (30, b)],
            vec![(30, b), (90, c), (0, a), (0, &message[..10])],
        ] {
            let datagram = craft::quic_initial(version, &id, &frames);
            let Look::Found(initial) = quic::initial(&datagram) else {
                panic!("not an Initial");
            };
            let Inside::Hello(hello) = initial.inside else {
                panic!("{:?}", initial.inside);
            };
            assert_eq!(hello.server_name.as_deref(), Some("quic.example.org"));
            assert_eq!(initial.version, version);
        }
        // The middle is in another datagram.
        let datagram = craft::quic_initial(version, &id, &[(90, c), (0, a)]);
        let inside = quic::initial(&datagram).found().map(|initial| initial.inside);
        assert_eq!(inside, Some(Inside::Part));
    }
}

#[test]
fn two_initials_in_one_datagram_make_one_hello() {
    let message = Hello::to("quic.example.org").message();
    let id = [9; 20];
    let mut datagram = craft::quic_initial(Version::V1, &id, &[(0, &message[..50])]);
    datagram.extend(craft::quic_initial(Version::V1, &id, &[(50, &message[50..])]));
    let inside = quic::initial(&datagram).found().map(|initial| initial.inside);
    assert!(matches!(inside, Some(Inside::Hello(_))), "{inside:?}");
    // A third that does not decrypt takes nothing away.
    let mut third = craft::quic_initial(Version::V1, &id, &[(0, b"x")]);
    third[500] ^= 1;
    datagram.extend(third);
    assert_eq!(
        quic::initial(&datagram).found().map(|initial| initial.inside),
        inside
    );
}

/// As a browser with post-quantum keys sends it: the hello is longer than a datagram.
#[test]
fn a_hello_over_two_datagrams_has_its_name_when_they_are_joined_and_not_before() {
    let message = Hello {
        padding: 1500,
        ..Hello::to("large.example.org")
    }
    .message();
    let id = [9; 8];
    let first = craft::quic_initial(
        Version::V1,
        &id,
        &[(900, &message[900..1000]), (0, &message[..900])],
    );
    let second = craft::quic_initial(Version::V1, &id, &[(1000, &message[1000..])]);
    let stream = [&first[..], &second].concat();
    let mut bytes = FirstBytes::packet(Transport::Udp, &stream);
    bytes.first_packet_len = first.len();
    let labels = Labels::of(&bytes);
    assert_eq!(
        (labels.name.as_deref(), labels.split),
        (Some("large.example.org"), true)
    );
    assert_eq!(labels.says(Classifier::Quic), "large.example.org");
    assert_eq!(labels.says(Classifier::QuicDatagram), "yes, incomplete");
    let alone = Labels::of(&FirstBytes::packet(Transport::Udp, &first));
    assert_eq!(
        (alone.protocol, alone.whole, alone.split),
        (Some(Protocol::Quic), false, false)
    );
}

/// The name is there when all segments are joined, wherever the split is; before that nobody says there is none.
#[test]
fn a_hello_split_at_any_byte_has_its_name_when_joined_and_not_before() {
    let message = Hello::to("split.example.org").message();
    for fragment_max in [16_384, 64, 5] {
        let stream = craft::tls_records(&message, fragment_max);
        let whole = tls::client_hello(&stream);
        let Look::Found(hello) = &whole else {
            panic!("{whole:?}");
        };
        assert_eq!(hello.server_name.as_deref(), Some("split.example.org"));
        for at in 0..stream.len() {
            assert_eq!(
                tls::client_hello(&stream[..at]),
                Look::Incomplete,
                "{at} bytes, joined"
            );
            assert_eq!(
                tls::client_hello_in_segment(&stream[..at]),
                Look::Incomplete,
                "{at} bytes in one segment"
            );
        }
        // Records are joined by the one and not by the other.
        let in_segment = tls::client_hello_in_segment(&stream);
        if fragment_max == 16_384 {
            assert_eq!(in_segment, whole);
        } else {
            assert_eq!(in_segment, Look::Incomplete);
        }
        // What follows a hello does not change it.
        let mut more = stream.clone();
        more.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
        assert_eq!(tls::client_hello(&more), whole);
    }
}

#[test]
fn what_is_no_client_hello_is_none_at_once() {
    assert_eq!(tls::client_hello(b"\x17\x03\x03\x00\x10"), Look::No);
    assert_eq!(tls::client_hello(b"\x16\x03\x01\x00\x05\x02"), Look::No);
    assert_eq!(tls::client_hello(b"\x16\x03\x01\x00\x00"), Look::No);
    assert_eq!(
        tls::client_hello(b"\x16\x03\x01\x00\x05\x01\xff"),
        Look::Incomplete
    );
    assert_eq!(
        tls::client_hello(b"\x16\x03\x01\x00\x05\x01\xff\xff\xff"),
        Look::No
    );
    assert_eq!(http::request(b"GOT / HTTP/1.1\r\n"), Look::No);
    assert_eq!(http::request(b"GET /\r\n\r\n"), Look::No);
    assert_eq!(ssh::banner(b"SSX"), Look::No);
}

/// The example of JA4's own document: cipher suites, extensions and signature algorithms are those of its `JA4_r`.
#[test]
fn ja4_is_that_of_its_documents_example() {
    let hello = ClientHello {
        legacy_version: 0x0303,
        ciphers: vec![
            0x8a8a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
            0x009c, 0x009d, 0x002f, 0x0035,
        ],
        extensions: vec![
            0x2a2a, 0x0000, 0x0033, 0x000d, 0x0023, 0x000b, 0xff01, 0x000a, 0x001b, 0x4469, 0x0012, 0x002d,
            0x0010, 0x0005, 0x002b, 0x0017, 0x0015,
        ],
        versions: vec![0x0a0a, 0x0304, 0x0303],
        signature_algorithms: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        ..ClientHello::default()
    };
    assert_eq!(hello.ja4(Carrier::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert!(hello.ja4(Carrier::Quic).starts_with("q13d"));
    // Versions of DTLS count downwards: 1.3 is the lowest.
    let dtls = ClientHello {
        versions: vec![0xfefd, 0xfefc],
        ..hello
    };
    assert!(dtls.ja4(Carrier::Dtls).starts_with("dd3d"));
}

#[test]
fn a_dtls_hello_has_both_fingerprints_and_its_name() {
    let datagram = Hello::to("stun.example.org").dtls();
    let labels = Labels::of(&FirstBytes::packet(Transport::Udp, &datagram));
    assert_eq!(labels.protocol, Some(Protocol::Dtls));
    assert_eq!(labels.name.as_deref(), Some("stun.example.org"));
    assert_eq!(
        labels.ja3_string.as_deref(),
        Some("65277,4865-4866-4867-49195-49199,0-10-11-13-43,29-23,0")
    );
    assert!(labels.ja4.expect("a fingerprint").starts_with("d"));
    for cut in 0..datagram.len() {
        assert_eq!(
            dtls::client_hello(&datagram[..cut]),
            Look::Incomplete,
            "{cut} bytes"
        );
    }
}

#[test]
fn a_dtls_hello_in_two_fragments_of_one_datagram_is_joined() {
    let whole = Hello::to("a.example").dtls();
    let body = &whole[25..];
    let fragment = |offset: usize, part: &[u8]| {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&(12 + part.len() as u16).to_be_bytes());
        record.extend_from_slice(&[1, 0]);
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(&[0, 0, 0]);
        record.extend_from_slice(&(offset as u16).to_be_bytes());
        record.push(0);
        record.extend_from_slice(&(part.len() as u16).to_be_bytes());
        record.extend_from_slice(part);
        record
    };
    let (first, second) = (fragment(0, &body[..33]), fragment(33, &body[33..]));
    let joined = [first.clone(), second.clone()].concat();
    assert_eq!(dtls::client_hello(&joined), dtls::client_hello(&whole));
    assert_eq!(dtls::client_hello(&first), Look::Incomplete);
    assert_eq!(dtls::client_hello(&second), Look::Incomplete);
    assert_eq!(
        dtls::client_hello(&[first.clone(), first, second].concat()),
        Look::Incomplete
    );
}

#[test]
fn a_request_is_read_as_soon_as_its_host_is_there() {
    let request = craft::http_request("GET", "/a?b", "www.example.org");
    let wanted = http::Request {
        method: "GET",
        target: "/a?b".to_owned(),
        host: Some("www.example.org".to_owned()),
    };
    assert_eq!(http::request(&request), Look::Found(wanted));
    let host_ends = request
        .windows(5)
        .position(|at| at == b".org\r")
        .expect("it is there")
        + 6;
    for cut in 0..host_ends {
        assert_eq!(http::request(&request[..cut]), Look::Incomplete, "{cut} bytes");
    }
    let odd = b"POST * HTTP/1.0\nX: y\nhOsT:\t b\x1b[31m.example \n\n";
    let host = http::request(odd).found().and_then(|request| request.host);
    assert_eq!(host.as_deref(), Some("b\\x1b[31m.example"));
    let none = http::request(b"GET / HTTP/1.0\r\n\r\n").found();
    assert_eq!(none.expect("a request").host, None);
}

#[test]
fn a_banner_is_read_whole_and_within_its_bound() {
    let banner = ssh::banner(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\nrest")
        .found()
        .expect("a banner");
    assert_eq!(
        (banner.protocol.as_str(), banner.software.as_str()),
        ("2.0", "OpenSSH_9.2p1")
    );
    assert_eq!(ssh::banner(b"SSH-2.0-Open"), Look::Incomplete);
    let mut long = b"SSH-2.0-".to_vec();
    long.resize(300, b'x');
    assert_eq!(ssh::banner(&long), Look::No);
}

#[test]
fn a_query_has_its_name_over_both_transports() {
    let query = craft::dns_query(7, "www.example.org", 28);
    let question = dns::Question {
        name: "www.example.org".to_owned(),
        kind: 28,
    };
    assert_eq!(dns::query(&query), Look::Found(question.clone()));
    let mut stream = (query.len() as u16).to_be_bytes().to_vec();
    stream.extend_from_slice(&query);
    assert_eq!(dns::query_over_tcp(&stream), Look::Found(question));
    for cut in 0..stream.len() {
        assert_eq!(
            dns::query_over_tcp(&stream[..cut]),
            Look::Incomplete,
            "{cut} bytes"
        );
    }
    let root = dns::query(&craft::dns_query(7, "", 2)).found().expect("a query");
    assert_eq!(root.name, ".");
}

#[test]
fn answers_and_compressed_names_are_no_queries() {
    let mut answer = craft::dns_query(7, "example.org", 1);
    answer[2] |= 0x80;
    assert_eq!(dns::query(&answer), Look::No);
    // A pointer to itself, to the header and onwards.
    for target in [12, 0, 14] {
        let mut pointer = craft::dns_query(7, "example.org", 1);
        pointer[12] = 0xc0;
        pointer[13] = target;
        assert_eq!(dns::query(&pointer), Look::No, "to {target}");
    }
    let long = craft::dns_query(7, &vec!["a".repeat(63); 4].join("."), 1);
    assert_eq!(dns::query(&long), Look::No, "257 bytes of name");
    let label = craft::dns_query(7, &"a".repeat(64), 1);
    assert_eq!(dns::query(&label), Look::No, "64 bytes of label");
}

#[test]
fn labels_tell_a_split_hello_from_one_that_a_single_segment_shows() {
    let stream = craft::tls_records(&Hello::to("a.example.org").message(), 16_384);
    let mut first = FirstBytes::packet(Transport::Tcp, &stream);
    let whole = Labels::of(&first);
    assert_eq!(
        (whole.name.as_deref(), whole.split),
        (Some("a.example.org"), false)
    );
    first.first_packet_len = 20;
    let split = Labels::of(&first);
    assert_eq!(
        (split.name.as_deref(), split.split),
        (Some("a.example.org"), true)
    );
    assert_eq!(split.says(Classifier::Tls), "a.example.org");
    assert_eq!(split.says(Classifier::TlsSegment), "yes, incomplete");
    assert_eq!(whole.says(Classifier::TlsSegment), "a.example.org");
    assert_eq!(whole.says(Classifier::Http), "-");
}

#[test]
fn printed_bytes_can_be_told_apart() {
    assert_eq!(printable(b"a.b\x1b\xff"), "a.b\\x1b\\xff");
    assert_ne!(printable(b"\\x1b"), printable(b"\x1b"));
}

#[test]
fn every_name_of_a_classifier_is_read_back_and_an_unknown_one_lists_them_all() {
    for classifier in Classifier::ALL {
        assert_eq!(Classifier::from_str(classifier.name()), Ok(classifier));
    }
    let error = Classifier::from_str("fet:wu").expect_err("no such").to_string();
    for classifier in Classifier::ALL {
        assert!(error.contains(classifier.name()), "{error}");
    }
}

/// Runs every classifier on bytes; what they say does not matter here.
fn run_all(bytes: &[u8]) {
    for transport in [Transport::Tcp, Transport::Udp] {
        for first_packet_len in [0, bytes.len() / 2, bytes.len(), bytes.len() + 7] {
            let mut first = FirstBytes::packet(transport, bytes);
            first.first_packet_len = first_packet_len;
            let labels = Labels::of(&first);
            assert!(labels.entropy_millibits <= 8000 && labels.popcount_millibits <= 8000);
            for classifier in Classifier::ALL {
                let _ = labels.says(classifier);
            }
        }
    }
    for look in [
        tls::client_hello(bytes),
        tls::client_hello_in_segment(bytes),
        dtls::client_hello(bytes),
    ] {
        if let Look::Found(hello) = look {
            let _ = (hello.ja4(Carrier::Tcp), hello.ja3_string());
        }
    }
    let _ = (quic::initial(bytes), http::request(bytes), ssh::banner(bytes));
    let _ = (dns::query(bytes), dns::query_over_tcp(bytes));
    let _ = (ClientHello::parse(bytes, false), ClientHello::parse(bytes, true));
}

fn valid_inputs() -> Vec<Vec<u8>> {
    let hello = Hello {
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        padding: 50,
        ..Hello::to("example.org")
    };
    let message = hello.message();
    let query = craft::dns_query(7, "www.example.org", 1);
    let mut query_over_tcp = (query.len() as u16).to_be_bytes().to_vec();
    query_over_tcp.extend_from_slice(&query);
    vec![
        craft::tls_records(&message, 16_384),
        craft::tls_records(&message, 33),
        craft::quic_initial(Version::V1, &[1; 8], &[(0, &message[..70]), (70, &message[70..])]),
        craft::quic_initial(Version::V2, &[2; 20], &[(0, &message)]),
        hello.dtls(),
        craft::http_request("GET", "/", "example.org"),
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(),
        query,
        query_over_tcp,
        message,
    ]
}

proptest! {
    #[test]
    fn no_classifier_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        run_all(&bytes);
    }

    #[test]
    fn no_classifier_panics_on_valid_input_that_was_changed_and_cut(
        which in 0..10_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        repeat in any::<bool>(),
    ) {
        let mut bytes = valid_inputs().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if repeat {
            let again = bytes.clone();
            bytes.extend(again);
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        run_all(&bytes);
    }

    /// A payload of QUIC is out of reach for changes from outside, so it is changed before it is sealed.
    #[test]
    fn no_frame_inside_of_an_initial_makes_it_panic(
        frames in prop::collection::vec((0..0x4000_0000_u64, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let frames: Vec<(u64, &[u8])> = frames.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        let datagram = craft::quic_initial(Version::V1, &[3; 8], &frames);
        prop_assert!(matches!(quic::initial(&datagram), Look::Found(_)));
    }

    #[test]
    fn fet_agrees_with_its_definition_in_words(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let average = bytes.iter().map(|byte| byte.count_ones()).sum::<u32>() as f64 / bytes.len() as f64;
        let text: String = bytes.iter().map(|byte| if (0x20..=0x7e).contains(byte) { 'p' } else { '.' }).collect();
        let exempt = average <= 3.4
            || average >= 4.6
            || text.starts_with("pppppp")
            || text.matches('p').count() * 2 > bytes.len()
            || text.contains(&"p".repeat(21))
            || [&b"GET "[..], b"PUT ", b"POST ", b"HEAD "].iter().any(|start| bytes.starts_with(start))
            || (bytes.len() > 2 && matches!(bytes[0], 0x16 | 0x17) && bytes[1] == 3 && bytes[2] <= 9);
        prop_assert_eq!(flagged(&bytes), !exempt);
    }
}
