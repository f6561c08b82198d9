//! What follows for other flows.

use super::*;

#[test]
fn a_residual_block_hits_the_three_tuple_for_its_time_and_no_other() {
    let mut engine = engine(vec![Rule {
        acts_on: ALWAYS,
        ..fully_encrypted()
    }]);
    let mut caught = Talk::new(client(1), server(1));
    caught.open(&mut engine, 0);
    assert_eq!(caught.say(&mut engine, 0, &random(3, 500)), Verdict::Drop);
    let mut dial = |n: u16, at: u64, to: SocketAddr| Talk::new(client(n), to).open(&mut engine, at * SECOND);
    assert_eq!(dial(2, 179, server(1)), Verdict::Drop);
    assert_eq!(dial(3, 179, server(2)), Verdict::Pass);
    assert_eq!(dial(4, 179, SocketAddr::new(server(1).ip(), 80)), Verdict::Pass);
    assert_eq!(dial(5, 181, server(1)), Verdict::Pass);
}

#[test]
fn a_block_that_packets_renew_ends_only_after_silence() {
    let mut engine = engine(vec![Rule {
        acts_on: ALWAYS,
        residual: Some(Residual {
            tuple: Tuple::Three,
            for_ns: 180 * SECOND,
            share: ALWAYS,
            renewed: true,
            way: Way::Both,
            resets: false,
        }),
        ..fully_encrypted()
    }]);
    let mut caught = Talk::new(client(1), server(1));
    caught.open(&mut engine, 0);
    caught.say(&mut engine, 0, &random(3, 500));
    let mut dial = |n: u16, at: u64| Talk::new(client(n), server(1)).open(&mut engine, at * SECOND);
    for n in 0..10 {
        assert_eq!(dial(10 + n, 100 * u64::from(n + 1)), Verdict::Drop);
    }
    assert_eq!(dial(30, 1_000 + 181), Verdict::Pass);
}

/// Of the flows that a block finds a share is hit, each from its first packet to its last.
#[test]
fn a_residual_block_falls_on_its_share_of_flows_and_on_all_of_each() {
    let blocking = |share| Rule {
        all: vec![Condition::Name(Names::from_iter(["a.example"]))],
        residual: Some(Residual {
            tuple: Tuple::Three,
            for_ns: 90 * SECOND,
            share,
            renewed: false,
            way: Way::Both,
            resets: false,
        }),
        ..Rule::new("r")
    };
    let hit = |share| {
        let mut engine = engine(vec![blocking(share)]);
        let mut caught = Talk::new(client(0), server(1));
        assert_eq!(caught.open(&mut engine, 0), Verdict::Pass);
        assert_eq!(caught.say(&mut engine, 0, &hello("a.example")), Verdict::Drop);
        let hit = (1..=4_000).filter(|n| {
            let mut talk = Talk::new(client(*n), server(1));
            let first = talk.send(&mut engine, SECOND, true, true, &[]);
            for _ in 0..3 {
                assert_eq!(talk.say(&mut engine, SECOND, b"x"), first);
                assert_eq!(talk.hear(&mut engine, SECOND, b"x"), first);
            }
            first == Verdict::Drop
        });
        hit.count()
    };
    let third = hit(ALWAYS / 3);
    assert!((1_236..=1_431).contains(&third), "{third} of 4,000");
    assert_eq!(hit(ALWAYS), 4_000);
    assert_eq!(blocking(0).check(), Err(RuleError::FollowsNothing));
}
