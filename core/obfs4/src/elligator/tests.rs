//! The map against published vectors, and representatives against noise.

use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

/// (u, x of Q), big-endian. Source: RFC 9380 appendices J.4.1 and J.4.2.
const RFC_9380: [(&str, &str); 15] = [
    (
        "608d892b641f0328523802a6603427c26e55e6f27e71a91a478148d45b5093cd",
        "51125222da5e763d97f3c10fcc92ea6860b9ccbbd2eb1285728f566721c1e65b",
    ),
    (
        "46f5b22494bfeaa7f232cc8d054be68561af50230234d7d1d63d1d9abeca8da5",
        "7d56d1e08cb0ccb92baf069c18c49bb5a0dcd927eff8dcf75ca921ef7f3e6eeb",
    ),
    (
        "235fe40c443766ce7e18111c33862d66c3b33267efa50d50f9e8e5d252a40aaa",
        "3fbe66b9c9883d79e8407150e7c2a1c8680bee496c62fabe4619a72b3cabe90f",
    ),
    (
        "001e92a544463bda9bd04ddbe3d6eed248f82de32f522669efc5ddce95f46f5b",
        "227e0bb89de700385d19ec40e857db6e6a3e634b1c32962f370d26f84ff19683",
    ),
    (
        "1a68a1af9f663592291af987203393f707305c7bac9c8d63d6a729bdc553dc19",
        "3bcd651ee54d5f7b6013898aab251ee8ecc0688166fce6e9548d38472f6bd196",
    ),
    (
        "005fe8a7b8fef0a16c105e6cadf5a6740b3365e18692a9c05bfbb4d97f645a6a",
        "36b4df0c864c64707cbf6cf36e9ee2c09a6cb93b28313c169be29561bb904f98",
    ),
    (
        "1347edbec6a2b5d8c02e058819819bee177077c9d10a4ce165aab0fd0252261a",
        "3fa114783a505c0b2b2fbeef0102853c0b494e7757f2a089d0daae7ed9a0db2b",
    ),
    (
        "49bed021c7a3748f09fa8cdfcac044089f7829d3531066ac9e74e0994e05bc7d",
        "16b3d86e056b7970fa00165f6f48d90b619ad618791661b7b5e1ec78be10eac1",
    ),
    (
        "5c36525b663e63389d886105cee7ed712325d5a97e60e140aba7e2ce5ae851b6",
        "7ec29ddbf34539c40adfa98fcb39ec36368f47f30e8f888cc7e86f4d46e0c264",
    ),
    (
        "6412b7485ba26d3d1b6c290a8e1435b2959f03721874939b21782df17323d160",
        "71de3dadfe268872326c35ac512164850860567aea0e7325e6b91a98f86533ad",
    ),
    (
        "24c7b46c1c6d9a21d32f5707be1380ab82db1054fde82865d5c9e3d968f287b2",
        "5704069021f61e41779e2ba6b932268316d6d2a6f064f997a22fef16d1eaeaca",
    ),
    (
        "5e123990f11bbb5586613ffabdb58d47f64bb5f2fa115f8ea8df0188e0c9e1b5",
        "7a94d45a198fb5daa381f45f2619ab279744efdd8bd8ed587fc5b65d6cea1df0",
    ),
    (
        "5e8553eb00438a0bb1e7faa59dec6d8087f9c8011e5fb8ed9df31cb6c0d4ac19",
        "30506fb7a32136694abd61b6113770270debe593027a968a01f271e146e60c18",
    ),
    (
        "20f481e85da7a3bf60ac0fb11ed1d0558fc6f941b3ac5469aa8b56ec883d6d7d",
        "02d606e2699b918ee36f2818f2bc5013e437e673c9f9b9cdc15fd0c5ee913970",
    ),
    (
        "017d57fd257e9a78913999a23b52ca988157a81b09c5442501d07fed20869465",
        "38920e9b988d1ab7449c0fa9a6058192c0c797bb3d42ac345724341a1aa98745",
    ),
];

/// (representative, public key), as on the wire. Source: Monocypher's vectors, as Yawning's elligator2 tests have them.
const MONOCYPHER: [(&str, &str); 14] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "0000000000000000000000000000000000000000000000000000000000000040",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "00000000000000000000000000000000000000000000000000000000000000c0",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "673a505e107189ee54ca93310ac42e4545e9e59050aaac6f8b5f64295c8ec02f",
        "242ae39ef158ed60f20b89396d7d7eef5374aba15dc312a6aea6d1e57cacf85e",
    ),
    (
        "922688fa428d42bc1fa8806998fbc5959ae801817e85a42a45e8ec25a0d7545a",
        "696f341266c64bcfa7afa834f8c34b2730be11c932e08474d1a22f26ed82410b",
    ),
    (
        "0d3b0eb88b74ed13d5f6a130e03c4ad607817057dc227152827c0506a538bbba",
        "0b00df174d9fb0b6ee584d2cf05613130bad18875268c38b377e86dfefef177f",
    ),
    (
        "01a3ea5658f4e00622eeacf724e0bd82068992fae66ed2b04a8599be16662ef5",
        "7ae4c58bc647b5646c9f5ae4c2554ccbf7c6e428e7b242a574a5a9c293c21f7e",
    ),
    (
        "69599ab5a829c3e9515128d368da7354a8b69fcee4e34d0a668b783b6cae550f",
        "09024abaaef243e3b69366397e8dfc1fdc14a0ecc7cf497cbe4f328839acce69",
    ),
    (
        "9172922f96d2fa41ea0daf961857056f1656ab8406db80eaeae76af58f8c9f50",
        "beab745a2a4b4e7f1a7335c3ffcdbd85139f3a72b667a01ee3e3ae0e530b3372",
    ),
    (
        "6850a20ac5b6d2fa7af7042ad5be234d3311b9fb303753dd2b610bd566983281",
        "1287388eb2beeff706edb9cf4fcfdd35757f22541b61528570b86e8915be1530",
    ),
    (
        "84417826c0e80af7cb25a73af1ba87594ff7048a26248b5757e52f2824e068f1",
        "51acd2e8910e7d28b4993db7e97e2b995005f26736f60dcdde94bdf8cb542251",
    ),
    (
        "b0fbe152849f49034d2fa00ccc7b960fad7b30b6c4f9f2713eb01c147146ad31",
        "98508bb3590886af3be523b61c3d0ce6490bb8b27029878caec57e4c750f993d",
    ),
    (
        "a0ca9ff75afae65598630b3b93560834c7f4dd29a557aa29c7becd49aeef3753",
        "3c5fad0516bb8ec53da1c16e910c23f792b971c7e2a0ee57d57c32e3655a646b",
    ),
];

fn unhex(text: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
}

fn reversed(text: &str) -> [u8; 32] {
    let mut bytes = unhex(text);
    bytes.reverse();
    bytes
}

#[test]
fn the_map_agrees_with_rfc_9380() {
    for (u, x) in RFC_9380 {
        assert_eq!(
            map(Fe::from_bytes(&reversed(u))).to_bytes(),
            reversed(x),
            "u = {u}"
        );
    }
}

#[test]
fn the_map_ignores_the_two_highest_bits_and_agrees_with_monocypher() {
    for (representative, public) in MONOCYPHER {
        assert_eq!(
            public_of(&unhex(representative)),
            unhex(public),
            "{representative}"
        );
    }
}

/// The points of small order in the order in which obfs4proxy's `selectLowOrderPoint` gives them, compressed.
#[test]
fn the_small_point_is_the_one_that_obfs4proxy_takes() {
    const X: &str = "4ad145c54646a1de38e2e513703c195cbb4ade38329933e9284a3906a0b9d51f";
    const Y: &str = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let (x, y) = (Fe::from_bytes(&unhex(X)), Fe::from_bytes(&unhex(Y)));
    let i = Fe::from_bytes(&unhex(
        "b0a00e4a271beec478e42fad0618432fa7d7fb3d99004d2b0bdfc14f8024832b",
    ));
    let (zero, one) = (Fe::ZERO, Fe::ONE);
    let points = [
        (zero, one),
        (x, y),
        (i, zero),
        (x, y.neg()),
        (zero, one.neg()),
        (x.neg(), y.neg()),
        (i.neg(), zero),
        (x.neg(), y),
    ];
    for (k, (x, y)) in (0_u8..).zip(points) {
        let mut compressed = y.to_bytes();
        compressed[31] |= x.is_odd().unwrap_u8() << 7;
        let small = EIGHT_TORSION[usize::from(k.wrapping_mul(3) & 7)];
        assert_eq!(small.compress().to_bytes(), compressed, "{k}");
        let mut secret = [7; 32];
        secret[0] = 0xa8 | k;
        let dirty = EdwardsPoint::mul_base_clamped(secret) + small;
        assert_eq!(dirty_public(&secret), dirty.to_montgomery().to_bytes(), "{k}");
    }
}

#[test]
fn half_of_all_keys_have_a_representative() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let found = (0..2000)
        .filter(|_| {
            let mut secret = [0; 32];
            rng.fill_bytes(&mut secret);
            HiddenKey::from_parts(secret, 0).is_some()
        })
        .count();
    // Five standard deviations of a fair coin.
    assert!((888..=1112).contains(&found), "{found} of 2000");
}

/// Chi-squared of counts that should be equal.
fn chi_squared(counts: &[u32]) -> f64 {
    let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|n| (f64::from(*n) - mean).powi(2) / mean).sum()
}

/// Fifield's three distinguishers at once: of 4,096 keys the points fall equally into the eight cosets of the prime-order
/// subgroup, either representative of a point is sent, and every bit on the wire is a fair coin.
#[test]
fn keys_cannot_be_told_from_noise_by_coset_sign_or_bits() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let (mut cosets, mut signs, mut tops) = ([0_u32; 8], [0_u32; 2], [0_u32; 4]);
    let mut bits = [0_u32; 256];
    let keys = 4096;
    for _ in 0..keys {
        let key = HiddenKey::from_rng(&mut rng);
        let sent = key.representative();
        // A receiver knows the point's other coordinate from which of the two candidates the map took; here the sign of the
        // Edwards x stands for it, which the coset is found with anyway.
        let mut clear = *sent;
        clear[31] &= 0x3f;
        let r = Fe::from_bytes(&clear);
        let w = Fe::A.neg().mul(r.square().add(r.square()).add(Fe::ONE).invert());
        let sign = w.to_bytes() == *key.public();
        signs[usize::from(sign)] += 1;
        let point = MontgomeryPoint(*key.public())
            .to_edwards(u8::from(sign))
            .expect("on the curve, not the twist");
        // What is left of a point after L times it is 8-torsion, and tells its coset.
        let small = times_order(point);
        let coset = EIGHT_TORSION
            .iter()
            .position(|p| *p == small)
            .expect("of small order");
        cosets[coset] += 1;
        tops[usize::from(sent[31] >> 6)] += 1;
        for (i, count) in bits.iter_mut().enumerate() {
            *count += u32::from(sent[i / 8] >> (i % 8) & 1);
        }
    }
    // One in a million or less: 7, 1 and 3 degrees of freedom.
    assert!(chi_squared(&cosets) < 42.0, "{cosets:?}");
    assert!(chi_squared(&signs) < 24.0, "{signs:?}");
    assert!(chi_squared(&tops) < 31.0, "{tops:?}");
    for (i, ones) in bits.iter().enumerate() {
        // Six standard deviations: 192.
        assert!(ones.abs_diff(keys / 2) < 192, "bit {i}: {ones} of {keys}");
    }
}

/// L times the point, bit by bit: [`Scalar`] has no L.
fn times_order(point: EdwardsPoint) -> EdwardsPoint {
    // L - 1 is the canonical form of -1.
    let order_less_one = (-Scalar::ONE).to_bytes();
    let mut sum = EdwardsPoint::identity();
    for byte in order_less_one.iter().rev() {
        for bit in (0..8).rev() {
            sum = sum + sum;
            if byte >> bit & 1 == 1 {
                sum += point;
            }
        }
    }
    sum + point
}

proptest! {
    #[test]
    fn what_is_sent_is_the_public_key(seed: u64) {
        let key = HiddenKey::from_rng(&mut ChaCha20Rng::seed_from_u64(seed));
        prop_assert_eq!(public_of(key.representative()), *key.public());
    }

    #[test]
    fn every_number_below_2_to_the_254_is_a_representative_of_its_point(mut bytes: [u8; 32], tweak: u8) {
        bytes[31] &= 0x3f;
        let u = map(Fe::from_bytes(&bytes));
        let (found, _) = representative(u, tweak);
        prop_assert!(bool::from(found) || u.to_bytes() == [0; 32]);
        let both = [representative(u, 0).1, representative(u, 1).1];
        prop_assert!(both.contains(&bytes), "one of the two is where we came from");
        for sent in both {
            prop_assert_eq!(public_of(&sent), u.to_bytes());
        }
    }

    #[test]
    fn x25519_with_the_clean_key_agrees(mine: [u8; 32], theirs: [u8; 32]) {
        let clean = MontgomeryPoint::mul_base_clamped(theirs).mul_clamped(mine);
        let dirty = MontgomeryPoint(dirty_public(&theirs)).mul_clamped(mine);
        prop_assert_eq!(clean.to_bytes(), dirty.to_bytes());
    }
}
