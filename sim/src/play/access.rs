//! A scenario's access link as the networks have it.

use phantom_path::mishap::{Loss, Mishaps};

use crate::scenario::file::{self, Bursts, Switch};
use crate::swarm::Access;

/// 2^32: chances are parts of it.
const ONE: f64 = 4_294_967_296.0;

/// The link that `access` describes.
pub(super) fn access(access: &file::Access) -> Access {
    let mut mishaps = Mishaps {
        duplicated: parts(access.duplicated.get()),
        ..Mishaps::default()
    };
    if let Some(bursts) = &access.bursts {
        mishaps.loss = gilbert(bursts);
    }
    if let Some(reordered) = &access.reordered {
        mishaps.reordered = parts(reordered.share.get());
        mishaps.late_ns = u64::try_from(reordered.late.0.as_nanos()).unwrap_or(u64::MAX / 4);
    }
    Access {
        queue_bytes: access.queue.value.0.0,
        codel: access.codel == Switch::On,
        mishaps,
        ..Access::new(access.up.0.bits_per_second(), access.down.0.bits_per_second())
    }
}

/// It becomes good after `length` packets in the mean, and bad so often that it is bad for the wanted share of them.
fn gilbert(bursts: &Bursts) -> Loss {
    let end = 1.0 / f64::from(bursts.length.value.max(1));
    let lost = bursts.lost.value.get();
    Loss::Bursts {
        begin: parts(end * lost / (1.0 - lost)),
        end: parts(end),
    }
}

fn parts(share: f64) -> u64 {
    (share * ONE) as u64
}

#[cfg(test)]
mod tests {
    use phantom_path::dice::Dice;

    use super::*;
    use crate::scenario::units::Share;

    #[test]
    fn bursts_take_the_share_that_was_asked_for_and_last_as_long() {
        for (lost, length) in [(0.02, 4), (0.3, 20), (0.5, 1)] {
            let share = Share::new(lost).expect("a share");
            let loss = gilbert(&Bursts {
                lost: share.into(),
                length: length.into(),
            });
            let (mut bad, mut dice) = (false, Dice::new(7));
            let (mut taken, mut bursts) = (0_u32, 0_u32);
            for _ in 0..1_000_000 {
                let before = bad;
                taken += u32::from(loss.takes(&mut bad, &mut dice));
                bursts += u32::from(bad && !before);
            }
            let (seen, mean) = (f64::from(taken) / 1e6, f64::from(taken) / f64::from(bursts));
            assert!((seen / lost - 1.0).abs() < 0.05, "{seen} for {lost}");
            assert!(
                (mean / f64::from(length) - 1.0).abs() < 0.05,
                "{mean} for {length}"
            );
        }
    }
}
