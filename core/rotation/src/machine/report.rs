//! What the machine says of itself to people.

use rand_core::Rng;

use super::Rotation;
use crate::path::Direction;
use crate::report::{InUse, Report, Tried};

impl<G: Rng> Rotation<G> {
    /// For people: what is in use and why, what was tried, what each showed.
    pub fn report(&self) -> Report {
        let wall = self.wall_now();
        let in_use = self.state.session().and_then(|session| {
            let path = self.path(session.path)?;
            let rate = |direction| {
                let flow = path.flow(direction);
                (flow.typical() > 0).then(|| flow.typical())
            };
            Some(InUse {
                candidate: path.candidate.clone(),
                since: session.since,
                why: session.why,
                typical_up: rate(Direction::Up),
                typical_down: rate(Direction::Down),
            })
        });
        let tried = self
            .candidates
            .iter()
            .map(|known| {
                let address = known.candidate.address;
                let free = self.windows.free_at(self.now, self.client, address, 0);
                Tried {
                    candidate: known.candidate.clone(),
                    last: known.last,
                    score: self.memory.score(wall, &known.candidate),
                    not_before: free.filter(|free| *free > self.now),
                }
            })
            .collect();
        Report {
            now: self.now,
            state: self.state(),
            in_use,
            tried,
            kinds: self.memory.kinds(wall),
            lines: self.diary.lines(),
        }
    }
}
