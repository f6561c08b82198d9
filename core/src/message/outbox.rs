//! What a machine has to say, some of it only once the state that it depends on is durable. Spec: SPEC §5.8.
//!
//! States are counted by generations. A machine that changed says so ([`Outbox::changed`]); its driver is asked once for
//! each to store it ([`Outbox::next_to_persist`]) and answers when it has ([`Outbox::persisted`]). What was gated on that
//! generation or an earlier one then comes out.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox<O> {
    /// Of the state as it is.
    generation: u64,
    /// The last that the driver was asked to store.
    asked: u64,
    /// The last known to be stored.
    durable: u64,
    /// A client holds many machines that rest for hours with nothing to say.
    queues: Option<Box<Queues<O>>>,
}

#[derive(Debug)]
struct Queues<O> {
    ready: VecDeque<O>,
    /// Each with its generation.
    gated: VecDeque<(u64, O)>,
}

impl<O> Default for Queues<O> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            gated: VecDeque::new(),
        }
    }
}

impl<O> Outbox<O> {
    pub(super) const fn new() -> Self {
        Self {
            generation: 0,
            asked: 0,
            durable: 0,
            queues: None,
        }
    }

    /// The state is another; its generation.
    pub(super) const fn changed(&mut self) -> u64 {
        self.generation = self.asked + 1;
        self.generation
    }

    /// The state of this generation, or a later one, is durable.
    pub(super) fn persisted(&mut self, generation: u64) {
        self.durable = self.durable.max(generation);
    }

    pub(super) const fn is_durable(&self, generation: u64) -> bool {
        generation <= self.durable
    }

    /// The generation to ask the driver to store, once for each.
    pub(super) fn next_to_persist(&mut self) -> Option<u64> {
        (self.generation > self.asked).then(|| {
            self.asked = self.generation;
            self.asked
        })
    }

    /// Says this now.
    pub(super) fn say(&mut self, output: O) {
        self.queues.get_or_insert_default().ready.push_back(output);
    }

    /// Says this once the generation is durable.
    pub(super) fn gate(&mut self, generation: u64, output: O) {
        let queues = self.queues.get_or_insert_default();
        queues.gated.push_back((generation, output));
    }

    /// Says what was gated on what is durable by now.
    pub(super) fn release(&mut self) {
        let Some(queues) = &mut self.queues else { return };
        let durable = |(generation, _): &mut (u64, O)| *generation <= self.durable;
        while let Some((_, output)) = queues.gated.pop_front_if(durable) {
            queues.ready.push_back(output);
        }
    }

    /// Takes back what is gated and not to be said any more.
    pub(super) fn retract(&mut self, over: impl Fn(&O) -> bool) {
        if let Some(queues) = &mut self.queues {
            queues.gated.retain(|(_, output)| !over(output));
        }
    }

    /// The next thing that is said.
    pub(super) fn next(&mut self) -> Option<O> {
        let said = self.queues.as_mut()?.ready.pop_front();
        self.queues
            .take_if(|queues| queues.ready.is_empty() && queues.gated.is_empty());
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_a_state_is_said_when_that_or_a_later_one_is_durable() {
        let mut outbox = Outbox::new();
        let one = outbox.changed();
        outbox.gate(one, "one");
        assert_eq!(
            (outbox.next_to_persist(), outbox.next_to_persist()),
            (Some(one), None),
            "asked once"
        );
        let two = outbox.changed();
        outbox.gate(two, "two");
        outbox.gate(two, "taken back");
        outbox.release();
        assert_eq!(outbox.next(), None);
        outbox.persisted(one);
        outbox.release();
        assert_eq!((outbox.next(), outbox.next()), (Some("one"), None));
        outbox.retract(|output| *output == "taken back");
        assert_eq!(outbox.next_to_persist(), Some(two));
        outbox.persisted(two + 1);
        outbox.say("before");
        outbox.release();
        assert_eq!(
            [outbox.next(), outbox.next(), outbox.next()],
            [Some("before"), Some("two"), None]
        );
        assert!(outbox.queues.is_none(), "a machine at rest holds no queues");
        assert!(outbox.is_durable(two) && !outbox.is_durable(two + 2));
    }
}
